"""Where the official `calvin_env` lies, and whether it is the one that every number here stands for.

Its scenes cannot be installed by pip (its `setup.py` leaves them out) and its licence is contradictory (MIT in LICENSE, GPL
in `__init__.py`), so nothing of it is part of FlowBench: it is used from a checkout, which is never written to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from flowbench.cache import cache_folder
from flowbench.errors import MissingExtra

#: The head of github.com/mees/calvin_env since 2022-12-23.
COMMIT = "797142c588c21e76717268b7b430958dbd13bf48"
#: `content_digest` of that commit.
CONTENT_SHA256 = "40917fc5e35934f8a5656a3af14b04588ea91fe94e36524556410a8f1645fd44"
#: Points at a checkout, instead of the one in FlowBench's cache.
ROOT_VARIABLE = "CALVIN_ENV_ROOT"
#: The folders that are read, and so the ones that are fetched and hashed.
FOLDERS = ("calvin_env", "conf", "data")
LICENCE_FILE = "LICENSE"
COMMAND = "flowbench setup calvin"


def cached_checkout() -> Path:
    """Return where `flowbench setup calvin` puts the checkout."""
    return cache_folder() / f"calvin_env-{COMMIT[:8]}"


def find_checkout() -> Path | None:
    """Return the checkout: `$CALVIN_ENV_ROOT` if that is set, else the cached one; None if there is none there."""
    chosen = os.environ.get(ROOT_VARIABLE)
    root = Path(chosen).expanduser() if chosen else cached_checkout()
    return root.resolve() if (root / "conf" / "tasks" / "new_playtable_tasks.yaml").is_file() else None


def checkout() -> Path:
    """Return the checkout.

    Raises:
        MissingExtra: If there is none; the message says how to get it.
    """
    root = find_checkout()
    if root is None:
        raise MissingExtra(missing() or "")
    return root


def missing() -> str | None:
    """Return what is missing and the command that gets it, in one sentence; None if nothing is."""
    if find_checkout() is not None:
        return None
    chosen = os.environ.get(ROOT_VARIABLE)
    if chosen:
        return f"{ROOT_VARIABLE}={chosen} holds no checkout of calvin_env. Correct it, or unset it and run: {COMMAND}"
    return f"CALVIN needs the official calvin_env, which no package index has. Fetch it (30 MB): {COMMAND}"


def content_files(root: Path) -> Iterator[Path]:
    """Yield the files that matter, relative to `root`, in a fixed order; byte code and git's own files do not."""
    found = [Path(LICENCE_FILE)]
    for folder in FOLDERS:
        found += [path.relative_to(root) for path in (root / folder).rglob("*") if path.is_file()]
    yield from sorted(path for path in found if "__pycache__" not in path.parts and (root / path).is_file())


def content_digest(root: Path) -> str:
    """Return the SHA-256 over names and contents of the files that matter: the same from git, a tarball or a zip."""
    digest = hashlib.sha256()
    for path in content_files(root):
        digest.update(path.as_posix().encode() + b"\0" + hashlib.sha256((root / path).read_bytes()).digest())
    return digest.hexdigest()


@cache
def version(root: Path) -> str:
    """Return the pinned commit if the content is that commit's, else `modified-` and the start of its hash."""
    digest = content_digest(root)
    return COMMIT if digest == CONTENT_SHA256 else f"modified-{digest[:12]}"


def versions() -> dict[str, str]:
    """Return what a run's manifest records of the checkout; nothing where there is none."""
    root = find_checkout()
    return {} if root is None else {"calvin_env": version(root)}
