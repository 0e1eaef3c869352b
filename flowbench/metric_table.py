"""What agents counted themselves, as further columns of a table: seconds of planning, replans, model calls.

A mean over the same episodes as the score beside it; without an interval, because it depends on the machine or says how the
score came about, not how good it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowbench.errors import BadValue, unknown_name
from flowbench.sheet import NOTHING, Line, Sheet, SheetCell, Span
from flowbench.store import read_rows
from flowbench.tables import ALL, OVERALL, RunSummary, ScoreTable

#: Asks for every metric that a run has.
EVERY = "all"


@dataclass(frozen=True)
class MetricTable:
    """A table of scores with the means of metrics.

    Attributes:
        scores: The table without them.
        names: The metrics, in order.
        rows: Per run, the finished episodes as (task, camera, metrics).
    """

    scores: ScoreTable
    names: tuple[str, ...]
    rows: tuple[tuple[tuple[str, str, Mapping[str, float]], ...], ...]

    @property
    def sheet(self) -> Sheet:
        """The table as people see it: after the columns of each run, its means."""
        sheet = self.scores.sheet
        runs = len(self.rows)
        width = len(sheet.headings) // runs
        groups = tuple(
            replace(group, lines=tuple(self._longer(line, width) for line in group.lines)) for group in sheet.groups
        )
        records = tuple(
            {**record, **self._means(index % runs, record["task"], record["camera"])}
            for index, record in enumerate(sheet.records)
        )
        names = ", ".join(self.names)
        return replace(
            sheet,
            spans=tuple(Span(span.text, span.width + len(self.names), span.repeat) for span in sheet.spans),
            headings=(*sheet.headings[:width], *self.names) * runs,
            groups=groups,
            notes=(
                *sheet.notes,
                f"{names}: means per finished episode, as the agent counted them; times depend on the machine.",
            ),
            records=records,
        )

    def _longer(self, line: Line, width: int) -> Line:
        cells: list[SheetCell] = []
        for run in range(len(self.rows)):
            cells += line.cells[run * width : (run + 1) * width]
            means = self._means(run, *line.labels).values()
            cells += [SheetCell((NOTHING if mean is None else f"{mean:.2f}",)) for mean in means]
        return Line(line.labels, tuple(cells))

    def _means(self, run: int, task: str, camera: str) -> dict[str, float | None]:
        chosen = [
            metrics
            for its_task, its_camera, metrics in self.rows[run]
            if task in (ALL, OVERALL, its_task) and camera in (ALL, its_camera)
        ]
        return {name: _mean([metrics[name] for metrics in chosen if name in metrics]) for name in self.names}


def with_metrics(scores: ScoreTable, runs: Sequence[RunSummary], names: Sequence[str]) -> MetricTable:
    """Add the means of metrics to a table.

    Args:
        scores: The table.
        runs: The runs in it.
        names: Metrics; `all` stands for every one that a run has.

    Raises:
        BadValue: If no run has any.
        UnknownName: If no run has one of that name.
        StoreError: If a run cannot be read.
    """
    several_suites = len({run.manifest.spec.suite for run in runs}) > 1
    rows = tuple(tuple(_episodes(run, several_suites)) for run in runs)
    having = list(dict.fromkeys(name for run in rows for _, _, metrics in run for name in metrics))
    if not having:
        raise BadValue("No episode of these runs has metrics: their agents count nothing. Leave out --metrics.")
    for name in names:
        if name != EVERY and name not in having:
            raise unknown_name("metric", name, having, "This table")
    chosen = having if EVERY in names else names
    return MetricTable(scores, tuple(chosen), rows)


def _episodes(run: RunSummary, several_suites: bool) -> list[tuple[str, str, Mapping[str, float]]]:
    """Return task, as the table calls it, camera and metrics of every finished episode."""
    prefix = f"{run.manifest.spec.suite}/" if several_suites else ""
    rows: list[dict[str, Any]] = []
    for folder in run.parts or (run.name,):
        rows += read_rows(Path(folder))[0]
    return [(prefix + row["task"], row["camera"], row.get("metrics", {})) for row in rows if row["status"] != "error"]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
