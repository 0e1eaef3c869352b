"""CALVIN's folders of one npz file per time step, cut into demonstrations by their language annotations.

Layout (mees/calvin `dataset/README.md`, `calvin_agent/datasets/disk_dataset.py`): `training/` and `validation/` each hold
`episode_0000000.npz`, ... with `rgb_static`, `rgb_gripper`, `depth_static`, `depth_gripper`, `actions`, `rel_actions`,
`robot_obs` and `scene_obs` of one step at 30 Hz; `ep_start_end_ids.npy` (N, 2) says where the teleoperator started and
stopped; `lang_annotations/auto_lang_ann.npy` has `info/indx`, the first and last step of every annotated piece,
`language/ann`, its sentence, and `language/task`, its task. Images are upright, depth is in metres.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import numpy as np

from flowbench.data.demonstration import ArraySpec, DemoInfo
from flowbench.data.readers.base import RowReader
from flowbench.data.safe_pickle import load_npy
from flowbench.errors import BadValue, DataError

ActionKind = Literal["relative", "absolute"]
Segments = Literal["language", "episodes"]

_ACTIONS = {"relative": "rel_actions", "absolute": "actions"}
#: Key -> name in the npz file. `rgb_tactile` and `depth_tactile` are pairs of images and fit no key of an observation.
_ARRAYS = {
    "static/rgb": "rgb_static",
    "static/depth": "depth_static",
    "gripper/rgb": "rgb_gripper",
    "gripper/depth": "depth_gripper",
    "proprio": "robot_obs",
    "scene_obs": "scene_obs",
}
_TYPES = {"rgb": "uint8", "depth": "float32", "proprio": "float32", "scene_obs": "float32", "actions": "float32"}


class CalvinNpz(RowReader):
    """Demonstrations of one CALVIN split.

    `proprio` is `robot_obs` (15,): position (3) and Euler angles (3) of the tool centre, gripper width, 7 joints, last
    gripper action. `scene_obs` (24,) is the state of doors, lights and blocks. Actions are (7,), gripper last: -1 closes,
    +1 opens.
    """

    format = "calvin-npz"

    def __init__(
        self,
        path: str | Path,
        *,
        split: str = "training",
        segments: Segments | None = None,
        actions: ActionKind = "relative",
        annotations: str = "lang_annotations",
    ) -> None:
        """Open a folder.

        Args:
            path: A folder of npz files, or the one above with `training/` and `validation/`.
            split: Which of the two, if `path` is the one above.
            segments: `language` for a demonstration per annotation; `episodes` for one per uninterrupted recording; None
                takes annotations where there are any.
            actions: `relative` for `rel_actions` (1 is 0.02 m or 0.05 rad, the benchmark's action space), `absolute` for
                the target pose in the world.
            annotations: Folder of `auto_lang_ann.npy`.

        Raises:
            BadValue: If `segments` or `actions` is none of the above.
            DataError: If the folder holds no steps, or a file is damaged.
        """
        if segments not in (None, "language", "episodes") or actions not in _ACTIONS:
            raise BadValue(
                f"segments={segments!r}, actions={actions!r}: segments are 'language' or 'episodes', actions 'relative' or "
                "'absolute'."
            )
        self.path = _steps_folder(Path(path), split)
        self._names = _ARRAYS | {"actions": _ACTIONS[actions]}
        language = self.path / annotations / "auto_lang_ann.npy"
        if segments == "language" and not language.is_file():
            raise DataError(
                f"{self.path} has no language annotations: there is no {language}. Use segments='episodes'."
            )
        annotated = segments != "episodes" and language.is_file()
        pieces = _annotated(language) if annotated else _episodes(self.path)
        if not pieces:
            raise DataError(f"{self.path} holds no demonstrations: its list of pieces is empty.")
        self._first = [first for _, first, *_ in pieces]
        self._digits = _digits(self.path)
        arrays = self._describe(self._step_path(self._first[0]))
        self.demos = tuple(
            DemoInfo(name, last - first + 1, arrays, task=task, instruction=sentence)
            for name, first, last, task, sentence in pieces
        )

    def _describe(self, path: Path) -> dict[str, ArraySpec]:
        """Return what one step holds; every step of a release holds the same."""
        with _opened(path) as step:
            return {
                key: ArraySpec(_load(step, name, path).shape, _TYPES[key.rpartition("/")[2]])
                for key, name in self._names.items()
                if name in step
            }

    def _rows(self, demo: int, key: str, rows: range) -> np.ndarray:
        spec, name = self.demos[demo].arrays[key], self._names[key]
        values = np.empty((len(rows), *spec.shape), spec.dtype)
        for index, row in enumerate(rows):
            path = self._step_path(self._first[demo] + row)
            with _opened(path) as step:
                value = _load(step, name, path)
            if value.shape != spec.shape:
                first = self._step_path(self._first[0])
                raise DataError(f"{name} has shape {value.shape} in {path}, but {spec.shape} in {first}.")
            values[index] = value
        return values

    def _step_path(self, step: int) -> Path:
        return self.path / f"episode_{step:0{self._digits}d}.npz"


def _steps_folder(path: Path, split: str) -> Path:
    for folder in (path, path / split):
        if folder.is_dir() and any(re.fullmatch(r"episode_\d+\.npz", entry.name) for entry in os.scandir(folder)):
            return folder
    raise DataError(f"{path} holds no steps: there is no episode_<number>.npz in it or in {split}/.")


def _digits(folder: Path) -> int:
    """Return how many digits step numbers have: 7 in the releases."""
    matches = (re.fullmatch(r"episode_(\d+)\.npz", entry.name) for entry in os.scandir(folder))
    return len(next(match for match in matches if match)[1])


def _annotated(path: Path) -> list[tuple[str, int, int, str | None, str | None]]:
    """Return (name, first step, last step, task, sentence) of every annotation."""
    loaded = load_npy(path)
    try:
        bounds, language = loaded["info"]["indx"], loaded["language"]
        sentences, tasks = list(language["ann"]), list(language.get("task", [None] * len(bounds)))
        return [
            (f"annotation_{index}", int(first), int(last), None if task is None else str(task), str(sentence))
            for index, ((first, last), task, sentence) in enumerate(zip(bounds, tasks, sentences, strict=True))
        ]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{path} has not the layout of auto_lang_ann.npy (info/indx, language/ann, language/task of one length): {error}."
        ) from error


def _episodes(folder: Path) -> list[tuple[str, int, int, str | None, str | None]]:
    """Return (name, first step, last step, None, None) of every uninterrupted recording."""
    path = folder / "ep_start_end_ids.npy"
    if path.is_file():
        bounds = np.asarray(load_npy(path))
        if bounds.ndim != 2 or bounds.shape[1] != 2 or bounds.dtype.kind not in "iu":
            raise DataError(f"{path} is {bounds.dtype} of shape {bounds.shape}; expected whole numbers (N, 2).")
    else:
        matches = (re.fullmatch(r"episode_(\d+)\.npz", entry.name) for entry in os.scandir(folder))
        steps = np.array(sorted(int(match[1]) for match in matches if match))
        gaps = np.flatnonzero(np.diff(steps) != 1)
        bounds = np.stack([steps[np.r_[0, gaps + 1]], steps[np.r_[gaps, len(steps) - 1]]], axis=1)
    return [(f"episode_{index}", int(first), int(last), None, None) for index, (first, last) in enumerate(bounds)]


def _opened(path: Path) -> np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the folder is not complete. Download it again.") from None
    except Exception as error:  # damaged headers of zip and npy raise nearly anything
        raise DataError(f"{path} cannot be read as npz: {error}. Download it again.") from error


def _load(step: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        return step[name]
    except KeyError:
        raise DataError(f"{path} has no {name}; it has {', '.join(step.files) or 'nothing'}.") from None
    except Exception as error:  # damaged headers of zip and npy raise nearly anything
        raise DataError(f"{name} in {path} cannot be read: {error}. Download it again.") from error
