"""How success depends on where the camera stands: heat maps of task x pose, and curves along one displacement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flowbench.camera import OFFSET_KINDS, CameraPose
from flowbench.tables import Score

#: With fewer poses along an axis a table says it better.
_LEAST_POSES = 3


@dataclass(frozen=True)
class HeatMap:
    """Success of one run, task by camera pose.

    Attributes:
        run: Index of the run in the report.
        tasks: Row names.
        cameras: Column names.
        scores: One tuple per task with one score per camera; None where the run has no such cell.
        totals: One score per camera, over all tasks.
    """

    run: int
    tasks: tuple[str, ...]
    cameras: tuple[str, ...]
    scores: tuple[tuple[Score | None, ...], ...]
    totals: tuple[Score | None, ...]


@dataclass(frozen=True)
class CameraSweep:
    """Success over all tasks while one camera is displaced along one axis.

    Attributes:
        view: Name of the camera.
        kind: Offset that changes, a key of `OFFSET_KINDS`.
        meaning: What that offset does, with its unit.
        values: Offsets, ascending; 0 is the camera itself.
        cameras: The pose of each value.
        scores: One tuple per run with one score per value; None where the run has no such pose.
    """

    view: str
    kind: str
    meaning: str
    values: tuple[float, ...]
    cameras: tuple[str, ...]
    scores: tuple[tuple[Score | None, ...], ...]


def find_sweeps(cameras: Iterable[str], totals: Mapping[str, tuple[Score | None, ...]]) -> tuple[CameraSweep, ...]:
    """Find the displacements of one camera along one axis that have at least three poses.

    Args:
        cameras: Texts of all camera poses.
        totals: Per camera pose one score per run, over all tasks.
    """
    poses = {text: CameraPose.parse(text) for text in cameras}
    axes: dict[tuple[str, str], dict[float, str]] = {}
    for text, pose in poses.items():
        if len(pose.offsets) == 1:
            axes.setdefault((pose.view, pose.offsets[0].kind), {})[pose.offsets[0].value] = text
    sweeps = []
    for (view, kind), found in axes.items():
        if view in poses:
            found[0.0] = view
        if len(found) < _LEAST_POSES:
            continue
        values = tuple(sorted(found))
        names = tuple(found[value] for value in values)
        scores = tuple(zip(*(totals[name] for name in names)))
        sweeps.append(CameraSweep(view, kind, OFFSET_KINDS[kind], values, names, scores))
    return tuple(sweeps)
