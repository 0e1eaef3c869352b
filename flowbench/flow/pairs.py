"""Image pairs with exact flow on disk: what flow networks are trained and measured on.

A set is a folder with one HDF5 file per scene (a task and a seed), each there whole or not at all, so that making a set can
be interrupted at any moment. Pairs carry where they come from, and splits are made from that when they are read: by seed,
by camera, by task, by suite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from flowbench.atomic import write_atomically
from flowbench.camera import CameraPose
from flowbench.errors import DataError

#: Raised when files of a set can no longer be read by an older FlowBench.
FORMAT_VERSION = 1

# Bits of the mask image.
VISIBLE, MOVING, TARGET, ROBOT = 1, 2, 4, 8


@dataclass(frozen=True)
class PairInfo:
    """Where a pair comes from.

    Attributes:
        suite: Name of the suite.
        task: Name of the task.
        seed: Scenario seed.
        camera: Text of the camera pose.
        profile: Render profile, `full` or `fast`.
        steps: Agent steps from the first image to the second; negative where time runs backwards.
        plan: Whether the two are neighbours in an eight-frame plan.
        scale: Pixels of the pair per pixel of the rendered image.
    """

    suite: str
    task: str
    seed: int
    camera: str
    profile: str
    steps: int
    plan: bool
    scale: float = 1.0

    @property
    def view(self) -> str:
        """Name of the camera, without its displacement."""
        return CameraPose.parse(self.camera).view


class Pairs(NamedTuple):
    """B pairs.

    Attributes:
        first: uint8 (B, H, W, 3).
        second: uint8 (B, H, W, 3).
        flow_px: float16 (B, H, W, 2) exact flow from the first to the second, pixels right and down; 0 where it is not
            finite or too large for a float16, which is then not visible either.
        masks: uint8 (B, H, W), bits `VISIBLE` (the point is seen in the second image), `MOVING` (it moved in the world),
            `TARGET` (it belongs to what the task is about), `ROBOT`.
        objects: uint8 (B, H, W) object ids, for telling them apart; 0 is background.
    """

    first: np.ndarray
    second: np.ndarray
    flow_px: np.ndarray
    masks: np.ndarray
    objects: np.ndarray

    def has(self, bit: int) -> np.ndarray:
        """Return the bool (B, H, W) mask of a bit."""
        return (self.masks & bit) > 0


def write_pairs(path: Path, pairs: Pairs, infos: Sequence[PairInfo]) -> None:
    """Write one scene's pairs; the file is there whole or not at all.

    Raises:
        BadValue: If it cannot be written.
    """

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT_VERSION
            file.attrs["pairs"] = json.dumps([asdict(info) for info in infos])
            for name, array in pairs._asdict().items():
                # A chunk per pair, because training reads them in random order; shuffling bytes halves the flow.
                chunks = (1, *array.shape[1:]) if len(array) else None
                options = {
                    "chunks": chunks,
                    "compression": "gzip",
                    "compression_opts": 2,
                    "shuffle": array.itemsize > 1,
                }
                file.create_dataset(name, data=array, **(options if len(array) else {}))

    write_atomically(path, write, option="The set of pairs")


class PairSet:
    """A folder of pairs, read by number.

    Example:
        >>> pairs = PairSet(folder)  # doctest: +SKIP
        >>> some = pairs.read(pairs.where(task=("hammer",))[:8])  # doctest: +SKIP
    """

    def __init__(self, folder: Path | str) -> None:
        """Read where every pair comes from.

        Raises:
            DataError: If the folder holds no pairs, or they are of a newer format.
        """
        self.folder = Path(folder)
        self.paths = sorted(self.folder.rglob("*.h5"))
        self.infos: list[PairInfo] = []
        self._places: list[tuple[int, int]] = []
        for number, path in enumerate(self.paths):
            infos = _read_infos(path)
            self.infos += infos
            self._places += [(number, index) for index in range(len(infos))]
        if not self.infos:
            raise DataError(
                f"{self.folder} holds no pairs with exact flow. Make some: flowbench flow-pairs --suite NAME --out DIR"
            )
        self._open: dict[int, h5py.File] = {}

    def __len__(self) -> int:
        return len(self.infos)

    def where(self, **allowed: Sequence[Any]) -> np.ndarray:
        """Return the numbers of the pairs whose fields (or `view`) are among those given."""
        keep = np.ones(len(self), dtype=bool)
        for name, values in allowed.items():
            keep &= np.isin(self.column(name), list(values))
        return np.flatnonzero(keep)

    def column(self, name: str) -> np.ndarray:
        """Return (N,) one field of every pair's info, or its `view`."""
        return self._columns[name]

    def read(self, numbers: Sequence[int] | np.ndarray) -> Pairs:
        """Read pairs, in the order asked for."""
        arrays: dict[str, list[np.ndarray]] = {name: [] for name in Pairs._fields}
        for number in numbers:
            file, index = self._places[int(number)]
            if file not in self._open:
                self._open[file] = h5py.File(self.paths[file], "r")
            for name, values in arrays.items():
                values.append(self._open[file][name][index])
        return Pairs(**{name: np.stack(values) for name, values in arrays.items()})

    def close(self) -> None:
        """Close the files; a later `read` opens them again."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    @cached_property
    def _columns(self) -> Mapping[str, np.ndarray]:
        names = (*PairInfo.__dataclass_fields__, "view")
        return {name: np.array([getattr(info, name) for info in self.infos]) for name in names}


def _read_infos(path: Path) -> list[PairInfo]:
    try:
        with h5py.File(path, "r") as file:
            version = int(file.attrs.get("format", 0))
            stored = json.loads(file.attrs["pairs"])
    except (OSError, KeyError) as error:
        raise DataError(
            f"{path} is not a file of pairs with exact flow ({error}). Delete it and make the set again."
        ) from error
    if version > FORMAT_VERSION:
        raise DataError(f"{path} has format {version}; this FlowBench reads formats up to {FORMAT_VERSION}. Update it.")
    return [PairInfo(**info) for info in stored]
