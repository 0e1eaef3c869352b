"""AVDC's folders of PNG frames.

Layouts (flow-diffusion/AVDC `datasets/` and `flowdiffusion/datasets.py`):

- Meta-World: `<task>/<camera>/<sequence>/<n>.png`, each camera with trajectories of its own. `action.pkl` beside the frames
  is a list with the actions of every sequence of that camera; the entry of a sequence has one action less than frames.
- iTHOR: `<target object>/<sequence>/frames/<n>.png`.

Meta-World's frames were read bottom-up from cameras that hang upside down, so they are upright but mirrored: the `policy`
image view of our Meta-World suites. iTHOR's are as seen.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import numpy as np

from flowbench.data.demonstration import ArraySpec, DemoInfo
from flowbench.data.known_tasks import find_task
from flowbench.data.readers.base import RowReader
from flowbench.data.safe_pickle import load_pickle
from flowbench.errors import DataError, missing_extra
from flowbench.task import ImageView

_SUITES = ("metaworld11", "metaworld-mt50")
#: AVDC recorded in the real rooms.
_ITHOR_SUITES = ("ithor12-unity",)
#: iTHOR's only camera, the agent's own.
_ITHOR_CAMERA = "agent"


class AvdcPng(RowReader):
    """Demonstrations of a folder of PNG sequences: one per task, camera and sequence.

    Actions, where there are any, are as the expert gave them: Meta-World's clip them to [-1, 1].
    """

    format = "avdc-png"

    def __init__(self, path: str | Path, *, actions: bool = True, image_view: ImageView | None = None) -> None:
        """Open a folder.

        Args:
            path: The folder above the tasks.
            actions: Whether to read `action.pkl` where it lies beside the frames. A demonstration with actions ends with
                the last action and so lacks the last frame; without, it has every frame.
            image_view: `geometric` turns Meta-World's mirrored frames back; None leaves images as they were recorded.

        Raises:
            DataError: If there are no sequences, or a file is damaged.
            MissingExtra: If Pillow is not installed.
        """
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            raise missing_extra("Reading PNG frames", "data", error) from error
        self.path = Path(path)
        self._frames: list[tuple[Path, list[str]]] = []
        self._actions: list[np.ndarray | None] = []
        demos, views = [], set()
        for folder in _sequences(self.path):
            demos.append(self._describe(folder, actions))
            views.add("geometric" if folder.name == "frames" else "policy")
        if not demos:
            raise DataError(
                f"{self.path} holds no sequences: there is no <task>/<camera>/<sequence>/<n>.png or "
                "<target>/<sequence>/frames/<n>.png."
            )
        if len(views) > 1:
            raise DataError(
                f"{self.path} mixes Meta-World's and iTHOR's layouts. Open each data set's folder for itself."
            )
        self.demos = tuple(demos)
        recorded = views.pop()
        self.image_view = image_view or recorded
        self._mirror = self.image_view != recorded

    def _describe(self, folder: Path, with_actions: bool) -> DemoInfo:
        # Recorded by number: 2.png comes before 10.png.
        frames = sorted((name for name in os.listdir(folder) if re.fullmatch(r"\d+\.png", name)), key=_frame_number)
        ithor = folder.name == "frames"
        task_name, camera, _ = folder.relative_to(self.path).parts
        if ithor:
            camera = _ITHOR_CAMERA
        width, height = _png_size(folder / frames[0])
        arrays = {f"{camera}/rgb": ArraySpec((height, width, 3), "uint8")}
        actions = _actions_of(folder, len(frames)) if with_actions and not ithor else None
        if actions is not None:
            arrays["actions"] = ArraySpec(actions.shape[1:], "float64")
        self._frames.append((folder, frames))
        self._actions.append(actions)
        bare = re.sub(r"-v\d.*$", "", task_name)
        task = find_task(bare, _ITHOR_SUITES if ithor else _SUITES)
        return DemoInfo(
            name=str(folder.relative_to(self.path)),
            steps=len(frames) if actions is None else len(actions),
            arrays=arrays,
            suite=task.suite if task else None,
            task=bare,
            instruction=task.instruction if task else bare.replace("-", " "),
        )

    def _rows(self, demo: int, key: str, rows: range) -> np.ndarray:
        if key == "actions":
            return self._actions[demo][rows.start : rows.stop : rows.step]
        folder, frames = self._frames[demo]
        shape = self.demos[demo].arrays[key].shape
        values = np.empty((len(rows), *shape), np.uint8)
        for index, row in enumerate(rows):
            image = _load_png(folder / frames[row])
            if image.shape != shape:
                raise DataError(
                    f"{folder / frames[row]} is {image.shape[1]} x {image.shape[0]} pixels, but "
                    f"{folder / frames[0]} is {shape[1]} x {shape[0]}: a sequence has one size."
                )
            values[index] = image[:, ::-1] if self._mirror else image
        return values


def _sequences(path: Path) -> list[Path]:
    """Return every folder of frames, in the order of tasks, cameras and sequence numbers."""
    found = [
        folder for folder in path.glob("*/*/*/") if any(re.fullmatch(r"\d+\.png", name) for name in os.listdir(folder))
    ]
    return sorted(found, key=lambda folder: [_natural(part) for part in folder.relative_to(path).parts])


def _actions_of(folder: Path, frames: int) -> np.ndarray | None:
    """Return the float64 (T, A) actions of a sequence with T + 1 frames; None if there is no file of them."""
    path = folder / "action.pkl"
    if not path.is_file():
        return None
    loaded = load_pickle(path)
    try:
        entries = [np.asarray(entry, dtype=np.float64) for entry in loaded]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} holds no list of actions: {error}.") from error
    if entries and entries[0].ndim == 1:
        entries = [np.stack(entries)] if len({entry.shape for entry in entries}) == 1 else entries
        actions = entries[0]
    elif folder.name.isdigit() and int(folder.name) < len(entries):
        actions = entries[int(folder.name)]
    else:
        raise DataError(f"{path} holds actions of {len(entries)} sequences and none for {folder.name!r}.")
    if actions.ndim != 2 or len(actions) not in (frames - 1, frames):
        raise DataError(
            f"{path} has actions of shape {actions.shape} for the {frames} frames in {folder}; expected ({frames - 1}, A), "
            "one action less than frames. Use actions=False to read the frames alone."
        )
    return actions


def _png_size(path: Path) -> tuple[int, int]:
    """Return (width, height) from a PNG's header."""
    with path.open("rb") as file:
        header = file.read(24)
    if len(header) < 24 or header[:8] != b"\x89PNG\r\n\x1a\n":
        raise DataError(f"{path} is not a PNG image, or is truncated. Download it again.")
    return struct.unpack(">II", header[16:24])


def _load_png(path: Path) -> np.ndarray:
    """Return the uint8 (H, W, 3) pixels of a file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: a broken chunk
        raise DataError(f"{path} cannot be read as PNG: {error}. Download it again.") from error


def _frame_number(name: str) -> int:
    return int(name.removesuffix(".png"))


def _natural(text: str) -> tuple[int, int, str]:
    return (0, int(text), text) if text.isdigit() else (1, 0, text)
