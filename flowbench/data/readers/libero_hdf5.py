"""LIBERO's and robomimic's HDF5 files, brought to our conventions.

LIBERO's files (`scripts/create_dataset.py` at 8f1084e) and robomimic's (`dataset_states_to_obs.py`) share a layout and
differ in two ways that no array shows:

- Rows of LIBERO's images are stored bottom-up, as OpenGL gives them; robomimic's are upright. LIBERO's files declare it in
  the attribute `macros_image_convention` ("opengl"); files re-rendered in LIBERO's layout have its key names
  (`agentview_rgb`) and no declaration.
- LIBERO's script records an observation after the action of the same row, but `states` before it. robomimic and the
  re-rendered files record both before. The reader pairs what was seen with the action that followed, so each
  demonstration of LIBERO's own files is one step shorter than stored.

LIBERO's depth, where there is any, is the z-buffer, not metres, and cannot be converted without its model: it is left out.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from flowbench.data.demonstration import ArraySpec, DemoInfo
from flowbench.data.known_tasks import find_task
from flowbench.data.readers import HDF5_DAMAGE, open_hdf5
from flowbench.data.readers.base import PerProcess, RowReader, read_hdf5
from flowbench.errors import DataError
from flowbench.registry import suite_names

#: Cameras that LIBERO's files name otherwise than its simulator.
_CAMERAS = {"eye_in_hand": "robot0_eye_in_hand"}
#: Parts of the (8,) robot state of our LIBERO suites: position, orientation, fingers.
_LIBERO_PROPRIO = ("obs/ee_pos", "obs/ee_ori", "obs/gripper_states")
_ROBOMIMIC_PROPRIO = ("obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos")


class _Stored(NamedTuple):
    """Where an array lies, and what is done to its rows."""

    datasets: tuple[str, ...]
    kind: str
    spec: ArraySpec


class LiberoHdf5(RowReader):
    """Demonstrations of one LIBERO or robomimic file.

    Besides the keys of every format, the remaining vectors keep their names: `"ee_pos"`, `"joint_states"`, ...

    Attributes:
        flipped: Whether the rows of stored images are bottom-up; they are returned upright.
        late_observations: Whether an observation was recorded after the action of its row; it is paired with the next one.
    """

    format = "libero-hdf5"

    def __init__(self, path: str | Path, *, flipped: bool | None = None, late_observations: bool | None = None) -> None:
        """Open a file.

        Args:
            path: The file.
            flipped: Whether images are stored bottom-up; None takes the file's declaration, else what its key names imply.
            late_observations: Whether an observation was recorded after the action of its row; None says yes for files of
                LIBERO's own script. False pairs rows as they are stored, one control step (50 ms) late, as published
                LIBERO baselines were trained.

        Raises:
            DataError: If the file is damaged, or holds no demonstration.
        """
        self.path = Path(path)
        self._file = PerProcess(partial(open_hdf5, self.path))
        try:
            data = self._file.get().get("data")
            names = [] if data is None else sorted((name for name in data if name.startswith("demo_")), key=_number)
            if not names:
                raise DataError(f"{self.path} holds no demonstrations: there is no group /data/demo_<number>.")
            attributes = dict(data.attrs)
            keys = list(data[names[0]].get("obs", {}))
            convention = _text(attributes.get("macros_image_convention"))
            declared = None if convention is None else convention == "opengl"
            implied = any(key.endswith("_rgb") for key in keys)
            self.flipped = next(value for value in (flipped, declared, implied) if value is not None)
            libero = "problem_info" in attributes and "bddl_file_name" in attributes
            self.late_observations = libero if late_observations is None else late_observations
            meaning = _meaning(self.path, attributes)
            self._stored: list[dict[str, _Stored]] = []
            self.demos = tuple(self._describe(data, name, meaning) for name in names)
        except HDF5_DAMAGE as error:
            raise DataError(f"{self.path} is damaged: {error}. Download it again.") from error
        finally:
            self.close()

    def close(self) -> None:
        """Free the file; may be called twice, and a later `read` opens it again."""
        self._file.close()

    def _describe(self, data: h5py.Group, name: str, meaning: dict[str, Any]) -> DemoInfo:
        group = data[name]
        datasets = {key: value for key, value in group.items() if isinstance(value, h5py.Dataset)}
        datasets |= {f"obs/{key}": value for key, value in group.get("obs", {}).items()}
        lengths = {key: len(value) for key, value in datasets.items() if value.ndim}
        if not lengths:
            raise DataError(f"{name} of {self.path} holds no arrays.")
        stored_steps = next(iter(lengths.values()))
        for key, length in lengths.items():
            if length != stored_steps:
                first = next(iter(lengths))
                raise DataError(f"{name} of {self.path} has {stored_steps} steps of {first} but {length} of {key}.")
        stored = _arrays({key: datasets[key] for key in lengths})
        self._stored.append(stored)
        rewards = group["rewards"] if "rewards" in datasets and stored_steps else None
        return DemoInfo(
            name=name,
            steps=max(stored_steps - self.late_observations, 0),
            arrays={key: value.spec for key, value in stored.items()},
            success=None if rewards is None else bool(np.max(rewards[-1]) > 0),
            **meaning,
        )

    def _rows(self, demo: int, key: str, rows: range) -> np.ndarray:
        stored = self._stored[demo][key]
        group = f"data/{self.demos[demo].name}"
        parts = []
        for dataset in stored.datasets:
            # Row t of what was seen lies at t, and that of what was done at t + 1, where observations are late.
            observed = dataset.startswith("obs/") or dataset == "robot_states"
            late = self.late_observations and not observed
            shifted = range(rows.start + late, rows.stop + late, rows.step)
            parts.append(read_hdf5(self.path, f"{group}/{dataset}", self._file.get(), shifted))
        if stored.kind == "image":
            return parts[0][:, ::-1] if self.flipped else parts[0]
        if stored.kind == "depth":
            depth_m = parts[0][..., 0] if parts[0].ndim == 4 else parts[0]
            return depth_m[:, ::-1] if self.flipped else depth_m
        if stored.kind == "quaternion":
            parts[1] = _axis_angle(parts[1])
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _arrays(datasets: dict[str, h5py.Dataset]) -> dict[str, _Stored]:
    """Find out what the data sets of one demonstration mean."""
    found: dict[str, _Stored] = {}
    robomimic = any(name.endswith("_image") for name in datasets) or _ROBOMIMIC_PROPRIO[0] in datasets
    for name, dataset in datasets.items():
        key, kind, shape = name.removeprefix("obs/"), "plain", dataset.shape[1:]
        dtype = dataset.dtype.name
        if name.startswith("obs/") and key.endswith(("_rgb", "_image")) and len(shape) == 3:
            key, kind = _camera(key.rpartition("_")[0]) + "/rgb", "image"
        elif name.startswith("obs/") and key.endswith("_depth"):
            if not robomimic:
                continue
            key, kind, shape, dtype = _camera(key.rpartition("_")[0]) + "/depth", "depth", shape[:2], "float32"
        found[key] = _Stored((name,), kind, ArraySpec(shape, dtype))
    for parts, kind in ((_LIBERO_PROPRIO, "plain"), (_ROBOMIMIC_PROPRIO, "quaternion")):
        # A file with a second arm has no layout of ours.
        if all(part in datasets for part in parts) and "obs/robot1_eef_pos" not in datasets:
            width = 6 + datasets[parts[2]].shape[1]
            found["proprio"] = _Stored(parts, kind, ArraySpec((width,), "float32"))
    return found


def _meaning(path: Path, attributes: dict[str, Any]) -> dict[str, Any]:
    """Find the suite, task and instruction that a file is about."""
    bddl = _text(attributes.get("bddl_file_name"))
    name = re.sub(r"_demo$", "", path.stem)
    libero_suites = [suite for suite in suite_names() if suite.startswith("libero")]
    for candidate in (name, Path(bddl).stem if bddl else name):
        task = find_task(candidate, libero_suites)
        if task:
            return {"suite": task.suite, "task": task.name, "instruction": task.instruction}
    if bddl:
        # The sentence that LIBERO's `task.language` would be (`grab_language_from_filename`).
        task_name = name if path.stem.endswith("_demo") else Path(bddl).stem
        sentence = re.sub(r"^[A-Z_]+_SCENE\d+_", "", task_name).replace("_", " ")
        return {"task": task_name, "instruction": sentence}
    problem, env_args = _json(attributes.get("problem_info")), _json(attributes.get("env_args"))
    sentence = problem.get("language_instruction")
    sentence = "".join(sentence) if isinstance(sentence, list) else sentence
    return {"task": env_args.get("env_name"), "instruction": sentence or None}


def _axis_angle(quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Turn (N, 4) unit quaternions into (N, 3) axis-angle vectors, angle 2 acos(w) in [0, 2 pi] as robosuite does."""
    angle = 2 * np.arccos(np.clip(quaternion_xyzw[:, 3], -1.0, 1.0))
    sine = np.linalg.norm(quaternion_xyzw[:, :3], axis=1)
    return quaternion_xyzw[:, :3] * np.divide(angle, sine, out=np.zeros_like(angle), where=sine > 1e-9)[:, None]


def _camera(name: str) -> str:
    return _CAMERAS.get(name, name)


def _number(name: str) -> tuple[int, str]:
    digits = name.removeprefix("demo_")
    return (int(digits) if digits.isdigit() else 0, name)


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _json(value: Any) -> dict[str, Any]:
    loaded = json.loads(_text(value)) if value is not None else {}
    return loaded if isinstance(loaded, dict) else {}
