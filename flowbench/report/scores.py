"""The success rates of a report, taken from the same tables that `flowbench table` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowbench.report.cameras import HeatMap
from flowbench.tables import Column, ErrorAccounting, RunSummary, Score, aggregate

#: One score per run; None where a run has no such cell.
Scores = tuple[Score | None, ...]


@dataclass(frozen=True)
class ScoreBoard:
    """Success rates of all runs side by side.

    Attributes:
        caption: Suite, protocol and rendering.
        columns: The runs, with labels that are unique.
        notes: What a reader has to know.
        overall: Over everything.
        tasks: Per task.
        cameras: Per camera pose.
        cells: Per (task, camera pose).
    """

    caption: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    overall: Scores
    tasks: dict[str, Scores]
    cameras: dict[str, Scores]
    cells: dict[tuple[str, str], Scores]

    @classmethod
    def of(cls, runs: Sequence[RunSummary], errors: ErrorAccounting, allow_mixed: bool) -> ScoreBoard:
        """Score runs.

        Raises:
            BadValue: If a run is given twice, or runs are not comparable and `allow_mixed` is off.
        """
        sections = ("task", "camera", "task-camera", "overall")
        table = aggregate(runs, sections, errors=errors, allow_mixed=allow_mixed)
        by = {section: [row for row in table.rows if row.section == section] for section in sections}
        return cls(
            caption=table.caption,
            columns=table.columns,
            notes=table.notes,
            overall=by["overall"][0].scores,
            tasks={row.task: row.scores for row in by["task"]},
            cameras={row.camera: row.scores for row in by["camera"]},
            cells={(row.task, row.camera): row.scores for row in by["task-camera"]},
        )

    def heat_maps(self) -> tuple[HeatMap, ...]:
        """Return one heat map per run that saw several camera poses."""
        maps = []
        for run in range(len(self.columns)):
            cameras = tuple(name for name, scores in self.cameras.items() if scores[run] is not None)
            tasks = tuple(name for name, scores in self.tasks.items() if scores[run] is not None)
            if len(cameras) < 2:
                continue
            nothing = (None,) * len(self.columns)
            grid = tuple(tuple(self.cells.get((task, camera), nothing)[run] for camera in cameras) for task in tasks)
            maps.append(HeatMap(run, tasks, cameras, grid, tuple(self.cameras[camera][run] for camera in cameras)))
        return tuple(maps)
