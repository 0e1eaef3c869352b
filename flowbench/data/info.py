"""What a recording holds, in numbers: tasks, cameras, sizes and the statistics that a learner normalises by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowbench.data.demonstration import DemoInfo, DemoReader
from flowbench.errors import FlowBenchError
from flowbench.registry import get_suite
from flowbench.task import Task

#: Statistics are taken over at most this many demonstrations, evenly spaced, unless all are asked for: folders of small
#: files take minutes to read.
STATISTICS_DEMOS = 500
#: Arrays with statistics by component.
_DESCRIBED = ("actions", "proprio")


@dataclass(frozen=True)
class TaskSummary:
    """One task's demonstrations.

    Attributes:
        suite: Name of the suite, if known.
        task: Name of the task, if known.
        instruction: Its sentence, if known.
        demos: Number of demonstrations.
        steps: Steps of all of them.
        shortest: Steps of the shortest one.
        longest: Steps of the longest one.
        successes: Number that reached the goal; None if the format does not say.
    """

    suite: str | None
    task: str | None
    instruction: str | None
    demos: int
    steps: int
    shortest: int
    longest: int
    successes: int | None


@dataclass(frozen=True)
class CameraSummary:
    """One camera.

    Attributes:
        name: Name of the camera or pose.
        demos: Number of demonstrations that it saw.
        sizes: (width, height) in pixels of its images; several if resolutions are mixed.
        items: What is stored of it, e.g. `("rgb", "depth", "intrinsic_cv")`.
    """

    name: str
    demos: int
    sizes: tuple[tuple[int, int], ...]
    items: tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """One array's values by component.

    Attributes:
        key: `actions` or `proprio`.
        labels: One word per component.
        demos: Number of demonstrations counted.
        steps: Number of steps counted.
        minimum: Smallest value of each component; likewise the others.
        maximum: Largest value.
        mean: Mean.
        std: Standard deviation.
    """

    key: str
    labels: tuple[str, ...]
    demos: int
    steps: int
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class FileSummary:
    """One file or folder.

    Attributes:
        path: Where it lies.
        format: Name of the format.
        image_view: Orientation of the images.
        bytes_on_disk: Size of the file, or of all files in the folder.
        bytes_decoded: Size of all arrays once decoded.
        demos: Number of demonstrations.
        steps: Steps of all of them.
        minutes: Duration of all of them in simulated time.
        steps_per_second: Rates that `minutes` was computed with, by suite; a suite that is not known counts with 20.
        tasks: By suite and task.
        cameras: By name.
        arrays: Keys that are not of a camera.
        statistics: Of actions and proprioception, one per width.
        collected: What was collected and how, as the file says.
    """

    path: str
    format: str
    image_view: str
    bytes_on_disk: int
    bytes_decoded: int
    demos: int
    steps: int
    minutes: float
    steps_per_second: dict[str, float]
    tasks: tuple[TaskSummary, ...]
    cameras: tuple[CameraSummary, ...]
    arrays: tuple[str, ...]
    statistics: tuple[Statistics, ...]
    collected: dict[str, Any] = field(default_factory=dict)

    @property
    def compression(self) -> float:
        """Decoded size over size on disk."""
        return self.bytes_decoded / max(1, self.bytes_on_disk)

    @property
    def megabytes_per_minute(self) -> float:
        """Size on disk in 10^6 bytes per minute of demonstration."""
        return self.bytes_on_disk / 1e6 / self.minutes if self.minutes else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            **asdict(self),
            "compression": round(self.compression, 3),
            "megabytes_per_minute": None if not self.minutes else round(self.megabytes_per_minute, 3),
        }


def summarise(reader: DemoReader, *, all_demos: bool = False) -> FileSummary:
    """Describe a recording; images are not decoded.

    Args:
        reader: The recording.
        all_demos: Take statistics over every demonstration, however many there are.

    Raises:
        DataError: If actions or proprioception cannot be read.
    """
    rates = {suite: _steps_per_second(suite) for suite in {info.suite for info in reader.demos}}
    return FileSummary(
        path=str(reader.path),
        format=reader.format,
        image_view=reader.image_view,
        bytes_on_disk=size_on_disk(reader.path),
        bytes_decoded=sum(info.steps * _bytes_per_step(info) for info in reader.demos),
        demos=len(reader.demos),
        steps=sum(info.steps for info in reader.demos),
        minutes=sum(info.steps / rates[info.suite] for info in reader.demos) / 60,
        steps_per_second={suite or "unknown": rate for suite, rate in rates.items()},
        tasks=_tasks(reader.demos),
        cameras=_cameras(reader.demos),
        arrays=tuple(dict.fromkeys(key for info in reader.demos for key in info.arrays if "/" not in key)),
        statistics=_statistics(reader, all_demos),
        collected=_collected(reader),
    )


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def known_task(info: DemoInfo) -> Task | None:
    """Return a demonstration's task, if its suite is one of ours."""
    if info.suite is None or info.task is None:
        return None
    try:
        return get_suite(info.suite).task(info.task)
    except (FlowBenchError, ImportError):
        return None


def _steps_per_second(suite: str | None) -> float:
    try:
        return get_suite(suite).control_hz if suite else 20.0
    except (FlowBenchError, ImportError):
        return 20.0


def _bytes_per_step(info: DemoInfo) -> int:
    return sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in info.arrays.values())


def _tasks(demos: Iterable[DemoInfo]) -> tuple[TaskSummary, ...]:
    groups: dict[tuple[str | None, ...], list[DemoInfo]] = {}
    for info in demos:
        # Without task names the instruction tells tasks apart.
        groups.setdefault((info.suite, info.task, None if info.task else info.instruction), []).append(info)
    return tuple(
        TaskSummary(
            suite=group[0].suite,
            task=group[0].task,
            instruction=group[0].instruction,
            demos=len(group),
            steps=sum(info.steps for info in group),
            shortest=min(info.steps for info in group),
            longest=max(info.steps for info in group),
            successes=None if any(info.success is None for info in group) else sum(map(_succeeded, group)),
        )
        for group in groups.values()
    )


def _succeeded(info: DemoInfo) -> bool:
    return bool(info.success)


def _cameras(demos: Iterable[DemoInfo]) -> tuple[CameraSummary, ...]:
    count: dict[str, int] = {}
    sizes: dict[str, dict[tuple[int, int], None]] = {}
    items: dict[str, dict[str, None]] = {}
    for info in demos:
        for camera in info.cameras:
            count[camera] = count.get(camera, 0) + 1
        for key, spec in info.arrays.items():
            camera, _, item = key.rpartition("/")
            if not camera:
                continue
            items.setdefault(camera, {})[item] = None
            if item in ("rgb", "depth", "segmentation"):
                sizes.setdefault(camera, {})[spec.shape[1], spec.shape[0]] = None
    return tuple(CameraSummary(name, count[name], tuple(sizes.get(name, ())), tuple(items[name])) for name in count)


class _Moments(NamedTuple):
    """Running count, extremes, mean and squared deviation (Chan, Golub and LeVeque 1983)."""

    demos: int
    steps: int
    minimum: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> _Moments:
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        return cls(1, len(rows), rows.min(axis=0), rows.max(axis=0), mean, ((rows - mean) ** 2).sum(axis=0))

    def join(self, other: _Moments) -> _Moments:
        steps = self.steps + other.steps
        apart = other.mean - self.mean
        return _Moments(
            self.demos + other.demos,
            steps,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
            self.mean + apart * other.steps / steps,
            self.deviation + other.deviation + apart**2 * self.steps * other.steps / steps,
        )


def _statistics(reader: DemoReader, all_demos: bool) -> tuple[Statistics, ...]:
    number = len(reader.demos)
    chosen = range(number)
    if number > STATISTICS_DEMOS and not all_demos:
        chosen = np.linspace(0, number - 1, STATISTICS_DEMOS).round().astype(int).tolist()
    moments: dict[tuple[str, tuple[str, ...]], list[_Moments]] = {}
    for demo in chosen:
        info = reader.demos[demo]
        for key in _DESCRIBED:
            if key in info.arrays and info.steps and len(info.arrays[key].shape) == 1:
                labels = _labels(info, key)
                moments.setdefault((key, labels), []).append(_Moments.of(reader.read(demo, key, slice(None))))
    found = []
    for (key, labels), parts in moments.items():
        whole = reduce(_Moments.join, parts)
        std = np.sqrt(whole.deviation / whole.steps)
        columns = (tuple(values.tolist()) for values in (whole.minimum, whole.maximum, whole.mean, std))
        found.append(Statistics(key, labels, whole.demos, whole.steps, *columns))
    return tuple(found)


def _labels(info: DemoInfo, key: str) -> tuple[str, ...]:
    """Name the components: actions as the suite does, others by number."""
    width = info.arrays[key].shape[0]
    task = known_task(info) if key == "actions" else None
    if task is not None and task.action_spec.size == width:
        return task.action_spec.labels
    return tuple(f"{key}[{index}]" for index in range(width))


def _collected(reader: DemoReader) -> dict[str, Any]:
    """Return the file's own account, without what is already shown and without whole files that are embedded in it."""
    shown = {"total", "num_demos", "cameras", "problem_info", "bddl_file_content"}
    attributes = getattr(reader, "attributes", None) or {}
    return {name: value for name, value in attributes.items() if name not in shown}
