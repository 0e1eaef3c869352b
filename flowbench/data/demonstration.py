"""The one shape in which demonstrations of every format reach a learner: what there is, and how to read a part of it.

A reader knows one file format. Everything above it (windows, statistics, pictures, checks) is written once, for this
protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from flowbench.task import ImageView


class ArraySpec(NamedTuple):
    """The shape and type of one step of an array.

    Attributes:
        shape: Shape without the time axis.
        dtype: NumPy name of the type that `read` returns, e.g. `"uint8"`.
    """

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class DemoInfo:
    """One demonstration, without its arrays.

    Row t of every array belongs to the same moment: what was seen and where things stood before action t was taken.

    Attributes:
        name: Name within its file or folder, e.g. `"demo_0"`.
        steps: Number of steps T; every array has T rows.
        arrays: What can be read, by key. Keys are those of an observation (`"<camera>/rgb"` uint8 (H, W, 3) upright,
            `"<camera>/depth"` float32 (H, W) metres with 0 for nothing, `"<camera>/segmentation"` int32 (H, W),
            `"<camera>/intrinsic_cv"`, `"<camera>/extrinsic_cv"`, `"proprio"`), and `"actions"` (A,), `"rewards"` (),
            `"states"` (S,) where the format has them.
        suite: Name of the suite, if known.
        task: Name of the task within the suite, if known.
        instruction: The task's sentence, if known.
        scenario: Key of the scenario it started from, if known.
        success: Whether it reached its goal; None if the format does not say.
        segmentation_names: Name of every object id in its segmentation.
    """

    name: str
    steps: int
    arrays: Mapping[str, ArraySpec]
    suite: str | None = None
    task: str | None = None
    instruction: str | None = None
    scenario: str | None = None
    success: bool | None = None
    segmentation_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras with at least one array, in the order of the arrays."""
        return tuple(dict.fromkeys(key.rpartition("/")[0] for key in self.arrays if "/" in key))


class DemoReader(Protocol):
    """Demonstrations of one file or folder.

    A reader is cheap to open, can be pickled (a worker process opens the file for itself), and decodes only the steps that
    it is asked for.

    Attributes:
        format: Name of the format, e.g. `"libero-hdf5"`.
        path: The file or folder.
        demos: Every demonstration, in the file's order.
        image_view: `geometric` for upright images that are not mirrored; `policy` where the recording is mirrored and
            could not be turned without changing what a checkpoint saw. What a format stores otherwise (bottom-up rows) is
            undone by its reader, and declared there.
    """

    format: str
    path: Path
    demos: tuple[DemoInfo, ...]
    image_view: ImageView

    def read(self, demo: int, key: str, steps: slice) -> np.ndarray:
        """Return rows of one array.

        Args:
            demo: Index into `demos`.
            key: One of that demonstration's `arrays`.
            steps: Which steps; `slice(None)` for all.

        Returns:
            An array (N, ...) as declared by the key's `ArraySpec`.

        Raises:
            UnknownName: If the demonstration has no such array; the message lists those it has.
            DataError: If the stored bytes cannot be read.
        """
        ...

    def close(self) -> None:
        """Free the file; may be called twice. A later `read` opens it again."""
        ...
