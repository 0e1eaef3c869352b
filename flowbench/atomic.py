"""Writing a file so that it is there whole or not at all, because a half-written table or export still opens."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from flowbench.errors import BadValue


def write_atomically(path: Path, write: Callable[[Path], None], option: str = "--out") -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step; folders are made.

    Args:
        path: Where the file goes; an existing one is replaced.
        write: Gets the path of the temporary file; what it raises leaves `path` as it was.
        option: The option that named the file, for the message.

    Raises:
        BadValue: If the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise BadValue(f"{option} {path} is a folder; give the name of a file.")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays, because some writers choose their format by it.
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise BadValue(f"{option} {path} cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str, option: str = "--out") -> None:
    """Write UTF-8 text as `write_atomically` does, with the line ends as they are."""
    write_atomically(path, lambda temporary: _write_text(temporary, text), option)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
