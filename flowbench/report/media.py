"""Videos and pictures that travel inside the page, as long as they fit; a link stands for what does not."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flowbench.errors import BadValue

#: Media types that browsers show without help.
PICTURE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
#: First bytes of those files.
_PICTURE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")

#: Says what is wrong with the bytes of a file, or None.
Check = Callable[[bytes], str | None]


@dataclass(frozen=True)
class Medium:
    """A video or picture of the page.

    Attributes:
        path: File that it was read from.
        link: That file as seen from the page.
        megabytes: Its size.
        base64: Its bytes; None if it did not fit or could not be read.
        problem: Why it cannot be shown, in a sentence; None if it can.
    """

    path: Path
    link: str
    megabytes: float
    base64: str | None = None
    problem: str | None = None


class Budget:
    """What may still be embedded."""

    def __init__(self, megabytes: float) -> None:
        self.bytes_left = megabytes * 1e6

    def embed(self, path: Path, page_folder: Path, check: Check) -> Medium:
        """Embed a file if it fits and `check` finds nothing wrong with it."""
        link = _link(path, page_folder)
        try:
            size = path.stat().st_size
            if size > self.bytes_left:
                return Medium(path, link, size / 1e6)
            data = path.read_bytes()
        except OSError as error:
            return Medium(path, link, 0.0, problem=f"{path} cannot be read: {error.strerror or error}.")
        if problem := check(data):
            return Medium(path, link, size / 1e6, problem=f"{path} {problem}")
        self.bytes_left -= size
        return Medium(path, link, size / 1e6, base64.b64encode(data).decode())


def check_mp4(data: bytes) -> str | None:
    """Return what is wrong with the bytes of an MP4 file (ISO/IEC 14496-12: a row of boxes, each with size and type)."""
    kinds, at = set(), 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if at == 0 and kind != b"ftyp":
            break
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        elif size == 0:
            size = len(data) - at
        if size < 8 or at + size > len(data):
            break
        kinds.add(kind)
        at += size
    if b"ftyp" not in kinds:
        return "is not an MP4 video."
    return None if {b"moov", b"mdat"} <= kinds and at == len(data) else "is an MP4 video that was cut off or damaged."


def check_picture(data: bytes) -> str | None:
    """Return what is wrong with the bytes of a picture."""
    return None if data.startswith(_PICTURE_STARTS) else "is not a PNG, JPEG, GIF or WebP picture."


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures below a folder, by name.

    Raises:
        BadValue: If there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise BadValue(f"--pictures {folder} is not a folder.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_TYPES and path.is_file())
    if not paths:
        raise BadValue(f"--pictures {folder} holds no picture ({', '.join(PICTURE_TYPES)}).")
    return paths


def _link(path: Path, page_folder: Path) -> str:
    """Return a relative URL, so that page and runs can be moved together."""
    try:
        relative = os.path.relpath(path, page_folder)
    except ValueError:
        # Another drive on Windows.
        return path.resolve().as_uri()
    # A first part with a colon would be read as a URL scheme.
    return "./" + quote(Path(relative).as_posix())
