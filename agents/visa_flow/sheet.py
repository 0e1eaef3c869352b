"""The picture of clips: what was seen above what was drawn of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowbench.agents.visa_flow.looks import Clip
from flowbench.atomic import write_atomically
from flowbench.errors import missing_extra

#: Looks of a row, clips of a sheet, least side of a picture and gap in pixels.
_COLUMNS, _CLIPS, _SIDE_PX, _GAP_PX, _TEXT_PX = 8, 4, 96, 3, 13


def write_sheet(path: Path, clips: Sequence[Clip]) -> None:
    """Write the first clips as a PNG, every camera in two rows.

    Raises:
        MissingExtra: If Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise missing_extra("A picture of semantic flow", "data", error) from error
    rows = [row for clip in clips[:_CLIPS] for row in _rows(clip)]
    tiles = [_tile(pictures[0]) for _, pictures in rows]
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


def _tile(picture: np.ndarray) -> tuple[int, int]:
    height, width = picture.shape[:2]
    scale = max(1, round(_SIDE_PX / min(height, width)))
    return width * scale, height * scale


def _rows(clip: Clip) -> list[tuple[str, np.ndarray]]:
    """Return captions and pictures of the rows of a clip."""
    rows = []
    for camera, frames in clip.frames.items():
        chosen = np.unique(np.linspace(0, len(frames) - 1, _COLUMNS).round().astype(int))
        rows.append((f"{clip.attributes.get('instruction', 'no instruction')}, {camera}", frames[chosen]))
        rows.append((f"semantic flow ({clip.how})", clip.semantic[camera][chosen]))
    return rows
