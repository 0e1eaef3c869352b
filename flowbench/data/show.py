"""Contact sheets and videos of a demonstration: RGB, depth, object ids and optical flow side by side, with their scales.

Pillow draws; nothing here needs a display or matplotlib.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowbench.data.colours import VIRIDIS, flow_wheel, object_colour
from flowbench.data.panels import Panels
from flowbench.errors import DataError, missing_extra
from flowbench.recording import encode_video

if TYPE_CHECKING:
    from PIL.Image import Image

TITLES = {"rgb": "RGB", "depth": "depth", "segmentation": "objects", "flow": "DIS flow"}
ENDINGS = (".png", ".mp4")

_MARGIN_PX, _GAP_PX = 12, 6
_LEGEND_PX = 150
_INK, _FAINT, _FRAME, _PAPER = (20, 20, 20), (110, 110, 110), (200, 200, 200), (255, 255, 255)
#: Widths of one image: of a sheet as a whole about this much, and of each image within these.
_SHEET_PX, _SMALLEST_PX, _LARGEST_PX = 1500, 120, 280
#: A video's image is enlarged to at least this width.
_VIDEO_IMAGE_PX = 256
_LINE_PX = 18


def check_out(path: Path) -> None:
    """Check, before anything is decoded, that a picture or video can be written under this name.

    Raises:
        DataError: If the ending is unknown, or the folder cannot be written to.
        MissingExtra: If Pillow, or for a video the encoder, is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"--out {path} must end in .png (a contact sheet) or .mp4 (a video).")
    if path.is_dir():
        raise DataError(f"--out {path} is a folder; give the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {path} cannot be written: {error.strerror}.") from error
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"--out {path} cannot be written: permission denied.")
    _pillow()
    if path.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise missing_extra("A video", "video", error) from error


def write_picture(panels: Panels, path: Path, fps: int = 20) -> None:
    """Write a contact sheet (`.png`) or a video (`.mp4`); the file appears only when it is complete.

    Raises:
        DataError: If it cannot be written.
    """
    try:
        if path.suffix.lower() == ".mp4":
            encode_video(path, _VideoFrames(panels), fps)
            return
        temporary = path.with_suffix(".partial.png")
        contact_sheet(panels).save(temporary, optimize=True)
        temporary.replace(path)
    except OSError as error:
        for left in (path.with_suffix(".partial.png"), path.with_suffix(".partial.mp4")):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        raise DataError(f"--out {path} cannot be written: {error.strerror or error}.") from error


def contact_sheet(panels: Panels) -> Image:
    """Draw rows of kinds by columns of steps, one block per camera, scales and names at the left."""
    image_class, _ = _pillow()
    look = panels.look
    columns = len(look.steps)
    target = (_SHEET_PX - _LEGEND_PX - 2 * _MARGIN_PX) / columns - _GAP_PX
    sizes = {camera: _scaled(panels.size(camera), target) for camera in look.cameras}
    width = 2 * _MARGIN_PX + _LEGEND_PX + max(columns * (size[0] + _GAP_PX) for size in sizes.values())
    width = max(width, 640)
    header = _header(panels, width - 2 * _MARGIN_PX)
    heights = [
        2 * _LINE_PX + len(panels.kinds(camera)) * (sizes[camera][1] + _GAP_PX) + _GAP_PX for camera in look.cameras
    ]
    sheet = image_class.new("RGB", (width, _MARGIN_PX + header.height + sum(heights) + _MARGIN_PX), _PAPER)
    sheet.paste(header, (_MARGIN_PX, _MARGIN_PX))
    top = _MARGIN_PX + header.height
    for camera, height in zip(look.cameras, heights):
        _draw_camera(sheet, top, panels, camera, sizes[camera])
        top += height
    return sheet


def _draw_camera(sheet: Image, top: int, panels: Panels, camera: str, size: tuple[int, int]) -> None:
    look = panels.look
    _write(sheet, (_MARGIN_PX, top), f"camera {camera}", width=sheet.width - 2 * _MARGIN_PX, size=14)
    lefts = [_MARGIN_PX + _LEGEND_PX + column * (size[0] + _GAP_PX) for column in range(len(look.steps))]
    for left, step in zip(lefts, look.steps):
        _write(sheet, (left, top + _LINE_PX), f"step {step}", colour=_FAINT)
    top += 2 * _LINE_PX
    for kind in panels.kinds(camera):
        sheet.paste(_legend(panels, camera, kind, (_LEGEND_PX - _GAP_PX, size[1])), (_MARGIN_PX, top))
        for left, step in zip(lefts, look.steps):
            sheet.paste(_tile(panels, camera, kind, step, size), (left, top))
        top += size[1] + _GAP_PX


class _VideoFrames(Sequence):
    """The frames of a video, drawn one by one as the encoder asks for them."""

    def __init__(self, panels: Panels) -> None:
        self._panels = panels
        self._sizes = {}
        for camera in panels.look.cameras:
            width, height = panels.size(camera)
            scale = max(1.0, _VIDEO_IMAGE_PX / width)
            self._sizes[camera] = (round(width * scale), round(height * scale))
        self._still = self._draw_still()

    def __len__(self) -> int:
        return len(self._panels.look.steps)

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        step = self._panels.look.steps[index]
        frame = self._still.copy()
        text = f"step {step} of {self._panels.info.steps}"
        _write(frame, (frame.width - _MARGIN_PX - 120, _MARGIN_PX + 2), text, width=120, align_right=True)
        for camera, kind, left, top in self._places():
            frame.paste(_tile(self._panels, camera, kind, step, self._sizes[camera]), (left, top))
        return np.asarray(frame)

    def _places(self) -> Iterator[tuple[str, str, int, int]]:
        top = _MARGIN_PX + self._header.height
        for camera in self._panels.look.cameras:
            width, height = self._sizes[camera]
            for column, kind in enumerate(self._panels.kinds(camera)):
                yield camera, kind, _MARGIN_PX + column * (width + _GAP_PX), top + _LINE_PX + 2
            top += _LINE_PX + 2 + height + _GAP_PX + 3 * _LINE_PX

    def _draw_still(self) -> Image:
        """Draw what does not change: titles and scales."""
        image_class, _ = _pillow()
        widths = [
            len(self._panels.kinds(camera)) * (size[0] + _GAP_PX) - _GAP_PX for camera, size in self._sizes.items()
        ]
        width = max(480, *widths, 0) + 2 * _MARGIN_PX
        # Pixels come in twos in the encoder.
        width += width % 2
        self._header = _header(self._panels, width - 2 * _MARGIN_PX - 130)
        height = _MARGIN_PX + self._header.height
        height += sum(_LINE_PX + 2 + size[1] + _GAP_PX + 3 * _LINE_PX for size in self._sizes.values())
        still = image_class.new("RGB", (width, height + height % 2), _PAPER)
        still.paste(self._header, (_MARGIN_PX, _MARGIN_PX))
        for camera, kind, left, top in self._places():
            size = self._sizes[camera]
            title = f"{camera}: {TITLES[kind]}"
            _write(still, (left, top - _LINE_PX), title, width=size[0])
            legend = _legend(self._panels, camera, kind, (size[0], 3 * _LINE_PX), title=False)
            still.paste(legend, (left, top + size[1] + 3))
        return still


def _header(panels: Panels, width: int) -> Image:
    """Draw two lines: which demonstration, and what it is about."""
    image_class, _ = _pillow()
    info = panels.info
    name = "/".join(part for part in (info.suite, info.task) if part)
    outcome = {True: "success", False: "failure", None: ""}[info.success]
    facts = ", ".join(part for part in (info.scenario, f"{info.steps} steps", outcome) if part)
    header = image_class.new("RGB", (width, 24 + _LINE_PX + 8), _PAPER)
    first = f"{name}  {info.name}" if name else f"{panels.reader.path.name}  {info.name}"
    _write(header, (0, 0), first, width=width, size=18)
    second = f'"{info.instruction}"  ({facts})' if info.instruction else facts
    _write(header, (0, 26), second, width=width, colour=_FAINT)
    return header


def _tile(panels: Panels, camera: str, kind: str, step: int, size: tuple[int, int]) -> Image:
    image_class, draw_module = _pillow()
    pixels = panels.image(camera, kind, step)
    if pixels is None:
        tile = image_class.new("RGB", size, (235, 235, 235))
        _write(tile, (8, size[1] // 2 - 8), "no later frame", width=size[0] - 16, colour=_FAINT)
        return tile
    image = image_class.fromarray(pixels)
    if image.size != size:
        # Between two objects there is no third one.
        sampling = image_class.Resampling
        image = image.resize(size, sampling.NEAREST if kind == "segmentation" else sampling.BICUBIC)
    # Where nothing moves flow is as white as the paper.
    draw_module.Draw(image).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=_FRAME)
    return image


def _legend(panels: Panels, camera: str, kind: str, size: tuple[int, int], title: bool = True) -> Image:
    """Draw what the colours of a row or panel mean."""
    image_class, _ = _pillow()
    legend = image_class.new("RGB", size, _PAPER)
    top = 0
    if title:
        _write(legend, (0, 0), TITLES[kind], width=size[0], size=14)
        top = 22
    draw: dict[str, Callable[..., None]] = {
        "depth": _draw_depth_bar,
        "segmentation": _draw_object_names,
        "flow": _draw_flow_wheel,
    }
    if kind in draw:
        draw[kind](legend, top, panels, camera)
    return legend


def _draw_depth_bar(legend: Image, top: int, panels: Panels, camera: str) -> None:
    image_class, _ = _pillow()
    near_m, far_m = panels.depth_range_m(camera)
    width = min(legend.width, 200)
    places = np.linspace(len(VIRIDIS) - 1, 0, width)
    bar = np.stack([np.interp(places, np.arange(len(VIRIDIS)), VIRIDIS[:, channel]) for channel in range(3)], axis=-1)
    legend.paste(image_class.fromarray(np.repeat(bar[None].astype(np.uint8), 10, axis=0)), (0, top + 2))
    _write(legend, (0, top + 14), f"{near_m:.2f} m", width=width)
    _write(legend, (0, top + 14), f"{far_m:.2f} m +", width=width, align_right=True)
    _write(legend, (0, top + 14 + _LINE_PX), "black: no hit", width=width, colour=_FAINT)


def _draw_object_names(legend: Image, top: int, panels: Panels, camera: str) -> None:
    """Write names in as many columns as fit, each after its colour."""
    _, draw_module = _pillow()
    objects = list(panels.objects(camera).items())
    columns = max(1, legend.width // 130)
    rows = max(1, (legend.height - top) // _LINE_PX)
    room = rows * columns
    shown = objects if len(objects) <= room else objects[: max(0, room - 1)]
    pen = draw_module.Draw(legend)
    cell = legend.width // columns
    entries = [(object_colour(number), name) for number, name in shown]
    if len(shown) < len(objects):
        entries.append((_PAPER, f"and {len(objects) - len(shown)} more"))
    for index, (colour, name) in enumerate(entries):
        left, line = (index // rows) * cell, top + (index % rows) * _LINE_PX
        pen.rectangle((left, line + 3, left + 10, line + 13), fill=colour)
        _write(legend, (left + 15, line), name, width=cell - 18)


def _draw_flow_wheel(legend: Image, top: int, panels: Panels, camera: str) -> None:
    image_class, _ = _pillow()
    size = max(16, min(50, legend.height - top))
    legend.paste(image_class.fromarray(flow_wheel(size)), (0, top))
    full_px = panels.full_flow_px(camera)
    lines = (f"rim: {full_px:.1f} px", f"in {panels.look.flow_gap} steps", "white: still")
    for index, line in enumerate(lines):
        if top + (index + 1) * 16 <= legend.height:
            _write(legend, (size + 8, top + index * 16), line, width=legend.width - size - 8, size=12)


def _scaled(size: tuple[int, int], target_width: float) -> tuple[int, int]:
    width = min(max(target_width, _SMALLEST_PX), _LARGEST_PX)
    return round(width), max(1, round(size[1] * width / size[0]))


def _write(
    image: Image,
    at: tuple[int, int],
    text: str,
    *,
    width: int | None = None,
    size: int = 13,
    colour: tuple[int, int, int] = _INK,
    align_right: bool = False,
) -> None:
    """Write one line, shortened with dots if it is wider than `width`."""
    _, draw_module = _pillow()
    pen = draw_module.Draw(image)
    font = _font(size)
    if width is not None and pen.textlength(text, font=font) > width:
        while text and pen.textlength(text + "...", font=font) > width:
            text = text[:-1]
        text += "..."
    left = at[0] + (width - pen.textlength(text, font=font) if align_right and width is not None else 0)
    pen.text((left, at[1]), text, fill=colour, font=font)


def _font(size: int) -> object:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _pillow() -> tuple:
    """Return Pillow's modules Image and ImageDraw.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise missing_extra("Drawing demonstrations", "data", error) from error
    return Image, ImageDraw
