"""Randomness from names: every generator is derived from the id of what it serves.

An episode must not depend on the worker that ran it, nor on what ran before, so no generator is ever shared or drawn
from a process-wide state.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(identifier: str, stream: str) -> int:
    """Return a 32-bit seed that is a pure function of an id and a stream name.

    Args:
        identifier: An episode or scenario id, e.g. `"metaworld11/door-open/s003"`.
        stream: What the seed is for, e.g. `"agent"`; different streams are independent.
    """
    digest = hashlib.sha256(f"{stream}\0{identifier}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def derive_rng(identifier: str, stream: str) -> np.random.Generator:
    """Return a fresh generator that is a pure function of an id and a stream name (see `derive_seed`)."""
    return np.random.default_rng(derive_seed(identifier, stream))
