"""Windows of demonstrations, as learners want them: any format, any mixture, only the needed steps decoded.

A `DemoDataset` is map-style (`len`, `[index]`), returns NumPy arrays, and can be pickled and forked, so
`torch.utils.data.DataLoader` takes it as it is; torch itself is not needed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from flowbench.data.demonstration import ArraySpec, DemoInfo, DemoReader
from flowbench.data.readers import demo_files, open_demos
from flowbench.errors import BadValue, DataError, unknown_name

Source = str | os.PathLike[str] | DemoReader
#: Keys of what is done in a step rather than seen before it: they take `horizon`, all others `history`.
FUTURE_KEYS = frozenset({"actions", "expert_actions", "rewards", "dones"})
#: Vectors that are normalised before learning.
NORMALISED_KEYS = ("actions", "proprio")
#: Added to a key for the mask of its padded steps, as LeRobot names it.
PAD_SUFFIX = "_is_pad"


@dataclass(frozen=True)
class Window:
    """Which steps belong to one sample, relative to its step t.

    Attributes:
        horizon: Number of actions: t, t + 1, ..., t + horizon - 1.
        history: Number of observations: t - history + 1, ..., t.
        stride: Steps between the t of one sample and the next.
        padding: At the ends of a demonstration, `repeat` the first or last step and mark it in the mask; or `drop` samples
            that do not fit.
        offsets: Steps relative to t of single keys instead, e.g. `{"corner/rgb": (0, 4, 8)}` for a video of the future.
    """

    horizon: int = 1
    history: int = 1
    stride: int = 1
    padding: Literal["repeat", "drop"] = "repeat"
    offsets: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("horizon", "history", "stride"):
            if getattr(self, name) < 1:
                raise BadValue(f"{name} of a window is {getattr(self, name)}; it is at least 1.")
        if self.padding not in ("repeat", "drop"):
            raise BadValue(f"padding of a window is {self.padding!r}; it is 'repeat' or 'drop'.")
        for key, offsets in self.offsets.items():
            if not len(offsets):
                raise BadValue(f"offsets of {key!r} are empty; name at least one step, e.g. (0,).")

    def offsets_of(self, key: str) -> np.ndarray:
        """Return the steps of a key relative to t, int64 (N,)."""
        if key in self.offsets:
            return np.asarray(self.offsets[key], dtype=np.int64)
        return np.arange(self.horizon) if key in FUTURE_KEYS else np.arange(1 - self.history, 1)


@dataclass(frozen=True)
class Subset:
    """Which demonstrations take part. Everything is drawn from the seed, task by task, and nested: half of the data
    contains its tenth.

    Attributes:
        tasks: Names of tasks, or their instructions where the format has no names; empty for all.
        demos: Names of demonstrations; empty for all.
        split: `train` or `validation`, which share no demonstration; None for both.
        validation_fraction: Share of each task's demonstrations in `validation`, rounded, at least one of two or more.
        fraction: Share of each task's (remaining) demonstrations, rounded up.
        limit_per_task: At most so many demonstrations of each task.
        successful: Leave out demonstrations that are known to have failed.
        seed: Of all draws.
    """

    tasks: tuple[str, ...] = ()
    demos: tuple[str, ...] = ()
    split: Literal["train", "validation"] | None = None
    validation_fraction: float = 0.1
    fraction: float = 1.0
    limit_per_task: int | None = None
    successful: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in (None, "train", "validation"):
            raise BadValue(f"split is {self.split!r}; it is 'train', 'validation' or None.")
        if not 0 <= self.validation_fraction < 1:
            raise BadValue(f"validation_fraction is {self.validation_fraction}; it is at least 0 and below 1.")
        if not 0 < self.fraction <= 1:
            raise BadValue(f"fraction is {self.fraction}; it is above 0 and at most 1.")
        if self.limit_per_task is not None and self.limit_per_task < 1:
            raise BadValue(f"limit_per_task is {self.limit_per_task}; it is at least 1.")

    def draw(self, task: str, count: int) -> list[int]:
        """Return which of a task's demonstrations take part, ascending."""
        order = np.random.default_rng([self.seed, zlib.crc32(task.encode())]).permutation(count)
        if self.split:
            held_out = round(count * self.validation_fraction)
            if self.validation_fraction and count > 1:
                held_out = min(max(held_out, 1), count - 1)
            order = order[:held_out] if self.split == "validation" else order[held_out:]
        order = order[: int(np.ceil(len(order) * self.fraction - 1e-9))]
        return sorted(int(index) for index in order[: self.limit_per_task])


class ArrayStatistics(NamedTuple):
    """Statistics of a vector over all steps, each float64 of the vector's shape.

    Attributes:
        mean: Mean.
        std: Standard deviation (of the population).
        min: Smallest value.
        max: Largest value.
        count: Number of steps.
    """

    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    count: int


class Origin(NamedTuple):
    """Where a demonstration that takes part comes from.

    Attributes:
        reader: What reads it.
        demo: Its index in `reader.demos`.
        keys: Key of a sample -> key of the reader.
        camera: The camera that it is seen through, with `cameras="each"`; else "".
    """

    reader: DemoReader
    demo: int
    keys: Mapping[str, str]
    camera: str


class _Sequence(NamedTuple):
    """One demonstration as seen through one set of names."""

    reader: int
    demo: int
    #: Key of a sample -> key of the reader.
    keys: dict[str, str]
    #: The camera that the sequence is about, where each has its own; else "".
    camera: str


class DemoDataset:
    """Windows of demonstrations, by number.

    A sample is a dict: each key's array (N, ...) with one row per step of its window, `"<key>_is_pad"` bool (N,), and
    `"instruction"`, `"task"` and `"camera"` (each "" if unknown), `"demo"` (index into `infos`) and `"step"` t.
    float64 arrays become float32, as networks compute.

    Example:
        >>> from flowbench.data.dataset import DemoDataset, Window
        >>> dataset = DemoDataset("d.h5", keys=("corner/rgb", "actions"), window=Window(horizon=16))  # doctest: +SKIP
        >>> dataset[0]["actions"].shape  # doctest: +SKIP
        (16, 4)
    """

    def __init__(
        self,
        sources: Source | Iterable[Source],
        keys: Iterable[str] | None = None,
        *,
        window: Window = Window(),
        subset: Subset = Subset(),
        cameras: Mapping[str, str] | Literal["each"] | None = None,
    ) -> None:
        """Open demonstrations.

        Args:
            sources: A file, a folder, a reader, or several; a folder of HDF5 files stands for its files.
            keys: What a sample holds; None for everything that the first demonstration has.
            window: Which steps belong to a sample.
            subset: Which demonstrations take part.
            cameras: New names by camera, e.g. `{"agentview": "view", "static": "view"}` to mix suites; or `"each"`, which
                makes a sequence of every camera of every demonstration, under the one name `camera` (AVDC's training set:
                one video per camera).

        Raises:
            DataError: If nothing remains, or demonstrations do not fit together: the message names two that differ.
            UnknownName: If a task, demonstration or key does not exist.
        """
        self.window = window
        self.readers = _opened(sources)
        chosen = _chosen(self.readers, subset)
        sequences = [
            sequence for reader, demo in chosen for sequence in _views(reader, demo, self.readers[reader], cameras)
        ]
        if not sequences:
            raise DataError(f"None of the demonstrations in {_paths(self.readers)} has a camera.")
        self.keys = tuple(sequences[0].keys) if keys is None else tuple(keys)
        self._sequences = self._only_keys(sequences)
        self._check_alike()
        # Worker processes that are forked now inherit no open file.
        self.close()
        self._offsets = {key: window.offsets_of(key) for key in self.keys}
        self._starts = np.concatenate([[0], np.cumsum([len(self._steps(sequence)) for sequence in self._sequences])])
        if not len(self):
            longest = max(self._info(sequence).steps for sequence in self._sequences)
            raise DataError(
                f"No window fits into {_paths(self.readers)}: the longest demonstration has {longest} steps. Shorten "
                "horizon or history, or use padding='repeat'."
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample, decoding only its steps."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        sequence = self._sequences[number]
        info = self._info(sequence)
        step = self._steps(sequence)[index - int(self._starts[number])]
        sample: dict[str, Any] = {}
        for key in self.keys:
            wanted = step + self._offsets[key]
            inside = np.clip(wanted, 0, info.steps - 1)
            sample[key] = self._read(sequence, key, inside)
            sample[key + PAD_SUFFIX] = wanted != inside
        sample |= {"instruction": info.instruction or "", "task": info.task or "", "camera": sequence.camera}
        return sample | {"demo": number, "step": step}

    @cached_property
    def infos(self) -> tuple[DemoInfo, ...]:
        """The demonstrations that take part; with `cameras="each"`, one entry per camera."""
        return tuple(self._info(sequence) for sequence in self._sequences)

    @cached_property
    def origins(self) -> tuple[Origin, ...]:
        """Where each of `infos` comes from, for those who keep decoded arrays."""
        return tuple(
            Origin(self.readers[sequence.reader], sequence.demo, sequence.keys, sequence.camera)
            for sequence in self._sequences
        )

    @cached_property
    def places(self) -> np.ndarray:
        """int64 (N, 2): for every sample, the index of its demonstration in `infos` and its step t."""
        steps = [self._steps(sequence) for sequence in self._sequences]
        return np.array([(number, step) for number, own in enumerate(steps) for step in own], np.int64).reshape(-1, 2)

    @cached_property
    def specs(self) -> dict[str, ArraySpec]:
        """Shape and type of one step of every key, as samples have them."""
        return {key: self._spec(self._sequences[0], key) for key in self.keys}

    def statistics(self, keys: Iterable[str] = NORMALISED_KEYS) -> dict[str, ArrayStatistics]:
        """Return statistics of vectors over every step of every demonstration that takes part.

        Read once, in one pass, and kept; padding does not count.

        Args:
            keys: Vectors; those that the data set does not hold are passed over.
        """
        wanted = [key for key in keys if key in self.keys]
        for key in wanted:
            if key not in self._statistics:
                # The cameras of one demonstration share its vectors.
                once = {(sequence.reader, sequence.demo): sequence for sequence in self._sequences}
                self._statistics[key] = _statistics(
                    self._read(sequence, key, slice(None)) for sequence in once.values()
                )
        return {key: self._statistics[key] for key in wanted}

    def close(self) -> None:
        """Free every file; they are opened again when something is read."""
        for reader in self.readers:
            reader.close()

    @cached_property
    def _statistics(self) -> dict[str, ArrayStatistics]:
        return {}

    def _info(self, sequence: _Sequence) -> DemoInfo:
        return self.readers[sequence.reader].demos[sequence.demo]

    def _where(self, sequence: _Sequence) -> str:
        return f"{self._info(sequence).name} of {self.readers[sequence.reader].path}"

    def _spec(self, sequence: _Sequence, key: str) -> ArraySpec:
        spec = self._info(sequence).arrays[sequence.keys[key]]
        return ArraySpec(tuple(spec.shape), "float32" if spec.dtype == "float64" else spec.dtype)

    def _only_keys(self, sequences: list[_Sequence]) -> list[_Sequence]:
        """Return the sequences with the data set's keys only.

        Raises:
            UnknownName: If a key is nowhere.
            DataError: If a key is not everywhere.
        """
        for key in self.keys:
            having = [sequence for sequence in sequences if key in sequence.keys]
            if not having:
                names = dict.fromkeys(name for sequence in sequences for name in sequence.keys)
                raise unknown_name("array", key, names, f"The data in {_paths(self.readers)}")
            if len(having) < len(sequences):
                lacking = next(sequence for sequence in sequences if key not in sequence.keys)
                raise DataError(
                    f"{self._where(lacking)} has no {key}, which {self._where(having[0])} has; it has "
                    f"{', '.join(lacking.keys)}. Name keys that all have, or rename cameras with `cameras`."
                )
        return [sequence._replace(keys={key: sequence.keys[key] for key in self.keys}) for sequence in sequences]

    def _check_alike(self) -> None:
        """Check that every sequence gives arrays of one shape and type, and that either all images are mirrored or none."""
        first = self._sequences[0]
        with_images = self._sequences if any("/" in key for key in self.keys) else []
        views = {self.readers[sequence.reader].image_view: self._where(sequence) for sequence in with_images}
        if len(views) > 1:
            raise DataError(
                f"Images of {views['policy']} are mirrored, and those of {views['geometric']} are not. Open one of them "
                "with open_demos in the other's image view (avdc-png: image_view='geometric'), or use one kind."
            )
        for sequence in self._sequences[1:]:
            for key in self.keys:
                expected, found = self._spec(first, key), self._spec(sequence, key)
                if expected != found:
                    raise DataError(
                        f"{key} of {self._where(sequence)} is {found.dtype} of shape {found.shape}, but that of "
                        f"{self._where(first)} is {expected.dtype} of shape {expected.shape}. One data set has one of each; "
                        "leave the key out, or make a data set of each kind."
                    )

    def _steps(self, sequence: _Sequence) -> range:
        """Return the t of every window of a sequence."""
        first, last = 0, self._info(sequence).steps - 1
        if self.window.padding == "drop":
            first = max(0, -min(int(offsets.min()) for offsets in self._offsets.values()))
            last -= max(0, max(int(offsets.max()) for offsets in self._offsets.values()))
        return range(first, last + 1, self.window.stride)

    def _read(self, sequence: _Sequence, key: str, steps: np.ndarray | slice) -> np.ndarray:
        """Return steps of one array, each decoded once."""
        reader, stored = self.readers[sequence.reader], sequence.keys[key]
        if isinstance(steps, slice):
            values = reader.read(sequence.demo, stored, steps)
        else:
            needed, places = np.unique(steps, return_inverse=True)
            runs = [reader.read(sequence.demo, stored, run) for run in _runs(needed)]
            values = np.concatenate(runs)[places] if len(runs) > 1 or len(places) > len(needed) else runs[0][places]
        return np.require(values, self._spec(sequence, key).dtype, ["C", "W"])


def _opened(sources: Source | Iterable[Source]) -> list[DemoReader]:
    """Return a reader of every source, each known format told by content."""
    if isinstance(sources, (str, os.PathLike)) or hasattr(sources, "demos"):
        sources = [sources]
    readers: list[DemoReader] = []
    for source in sources:
        if hasattr(source, "demos"):
            readers.append(source)
            continue
        readers += [open_demos(file) for file in demo_files(Path(source))]
    if not readers:
        raise DataError("There is nothing to read: the list of sources is empty.")
    return readers


def _chosen(readers: list[DemoReader], subset: Subset) -> list[tuple[int, int]]:
    """Return (reader, demonstration) of all that take part, in order.

    Raises:
        UnknownName: If a task or demonstration of the subset does not exist.
        DataError: If none takes part.
    """
    everything = [
        (reader, demo, info) for reader, opened in enumerate(readers) for demo, info in enumerate(opened.demos)
    ]
    if not everything:
        raise DataError(f"There are no demonstrations in {_paths(readers)}.")
    for kind, asked, there in (
        ("task", subset.tasks, {_task(info) for *_, info in everything}),
        ("demonstration", subset.demos, {info.name for *_, info in everything}),
    ):
        for name in asked:
            if name not in there:
                raise unknown_name(kind, name, there, f"The data in {_paths(readers)}")
    by_task: dict[str, list[tuple[int, int]]] = {}
    for reader, demo, info in everything:
        wanted = (not subset.tasks or _task(info) in subset.tasks) and (not subset.demos or info.name in subset.demos)
        if wanted and info.steps and not (subset.successful and info.success is False):
            by_task.setdefault(f"{info.suite or ''}/{_task(info)}", []).append((reader, demo))
    chosen = sorted(demos[index] for task, demos in by_task.items() for index in subset.draw(task, len(demos)))
    if not chosen:
        failed = sum(info.success is False for *_, info in everything)
        raise DataError(
            f"None of the {len(everything)} demonstrations in {_paths(readers)} takes part ({failed} of them failed): "
            f"{subset} leaves nothing."
        )
    return chosen


def _task(info: DemoInfo) -> str:
    """Return the name of a demonstration's task, or its sentence where the format has no names."""
    return info.task or info.instruction or ""


def _views(
    reader: int, demo: int, opened: DemoReader, cameras: Mapping[str, str] | Literal["each"] | None
) -> list[_Sequence]:
    """Return the sequences that a demonstration stands for, each with every key under its new name."""
    info = opened.demos[demo]
    if cameras == "each":
        plain = {key: key for key in info.arrays if "/" not in key}
        return [
            _Sequence(
                reader,
                demo,
                {f"camera/{key.rpartition('/')[2]}": key for key in info.arrays if key.rpartition("/")[0] == camera}
                | plain,
                camera,
            )
            for camera in info.cameras
        ]
    keys: dict[str, str] = {}
    for key in info.arrays:
        camera, slash, item = key.rpartition("/")
        new = (cameras or {}).get(camera, camera) + slash + item
        if new in keys:
            raise BadValue(
                f"Renaming cameras gives two arrays the name {new} in {info.name} of {opened.path}: {keys[new]} and {key}. "
                "Use cameras='each' for one sequence per camera."
            )
        keys[new] = key
    return [_Sequence(reader, demo, keys, "")]


def _runs(steps: np.ndarray) -> list[slice]:
    """Return ascending steps as slices: one if they are evenly spaced, else one per unbroken stretch."""
    if len(steps) == 1:
        return [slice(int(steps[0]), int(steps[0]) + 1)]
    gaps = np.diff(steps)
    if (gaps == gaps[0]).all():
        return [slice(int(steps[0]), int(steps[-1]) + 1, int(gaps[0]))]
    return [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(steps, np.flatnonzero(gaps != 1) + 1)]


def _statistics(parts: Iterable[np.ndarray]) -> ArrayStatistics:
    """Combine the statistics of parts, each (T, ...), one at a time (Chan, Golub and LeVeque 1979)."""
    count, mean, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
    for part in parts:
        values = part.astype(np.float64)
        own_mean, total = values.mean(axis=0), count + len(values)
        difference = own_mean - mean
        squares += ((values - own_mean) ** 2).sum(axis=0) + difference**2 * count * len(values) / total
        mean += difference * len(values) / total
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
        count = total
    return ArrayStatistics(np.asarray(mean), np.sqrt(squares / count), low, high, count)


def _paths(readers: list[DemoReader]) -> str:
    more = f" and {len(readers) - 1} more" if len(readers) > 1 else ""
    return f"{readers[0].path}{more}"
