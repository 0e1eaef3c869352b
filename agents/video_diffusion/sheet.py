"""The picture of imagined clips: first frame, imagination and truth, one clip below the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowbench.agents.video_diffusion.imagined import ImaginedClip
from flowbench.atomic import write_atomically
from flowbench.data.colours import colour_flow
from flowbench.errors import missing_extra

#: Least side of a frame, and the gaps, in pixels.
_SIDE_PX, _GAP_PX, _TEXT_PX = 96, 3, 13


def write_sheet(path: Path, clips: Sequence[ImaginedClip]) -> None:
    """Write clips as a PNG: of each the imagined row above the true one.

    Raises:
        MissingExtra: If Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise missing_extra("A picture of plans", "data", error) from error
    rows = [row for clip in clips for row in _rows(clip)]
    height, width = rows[0][1][0].shape[:2]
    scale = max(1, round(_SIDE_PX / min(height, width)))
    tile = (width * scale, height * scale)
    columns = max(len(pictures) for _, pictures in rows)
    size = (columns * (tile[0] + _GAP_PX) + _GAP_PX, len(rows) * (tile[1] + _TEXT_PX + _GAP_PX))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, (text, pictures) in enumerate(rows):
        top = number * (tile[1] + _TEXT_PX + _GAP_PX)
        draw.text((_GAP_PX, top), text, fill="black")
        for place, picture in enumerate(pictures):
            enlarged = Image.fromarray(np.ascontiguousarray(picture)).resize(tile, Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_GAP_PX + place * (tile[0] + _GAP_PX), top + _TEXT_PX))
    path = Path(path)
    write_atomically(path, lambda temporary: sheet.save(temporary, "PNG", optimize=True))


def _rows(clip: ImaginedClip) -> list[tuple[str, list[np.ndarray]]]:
    """Return captions and pictures of the two rows of a clip."""
    title = f"{clip.task}, {clip.camera}, from step {clip.start}"
    if clip.flow_px is None:
        return [(f"{title}: imagined", [clip.frames[0], *clip.imagined]), ("what happened", list(clip.frames))]
    full_px = max(1.0, float(np.percentile(np.linalg.norm(clip.flow_px, axis=-1), 99.5)))
    told, true = ([colour_flow(flow, full_px) for flow in flows] for flows in (clip.imagined, clip.flow_px))
    first = clip.frames[0]
    return [
        (f"{title}: imagined flow, full colour at {full_px:.1f} px", [first, *told]),
        ("flow of what happened", [first, *true]),
    ]
