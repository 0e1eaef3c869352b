"""FlowBench's own demonstration files, read in place: any step of any array without decoding another one.

The layout stands in `flowbench.data.layout`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flowbench.data.demonstration import ArraySpec, DemoInfo
from flowbench.data.layout import CAMERA_SUFFIXES, DATA, FORMAT_VERSION, OBS, checksum, decode_depth, observation_key
from flowbench.data.readers import open_hdf5
from flowbench.errors import DataError, unknown_name
from flowbench.task import ImageView

#: Arrays beside `obs` that have one row per step.
STEP_ARRAYS = ("actions", "expert_actions", "rewards", "dones", "states")
#: Modality -> type in which it is returned, whatever it was stored as.
_RETURNED_TYPES = {"depth": "float32", "segmentation": "int32"}
#: Modality -> shape of its array.
_SHAPES = {
    "rgb": "(T, H, W, 3)",
    "depth": "(T, H, W)",
    "segmentation": "(T, H, W)",
    "intrinsic_cv": "(T, 3, 3)",
    "extrinsic_cv": "(T, 4, 4)",
}


class FlowBenchHdf5:
    """Demonstrations of one file of ours.

    Besides the keys of `DemoInfo.arrays` there may be `"expert_actions"` (what the agent asked for, where noise was
    added), `"dones"`, and the named parts of the robot's state that a suite declares, e.g. `"ee_pos"`.

    Attributes:
        format: `"flowbench-hdf5"`.
        path: The file.
        demos: Every demonstration, by number. Their `arrays` are looked up when they are first asked for.
        image_view: Always `geometric`: ours are stored upright and not mirrored.
        attributes: The file's own attributes, with JSON already parsed.
    """

    format = "flowbench-hdf5"
    image_view: ImageView = "geometric"

    def __init__(self, path: str | Path) -> None:
        """Open a file and list what is in it.

        Raises:
            DataError: If it is missing, damaged, not HDF5, not ours, or written by a newer FlowBench.
        """
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = 0
        try:
            data = self._handle().get(DATA)
            if not isinstance(data, h5py.Group) or "flowbench_format" not in data.attrs:
                raise DataError(
                    f"{self.path} is HDF5, but not of `flowbench collect`: /data has no attribute flowbench_format. Other "
                    "formats are opened by flowbench.data.readers.open_demos."
                )
            version = int(data.attrs["flowbench_format"])
            if version > FORMAT_VERSION:
                writer = data.attrs.get("flowbench_version", "unknown")
                raise DataError(
                    f"{self.path} has format {version}, written by FlowBench {writer}; this FlowBench reads formats up to "
                    f"{FORMAT_VERSION}. Update it: pip install -U flowbench"
                )
            self.attributes = {name: _parsed(value) for name, value in data.attrs.items()}
            names = sorted(data, key=_natural)
            self.demos = tuple(self._describe(data[name], name, index) for index, name in enumerate(names))
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, UnicodeDecodeError) as error:
            self.close()
            raise DataError(f"{self.path} is damaged: its list of demonstrations cannot be read ({error}).") from error
        except DataError:
            self.close()
            raise

    def read(self, demo: int, key: str, steps: slice) -> np.ndarray:
        """See `DemoReader.read`."""
        info = self.demos[demo]
        chosen = range(*steps.indices(info.steps))
        if not len(chosen):
            spec = self._spec(demo, key)
            return np.empty((0, *spec.shape), spec.dtype)
        stored = self.stored(demo, key)
        if len(stored) != info.steps:
            raise DataError(
                f"{self.path}, {info.name}: {key} has {len(stored)} rows, and the demonstration {info.steps} steps."
            )
        ascending = chosen if chosen.step > 0 else chosen[::-1]
        try:
            rows = stored[ascending.start : ascending.stop : ascending.step]
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{self.path}, {info.name}: {key} cannot be read at steps {ascending[0]} to {ascending[-1]}: the file is "
                "damaged. Copy or collect it again."
            ) from error
        rows = rows if chosen.step > 0 else rows[::-1]
        if _modality(key) == "depth":
            return decode_depth(rows, float(stored.attrs.get("unit_m", 1.0)))
        return rows.astype(_RETURNED_TYPES.get(_modality(key), rows.dtype), copy=False)

    def group(self, demo: int) -> h5py.Group:
        """Return the group of one demonstration, for what has not one row per step; valid until `close`."""
        return self._handle()[DATA][self.demos[demo].name]

    def demo_attributes(self, demo: int) -> dict[str, Any]:
        """Return the attributes of one demonstration, with JSON already parsed."""
        return {name: _parsed(value) for name, value in self.group(demo).attrs.items()}

    def stored_bytes(self, demo: int) -> dict[str, int]:
        """Return the bytes that every array of one demonstration takes in the file, by key."""
        return {key: self.stored(demo, key).id.get_storage_size() for key in self.demos[demo].arrays}

    def checksum_problems(self, demo: int) -> list[str]:
        """Return one sentence if the arrays of a demonstration are not those that were written."""
        expected = self.group(demo).attrs.get("checksum")
        if expected is None:
            return ["it has no checksum"]
        try:
            found = checksum(self.group(demo))
        except (OSError, RuntimeError) as error:
            return [f"its arrays cannot be read ({error})"]
        return [] if found == expected else ["its arrays were changed or damaged after they were written (checksum)"]

    def close(self) -> None:
        """Free the file; may be called twice."""
        # After a fork the handle is the parent's to close.
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> FlowBenchHdf5:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _handle(self) -> h5py.File:
        if self._file is None or self._process != os.getpid():
            self._file, self._process = open_hdf5(self.path), os.getpid()
        return self._file

    def _describe(self, group: h5py.Group, name: str, index: int) -> DemoInfo:
        attributes = group.attrs
        segmentation_names = _parsed(attributes.get("segmentation_names")) or {}
        success = attributes.get("success")
        return DemoInfo(
            name=name,
            steps=int(attributes["num_samples"]),
            arrays=_LazyArrays(self, index),
            suite=_text(attributes.get("suite")),
            task=_text(attributes.get("task")),
            instruction=_text(attributes.get("instruction")),
            scenario=_text(attributes.get("scenario")),
            success=None if success is None else bool(success),
            segmentation_names={int(number): part for number, part in segmentation_names.items()},
        )

    def _list_arrays(self, demo: int) -> dict[str, ArraySpec]:
        group = self.group(demo)
        obs = group.get(OBS, {})
        # Soft links are other names of the same images, for loaders that look for them.
        names = [name for name in obs if not isinstance(obs.get(name, getlink=True), h5py.SoftLink)]
        stored = {observation_key(name): obs[name] for name in names}
        keys = sorted(stored, key=self._place)
        stored |= {name: group[name] for name in STEP_ARRAYS if name in group}
        return {key: self._declare(demo, key, stored[key]) for key in (*keys, *STEP_ARRAYS) if key in stored}

    def _declare(self, demo: int, key: str, stored: Any) -> ArraySpec:
        modality = _modality(key)
        expected = _SHAPES.get(modality, "(T, ...)")
        shape = getattr(stored, "shape", ())
        fits = len(shape) == expected.count(",") + 1 if modality in _SHAPES else len(shape) > 0
        if not fits or (modality == "rgb" and shape[-1] != 3):
            raise DataError(
                f"{self.path}, {self.demos[demo].name}: {key} has shape {shape}; expected {expected}. The file was not "
                "written by flowbench collect, or is damaged."
            )
        return ArraySpec(shape[1:], _RETURNED_TYPES.get(modality, stored.dtype.name))

    def _place(self, key: str) -> tuple[Any, ...]:
        """Order cameras as they were collected, and RGB before depth; HDF5 lists them by name."""
        camera, _, item = key.rpartition("/")
        if not camera:
            return (1, 0, 0, key)
        cameras = self.attributes.get("cameras") or []
        place = cameras.index(camera) if camera in cameras else len(cameras)
        return (0, place, camera, CAMERA_SUFFIXES.index(item))

    def _spec(self, demo: int, key: str) -> ArraySpec:
        arrays = self.demos[demo].arrays
        if key not in arrays:
            raise unknown_name("array", key, arrays, f"{self.path}, {self.demos[demo].name}")
        return arrays[key]

    def stored(self, demo: int, key: str) -> h5py.Dataset:
        """Return the data set behind a key, as it is stored; valid until `close`."""
        group = self.group(demo)
        camera, _, item = key.rpartition("/")
        name = key if key in STEP_ARRAYS else f"{OBS}/{camera}_{item}" if camera else f"{OBS}/{key}"
        if name not in group:
            self._spec(demo, key)
        return group[name]


class _LazyArrays(Mapping[str, ArraySpec]):
    """What a demonstration holds, looked up when asked: in a file of thousands most are never asked for."""

    def __init__(self, reader: FlowBenchHdf5, demo: int) -> None:
        self._reader = reader
        self._demo = demo
        self._found: dict[str, ArraySpec] | None = None

    def _specs(self) -> dict[str, ArraySpec]:
        if self._found is None:
            self._found = self._reader._list_arrays(self._demo)
        return self._found

    def __getitem__(self, key: str) -> ArraySpec:
        return self._specs()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs())

    def __len__(self) -> int:
        return len(self._specs())

    def __repr__(self) -> str:
        return repr(self._specs())


def _modality(key: str) -> str:
    return key.rpartition("/")[2] if "/" in key else ""


def _natural(name: str) -> list[Any]:
    """Order `demo_2` before `demo_10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode()
    return None if value is None or value == "" else str(value)


def _parsed(value: Any) -> Any:
    """Turn an attribute into plain Python: NumPy scalars to numbers, JSON objects and lists to what they mean."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value
