"""What every reader does alike: look a key up, take any slice, and return exactly what was declared."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import h5py
import numpy as np

from flowbench.data.demonstration import DemoInfo
from flowbench.data.readers import HDF5_DAMAGE
from flowbench.errors import DataError, unknown_name
from flowbench.task import ImageView


class RowReader(ABC):
    """A `DemoReader` whose subclass reads ascending rows of a key that exists."""

    format: str
    path: Path
    demos: tuple[DemoInfo, ...]
    image_view: ImageView = "geometric"

    @abstractmethod
    def _rows(self, demo: int, key: str, rows: range) -> np.ndarray:
        """Return the rows of a non-empty, ascending range; they are checked and converted afterwards."""

    def read(self, demo: int, key: str, steps: slice) -> np.ndarray:
        """Return rows of one array; see `flowbench.data.demonstration.DemoReader.read`."""
        info = self.demos[demo]
        if key not in info.arrays:
            raise unknown_name("array", key, info.arrays, f"Demonstration {info.name} of {self.path}")
        spec = info.arrays[key]
        wanted = range(info.steps)[steps]
        if not wanted:
            return np.empty((0, *spec.shape), dtype=spec.dtype)
        backwards = wanted.step < 0
        values = self._rows(demo, key, wanted[::-1] if backwards else wanted)
        if values.shape != (len(wanted), *spec.shape):
            raise DataError(
                f"{key} of {info.name} in {self.path} has shape {values.shape} for {len(wanted)} steps; "
                f"expected {(len(wanted), *spec.shape)}, as at its first step."
            )
        # torch takes neither negative strides nor read-only memory.
        return np.require(values[::-1] if backwards else values, spec.dtype, ["C", "W"])

    def close(self) -> None:  # noqa: B027 - folders of small files have nothing to free
        """Free the file; may be called twice, and a later `read` opens it again."""

    def __enter__(self) -> RowReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


Resource = TypeVar("Resource")


class PerProcess(Generic[Resource]):
    """A resource that each process opens for itself on first use, e.g. an HDF5 file: neither pickled nor shared by fork.

    Args:
        open_resource: Opens it; must be picklable, e.g. a `functools.partial` of a function.
    """

    def __init__(self, open_resource: Callable[[], Resource]) -> None:
        self._open = open_resource
        self._resource: Resource | None = None
        self._process = 0

    def get(self) -> Resource:
        """Return this process's own."""
        if self._resource is None or self._process != os.getpid():
            # HDF5 would hand out the parent's file again if the inherited one stayed open.
            self.close()
            self._resource = self._open()
            self._process = os.getpid()
        return self._resource

    def close(self) -> None:
        """Close it, if it is open and can be closed."""
        close = getattr(self._resource, "close", None)
        self._resource = None
        if close:
            close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": self._open, "_resource": None, "_process": 0}


def read_hdf5(path: Path, dataset: str, file: h5py.File, rows: range) -> np.ndarray:
    """Return rows of a data set.

    Raises:
        DataError: If they cannot be decoded.
    """
    try:
        return file[dataset][rows.start : rows.stop : rows.step]
    except HDF5_DAMAGE as error:
        raise DataError(f"/{dataset} of {path} cannot be read: {error}. Record or download the file again.") from error
