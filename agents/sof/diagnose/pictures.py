"""Rows of small pictures with captions, and bars: all that the diagnoses draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowbench.atomic import write_atomically
from flowbench.data.colours import colour_flow
from flowbench.errors import missing_extra

_GAP_PX, _TEXT_PX, _LEAST_PX = 3, 13, 80
_BAR, _AXIS, _INTERVAL = (31, 111, 209), (60, 60, 60), (20, 20, 20)

Row = tuple[str, Sequence[np.ndarray]]


def colour_content(content: np.ndarray, full: float) -> np.ndarray:
    """Colour (C, h, w) flow by direction, or show differences of pixels about grey; uint8 (h, w, 3).

    Args:
        content: Two channels of flow or three of pixels.
        full: Length in the full colour.
    """
    if len(content) == 2:
        return colour_flow(np.moveaxis(content, 0, -1), full)
    return (np.clip(0.5 + np.moveaxis(content, 0, -1) / (2 * full), 0, 1) * 255).astype(np.uint8)


def to_picture(frame: np.ndarray) -> np.ndarray:
    """Turn float (3, H, W) in [0, 1] into uint8 (H, W, 3)."""
    return (np.moveaxis(frame, 0, -1) * 255).round().astype(np.uint8)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write captioned rows of pictures, all in the size of the largest, as a PNG.

    Raises:
        MissingExtra: If Pillow is not installed.
    """
    image_module, draw_module = _pillow()
    height = max(_LEAST_PX, *(picture.shape[0] for _, pictures in rows for picture in pictures))
    scale = height / min(picture.shape[0] for picture in rows[0][1])
    width = max(round(picture.shape[1] * height / picture.shape[0]) for _, pictures in rows for picture in pictures)
    columns = max(len(pictures) for _, pictures in rows)
    sheet = image_module.new(
        "RGB", (columns * (width + _GAP_PX) + _GAP_PX, len(rows) * (height + _TEXT_PX + _GAP_PX)), "white"
    )
    draw = draw_module.Draw(sheet)
    for number, (text, pictures) in enumerate(rows):
        top = number * (height + _TEXT_PX + _GAP_PX)
        draw.text((_GAP_PX, top), text, fill="black")
        for place, picture in enumerate(pictures):
            tile = image_module.fromarray(np.ascontiguousarray(picture))
            how = image_module.Resampling.NEAREST if scale > 1 else image_module.Resampling.BILINEAR
            sheet.paste(tile.resize((width, height), how), (_GAP_PX + place * (width + _GAP_PX), top + _TEXT_PX))
    write_atomically(Path(path), lambda temporary: sheet.save(temporary, "PNG", optimize=True))


def write_cells(path: Path, rows: Sequence[tuple[str, Sequence[tuple[int, int, int]]]], title: str) -> None:
    """Write rows of coloured cells, each with a name to its left: what happened when.

    Raises:
        MissingExtra: If Pillow is not installed.
    """
    image_module, draw_module = _pillow()
    cell, left = 12, 8 + 6 * max(len(name) for name, _ in rows)
    columns = max(len(cells) for _, cells in rows)
    sheet = image_module.new("RGB", (left + columns * cell + 8, 24 + len(rows) * (cell + 2)), "white")
    draw = draw_module.Draw(sheet)
    draw.text((4, 4), title, fill="black")
    for number, (name, cells) in enumerate(rows):
        top = 22 + number * (cell + 2)
        draw.text((4, top), name, fill="black")
        for place, colour in enumerate(cells):
            draw.rectangle((left + place * cell, top, left + (place + 1) * cell - 2, top + cell - 1), fill=colour)
    write_atomically(Path(path), lambda temporary: sheet.save(temporary, "PNG", optimize=True))


def write_bars(path: Path, bars: Sequence[tuple[str, float, float, float]], title: str, full: float = 1.0) -> None:
    """Write horizontal bars (name, value, lower and upper bound) as a PNG.

    Args:
        path: Of the picture.
        bars: At least one.
        title: Above them.
        full: Value of the longest possible bar.

    Raises:
        MissingExtra: If Pillow is not installed.
    """
    image_module, draw_module = _pillow()
    left, length, height = 12 + 6 * max(len(name) for name, *_ in bars), 360, 20
    sheet = image_module.new("RGB", (left + length + 80, 26 + len(bars) * (height + 4)), "white")
    draw = draw_module.Draw(sheet)
    draw.text((4, 4), title, fill="black")
    for number, (name, *values) in enumerate(bars):
        top = 24 + number * (height + 4)
        value, low, high = (left + round(length * min(1.0, max(0.0, each / full))) for each in values)
        draw.text((4, top + 4), name, fill="black")
        draw.rectangle((left, top + 2, value, top + height - 2), fill=_BAR)
        draw.line((low, top + height / 2, high, top + height / 2), fill=_INTERVAL, width=2)
        draw.line((left, top, left, top + height), fill=_AXIS)
        draw.text((left + length + 8, top + 4), f"{values[0]:.3g}", fill="black")
    write_atomically(Path(path), lambda temporary: sheet.save(temporary, "PNG", optimize=True))


def _pillow() -> tuple[object, object]:
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise missing_extra("A picture of a diagnosis", "data", error) from error
    return Image, ImageDraw


def write_curves(path: Path, wanted: np.ndarray, made: np.ndarray) -> None:
    """Write a graph per component of (T, A) actions, the wanted ones in grey under the made ones.

    Raises:
        MissingExtra: If Pillow is not installed.
    """
    image_module, draw_module = _pillow()
    width, height = max(240, 6 * len(wanted)), 90
    sheet = image_module.new("RGB", (width + 40, wanted.shape[1] * (height + _TEXT_PX + 6)), "white")
    draw = draw_module.Draw(sheet)
    for component in range(wanted.shape[1]):
        top = component * (height + _TEXT_PX + 6)
        draw.text((4, top), f"component {component}: demonstration grey, agent blue", fill="black")
        low = float(min(wanted[:, component].min(), made[:, component].min()))
        span = max(1e-6, float(max(wanted[:, component].max(), made[:, component].max())) - low)
        for values, colour in ((wanted, (150, 150, 150)), (made, _BAR)):
            points = [
                (20 + step * width / max(1, len(values) - 1), top + _TEXT_PX + height * (1 - (value - low) / span))
                for step, value in enumerate(values[:, component])
            ]
            draw.line(points, fill=colour, width=2)
    write_atomically(Path(path), lambda temporary: sheet.save(temporary, "PNG", optimize=True))
