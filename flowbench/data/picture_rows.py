"""Captioned rows of small pictures, one below the other: imagined above true, seen above drawn, decoded above measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowbench.atomic import write_atomically
from flowbench.errors import missing_extra

#: A caption, and uint8 (h, w, 3) pictures.
PictureRow = tuple[str, Sequence[np.ndarray]]

#: Least side of a picture, gap between pictures, and height of a caption, in pixels.
_SIDE_PX, _GAP_PX, _TEXT_PX = 96, 3, 13


def write_picture_rows(path: Path, rows: Sequence[PictureRow]) -> None:
    """Write rows as a PNG; pictures of one row are drawn in one size, that of the largest.

    Args:
        path: Of the picture; it appears only when complete.
        rows: At least one, each with at least one picture.

    Raises:
        MissingExtra: If Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise missing_extra(f"The picture {path}", "data", error) from error
    tiles = [_tile(pictures) for _, pictures in rows]
    width = max(len(pictures) * (tile[0] + _GAP_PX) for (_, pictures), tile in zip(rows, tiles, strict=True)) + _GAP_PX
    sheet = Image.new("RGB", (width, sum(tile[1] + _GAP_PX + _TEXT_PX for tile in tiles)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for (text, pictures), tile in zip(rows, tiles, strict=True):
        draw.text((_GAP_PX, top), text, fill="black")
        for place, picture in enumerate(pictures):
            enlarged = Image.fromarray(np.ascontiguousarray(picture)).resize(tile, Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_GAP_PX + place * (tile[0] + _GAP_PX), top + _TEXT_PX))
        top += tile[1] + _GAP_PX + _TEXT_PX
    write_atomically(Path(path), lambda temporary: sheet.save(temporary, "PNG", optimize=True))


def _tile(pictures: Sequence[np.ndarray]) -> tuple[int, int]:
    """Return width and height of the pictures of a row: a whole multiple of the largest, so that its pixels stay square."""
    height, width = max((picture.shape[:2] for picture in pictures), key=min)
    scale = max(1, round(_SIDE_PX / min(height, width)))
    return width * scale, height * scale
