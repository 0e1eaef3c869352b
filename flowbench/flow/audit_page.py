"""The pictures of a flow audit, and one page with its tables and pictures that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np

from flowbench import __version__
from flowbench.atomic import write_atomically, write_text_atomically
from flowbench.data.colours import VIRIDIS, colour_flow
from flowbench.errors import missing_extra
from flowbench.flow.audit import STILL, AuditPair
from flowbench.flow.pairs import VISIBLE
from flowbench.sheet import Sheet

#: Length of flow that is drawn in the full colour, and the error that is drawn brightest, pixels.
FULL_PX, ERROR_PX = 15.0, 6.0
#: Each image is enlarged so that its shorter side has at least this many pixels.
_SIDE_PX = 160
_GAP_PX = 6
_HEADING_PX = 14


@dataclass
class Panels:
    """Collects pictures of a few pairs of each task: the ones where most of what is not the robot moves.

    Attributes:
        per_task: Pictures of each task.
        kept: (score, pair, flows) by task.
    """

    per_task: int = 1
    kept: dict[str, list[tuple[float, AuditPair, dict[str, np.ndarray]]]] = field(default_factory=dict)

    def add(self, pair: AuditPair, flows: Mapping[str, np.ndarray]) -> None:
        """Consider a pair; passed to `audit` as `keep`."""
        from flowbench.flow.audit import groups_of

        groups = groups_of(pair)
        score = float(groups["things"].sum()) + 0.01 * float(groups["moving"].sum())
        kept = self.kept.setdefault(pair.task, [])
        kept.append((score, pair, {name: flow for name, flow in flows.items() if name != STILL}))
        kept.sort(key=lambda item: -item[0])
        del kept[self.per_task :]

    def pictures(self) -> list[tuple[str, np.ndarray]]:
        """Return (caption, uint8 (H, W, 3)) of each pair that was kept."""
        return [
            (f"{pair.task}, {pair.camera}, seed {pair.seed}, pair {pair.number}", panel(pair, flows))
            for kept in self.kept.values()
            for _, pair, flows in kept
        ]


def panel(pair: AuditPair, flows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the images of a pair, its exact flow, and each estimate above its error, as one uint8 picture."""
    visible = (pair.masks & VISIBLE) > 0
    columns = [("first, second", pair.first, pair.second), ("truth", colour_flow(pair.flow_px, FULL_PX), None)]
    for name, flow_px in flows.items():
        error_px = np.linalg.norm(flow_px - pair.flow_px, axis=-1)
        columns.append((name, colour_flow(flow_px, FULL_PX), _colour_error(error_px, visible)))
    scale = max(1, -(-_SIDE_PX // min(pair.first.shape[:2])))
    tiles = [[_enlarged(image, scale) for image in column[1:]] for column in columns]
    height, width = tiles[0][0].shape[:2]
    blank = np.full((height, width, 3), 255, np.uint8)
    picture = np.full(
        (2 * height + _GAP_PX + _HEADING_PX, len(columns) * (width + _GAP_PX) - _GAP_PX, 3), 255, np.uint8
    )
    for place, (name, *_) in enumerate(columns):
        left = place * (width + _GAP_PX)
        picture[:_HEADING_PX, left : left + width] = _heading(name, width)
        for row, tile in enumerate(tiles[place]):
            top = _HEADING_PX + row * (height + _GAP_PX)
            picture[top : top + height, left : left + width] = blank if tile is None else tile
    return picture


def write_audit_page(
    path: Path, title: str, sheets: Sequence[Sheet], pictures: Sequence[tuple[str, np.ndarray]], command: str
) -> None:
    """Write the page, with its pictures inside.

    Raises:
        BadValue: If it cannot be written.
        MissingExtra: If Pillow is not installed.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(str(files("flowbench.flow") / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (files("flowbench.report") / "templates" / "page.css").read_text(encoding="utf-8")
    shown = [{"caption": caption, "png": base64.b64encode(png_bytes(image)).decode()} for caption, image in pictures]
    text = environment.get_template("audit.html.j2").render(
        title=title,
        sheets=sheets,
        pictures=shown,
        picture_width=max((image.shape[1] for _, image in pictures), default=0),
        full_px=f"{FULL_PX:g}",
        error_px=f"{ERROR_PX:g}",
        command=command,
        version=__version__,
        style=Markup(style),  # ours, and no part of it comes from outside
    )
    write_text_atomically(path, text)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a uint8 (H, W, 3) picture.

    Raises:
        BadValue: If it cannot be written.
        MissingExtra: If Pillow is not installed.
    """
    content = png_bytes(image)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def png_bytes(image: np.ndarray) -> bytes:
    """Return a uint8 (H, W, 3) picture as PNG.

    Raises:
        MissingExtra: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("A picture of flow", "data", error) from error
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _colour_error(error_px: np.ndarray, visible: np.ndarray) -> np.ndarray:
    place = np.clip(error_px / ERROR_PX, 0, 1) * (len(VIRIDIS) - 1)
    channels = [np.interp(place, np.arange(len(VIRIDIS)), VIRIDIS[:, channel]) for channel in range(3)]
    return np.where(visible[..., None], np.stack(channels, axis=-1), 128).astype(np.uint8)


def _enlarged(image: np.ndarray | None, scale: int) -> np.ndarray | None:
    return None if image is None else image.repeat(scale, axis=0).repeat(scale, axis=1)


def _heading(text: str, width: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (width, _HEADING_PX), "white")
    ImageDraw.Draw(strip).text((0, 0), text, fill=(40, 45, 55), font=ImageFont.load_default(size=11))
    return np.asarray(strip)
