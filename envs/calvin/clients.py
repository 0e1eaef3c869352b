"""Several PyBullet worlds in one process, although upstream's robot forgets to say which one it means.

PyBullet numbers its worlds ("clients") and reuses the numbers. Upstream's robot leaves the number out in four calls, which
then go to world 0: a second environment puts its robot's base into the first one. Its environment also disconnects its
number when it is collected, which by then may belong to another.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

#: The world that calls without a number mean, per thread.
_meant: ContextVar[int] = ContextVar("calvin_client", default=0)


@contextmanager
def meaning(client: int) -> Iterator[None]:
    """Let calls of upstream's robot that name no world mean this one."""
    token = _meant.set(client)
    try:
        yield
    finally:
        _meant.reset(token)


def now_means(client: int) -> None:
    """Change the world within a `meaning` block, for one whose number is known only in the middle of building it."""
    _meant.set(client)


class ClientModule:
    """Stands in for the module `pybullet` where upstream leaves out the client's number: it fills it in."""

    def __init__(self, pybullet: ModuleType) -> None:
        self._pybullet = pybullet

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._pybullet, name)
        if not inspect.isbuiltin(attribute):
            return attribute

        @functools.wraps(attribute)
        def call(*args: Any, **kwargs: Any) -> Any:
            return attribute(*args, **{"physicsClientId": _meant.get(), **kwargs})

        setattr(self, name, call)
        return call


def disconnect(core: Any) -> None:
    """Free the world of an upstream environment, once; its number may belong to another environment afterwards."""
    if core.cid < 0:
        return
    core.p.disconnect(physicsClientId=core.cid)
    # `BulletClient.__del__` and `PlayTableSimEnv.close` would disconnect the number again.
    core.p._client = -1
    core.cid = -1
    core.ownsPhysicsClient = False
