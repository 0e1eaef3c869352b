"""Runs in a paper's table: its columns filled from episodes, and its published rows below them.

Ours and published never look alike: they stand under separate headings, published numbers are printed as their paper
prints them, without an interval, in italics and with a footnote that names their source. A mean is shown only if all its
tasks were run, because a mean over other tasks is another number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from flowbench.comparability import (
    ErrorAccounting,
    caveat_of,
    check_comparable,
    check_distinct,
    incomparable,
    notes_on_runs,
    remarks_on,
)
from flowbench.errors import BadValue, FlowBenchError
from flowbench.layouts import AVERAGE, Column, Layout
from flowbench.published import COPY_MARK, PublishedRow, load_published
from flowbench.registry import get_suite
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell, Span
from flowbench.tables import (
    ALL,
    NO_LENGTH,
    NO_SCORE,
    OVERALL,
    RunSummary,
    Score,
    chain_run_scores,
    count_errors,
    score_of,
)

OURS = "Run with FlowBench"
PUBLISHED = "Published, not run here"


@dataclass(frozen=True)
class TableOptions:
    """How a paper's table is made.

    Attributes:
        published: Whether its published rows are shown.
        per_camera: Whether each method has a row per camera pose besides their mean.
        errors: How errors are counted.
        allow_mixed: Accept runs under different rules, versions or renderers, under a note.
        allow_missing: Accept runs that lack tasks; their cells, and means over them, stay empty.
    """

    published: bool = True
    per_camera: bool = False
    errors: ErrorAccounting = "exclude"
    allow_mixed: bool = False
    allow_missing: bool = False


@dataclass(frozen=True)
class OwnRow:
    """One row that was run.

    Attributes:
        label: The method, or the task in a layout whose rows are tasks.
        setting: Protocol and cameras.
        scores: One per column; None where nothing was run.
        method: The method, also where the label is a task.
        privileged: Whether the agent reads simulator state.
        runs: Folders of the runs.
    """

    label: str
    setting: str
    scores: tuple[Score | None, ...]
    method: str
    privileged: bool
    runs: tuple[str, ...]


@dataclass(frozen=True)
class PaperTable:
    """A layout with its rows.

    Attributes:
        layout: The layout.
        columns: Its columns; those of the runs where the layout leaves them open.
        blocks: (heading, rows) of what was run.
        published: Published rows.
        notes: What a reader has to know, without the footnotes of published rows.
        errors: How errors were counted.
    """

    layout: Layout
    columns: tuple[Column, ...]
    blocks: tuple[tuple[str, tuple[OwnRow, ...]], ...]
    published: tuple[PublishedRow, ...]
    notes: tuple[str, ...]
    errors: ErrorAccounting

    @property
    def sheet(self) -> Sheet:
        """The table as people see it."""
        footnotes = _Footnotes(self.published)
        groups = [
            Group(heading, tuple(Line(self._labels(row), tuple(map(_own_cell, row.scores))) for row in rows))
            for heading, rows in self.blocks
        ]
        for heading, rows in _by_group(self.published):
            lines = tuple(
                Line(
                    (footnotes.label(row), row.setting),
                    tuple(SheetCell((text,) if (text := row.text(column)) else (), True) for column in self.columns),
                )
                for row in rows
            )
            groups.append(Group(heading, lines))
        sheet = Sheet(
            caption=self.layout.caption,
            labels=("task",) if self.layout.rows == "tasks" else ("method", "setting"),
            spans=(),
            headings=tuple(column.heading for column in self.columns),
            groups=tuple(groups),
            notes=(*self.notes, *footnotes.notes),
            records=tuple(self._records()),
            facts={
                "layout": self.layout.name,
                "errors_counted": self.errors,
                "columns": [{"key": c.key, "heading": c.heading, "unit": c.unit} for c in self.columns],
            },
        )
        return _across(sheet) if self.layout.methods_across else sheet

    def _labels(self, row: OwnRow) -> tuple[str, ...]:
        return (row.label,) if self.layout.rows == "tasks" else (row.label, row.setting)

    def _records(self) -> Iterator[dict[str, Any]]:
        lengths = any(column.unit == "tasks" for column in self.columns)
        nothing = dict.fromkeys(
            ("published_as_printed", "published_unit", "approximate", "confidence", "source", "n_text")
        )
        for _, rows in self.blocks:
            for row in rows:
                names = {"method": row.method, "row": row.label, "setting": row.setting}
                for column, score in zip(self.columns, row.scores):
                    yield {
                        "kind": "run",
                        **names,
                        "column": column.key,
                        **(score.record if score else NO_SCORE),
                        **((score.length_record if score else NO_LENGTH) if lengths else {}),
                        "privileged": row.privileged,
                        "runs": " ".join(row.runs),
                        "protocol": None,
                        **nothing,
                    }
        for row in self.published:
            for column in self.columns:
                yield {
                    "kind": "published",
                    "method": row.method,
                    "row": row.method,
                    "setting": row.setting,
                    "column": column.key,
                    **NO_SCORE,
                    **(NO_LENGTH if lengths else {}),
                    "privileged": None,
                    "runs": None,
                    "protocol": row.protocol or None,
                    "published_as_printed": row.values.get(column.key),
                    "published_unit": row.unit if column.unit == "percent" else column.unit,
                    "approximate": row.approximate,
                    "confidence": row.confidence,
                    "source": row.source.text,
                    "n_text": row.n or None,
                }


def paper_table(layout: Layout, runs: Sequence[RunSummary] = (), options: TableOptions | None = None) -> PaperTable:
    """Put runs and published rows into a layout.

    Args:
        layout: The layout.
        runs: Any number of runs; several of one agent that differ in the suite form one row.
        options: How.

    Raises:
        BadValue: If a run does not belong into the layout, lacks tasks, or runs are not comparable.
        DataError: If the published rows are damaged.
    """
    options = options or TableOptions()
    if not runs and not (layout.published and options.published):
        raise BadValue(
            f"There is nothing to show: layout {layout.name} was given no run"
            + (" and --no-published." if layout.published else " and has no published rows.")
            + f" Give a run's folder: flowbench table results/runs/RUN --layout {layout.name}"
        )
    check_distinct(runs)
    for run in runs:
        _check_belongs(layout, run)
    mixed = _mixed(layout, runs)
    check_comparable(mixed, options.allow_mixed)
    columns = _columns(layout, runs)
    if not options.allow_missing:
        for run in runs:
            _check_tasks(layout, columns, run)
    methods = _methods(runs)
    counted = [count_errors(run.cells, options.errors) for run in runs]
    cells = {run.name: frame for run, frame in zip(runs, counted)}
    if layout.rows == "tasks":
        blocks = tuple((method.label, tuple(_task_rows(method, columns, cells))) for method in methods)
    else:
        rows = [row for method in methods for row in _method_rows(layout, method, columns, cells, options)]
        blocks = ((OURS, tuple(rows)),) if rows else ()
    published = load_published(layout.published, columns) if layout.published and options.published else ()
    notes = [*layout.notes, *notes_on_runs(runs, counted, options.errors, mixed)]
    notes += _notes(layout, methods, blocks)
    return PaperTable(layout, columns, blocks, published, tuple(notes), options.errors)


# --- Which runs fit -----------------------------------------------------------------------------------------------


def _check_belongs(layout: Layout, run: RunSummary) -> None:
    suite = run.manifest.spec.suite
    if not layout.fillable:
        raise BadValue(
            f"Layout {layout.name} cannot be filled from runs yet: suite {', '.join(layout.suites)} is not part of this "
            f"FlowBench. Leave out {run.name} to see its published rows."
        )
    if layout.suites and suite not in layout.suites:
        raise BadValue(
            f"{run.name} is a run of suite {suite}; layout {layout.name} shows {', '.join(layout.suites)}. Leave it out, or "
            "choose another layout: flowbench list layouts"
        )


def _mixed(layout: Layout, runs: Sequence[RunSummary]) -> list[str]:
    """Return in what runs differ from each other, and from the protocol that the layout's numbers stand for."""
    by_suite: dict[str, list[RunSummary]] = {}
    for run in runs:
        by_suite.setdefault(run.manifest.spec.suite, []).append(run)
    # Only a layout whose columns say the suite can hold several.
    one_suite = isinstance(layout.columns, str)
    found = incomparable(runs, ("suite", "suite_version") if one_suite else ())
    if not one_suite:
        versions = {run.manifest.spec.suite: run.manifest.spec.suite_version for run in runs}
        for suite, members in by_suite.items():
            if any(run.manifest.spec.suite_version != versions[suite] for run in members):
                texts = (f"{run.manifest.spec.suite_version} ({run.name})" for run in members)
                found.append(f"suite_version of {suite}: {', '.join(texts)}")
    for run in runs:
        protocol = run.manifest.spec.protocol
        if layout.protocols and protocol not in layout.protocols:
            wanted = " or ".join(layout.protocols)
            found.append(
                f"protocol: {protocol} ({run.name}), while layout {layout.name} stands for --protocol {wanted}"
            )
    return found


def _check_tasks(layout: Layout, columns: Sequence[Column], run: RunSummary) -> None:
    """Check that a run has every task of its suite that a column averages.

    Raises:
        BadValue: With the tasks that it lacks.
    """
    suite = run.manifest.spec.suite
    if isinstance(layout.columns, str):
        return
    has = set(run.cells.index.get_level_values("task"))
    needed = dict.fromkeys(
        task
        for column in columns
        if column.measured
        for needed_suite, task in _needed(layout, column, {suite: run.manifest.spec.tasks})
        if needed_suite == suite
    )
    missing = [task for task in needed if task not in has]
    if missing:
        names = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise BadValue(
            f"{run.name} lacks {len(missing)} of the {len(needed)} tasks that layout {layout.name} shows of suite {suite}: "
            f"{names}. Run them into a new folder, or pass --allow-missing to leave those cells, and means over them, empty."
        )


def _needed(layout: Layout, column: Column, found_tasks: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Return the (suite, task) pairs that a column averages.

    Args:
        layout: The layout.
        column: One of its columns.
        found_tasks: Tasks of each suite in the runs, for suites that are not installed.
    """
    suites = column.suites or tuple(suite for suite in (layout.suites or tuple(found_tasks)) if suite in found_tasks)
    return [(suite, task) for suite in suites for task in column.tasks or _tasks_of(suite, found_tasks)]


def _tasks_of(suite: str, found_tasks: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    try:
        return tuple(task.name for task in get_suite(suite).tasks)
    except (FlowBenchError, ImportError):
        # A plug-in's suite that is not installed here: its runs can still be read. An empty name is never run.
        return found_tasks.get(suite, ("",))


# --- Columns and rows ---------------------------------------------------------------------------------------------


class _Method(NamedTuple):
    """The runs that form one row, with what they are called."""

    label: str
    runs: tuple[RunSummary, ...]


def _columns(layout: Layout, runs: Sequence[RunSummary]) -> tuple[Column, ...]:
    if not isinstance(layout.columns, str):
        return layout.columns
    level = "task" if layout.columns == "tasks" else "camera"
    names = dict.fromkeys(name for run in runs for name in run.cells.index.get_level_values(level))
    if layout.columns == "cameras":
        several = (Column(ALL, ALL),) if len(names) > 1 else ()
        return (*(Column(name, name) for name in names), *several)
    # The average's tasks are those of the columns; a run that lacks one has none.
    return (*(Column(name, name, tasks=(name,)) for name in names), replace(AVERAGE, tasks=tuple(names) or ("",)))


def _methods(runs: Sequence[RunSummary]) -> list[_Method]:
    """Join runs of one agent that differ in the suite; of several candidates the one with the same checkpoint."""
    rows: list[list[RunSummary]] = []
    for run in runs:
        spec = run.manifest.spec
        fitting = [
            row
            for row in rows
            if _rules(row[0]) == _rules(run) and all(other.manifest.spec.suite != spec.suite for other in row)
        ]
        same = [row for row in fitting if any(other.manifest.spec.agent == spec.agent for other in row)]
        if fitting:
            (same or fitting)[0].append(run)
        else:
            rows.append([run])
    agents = [row[0].manifest.spec.agent.name for row in rows]
    methods = []
    for row, agent in zip(rows, agents):
        remarks = [Path(run.name).name for run in row] if agents.count(agent) > 1 else []
        remarks += dict.fromkeys(remark for run in row for remark in remarks_on(run))
        methods.append(_Method(f"{agent} ({', '.join(remarks)})" if remarks else agent, tuple(row)))
    return methods


def _rules(run: RunSummary) -> tuple[Any, ...]:
    """Return what runs of one row share; the checkpoint may differ, since many methods train one per suite."""
    spec = run.manifest.spec
    arguments = json.dumps(dict(spec.agent.arguments), sort_keys=True)
    views = (spec.profile, spec.image_size, spec.image_view, frozenset(spec.cameras))
    return (
        spec.agent.name,
        arguments,
        spec.protocol,
        spec.max_steps,
        spec.clip_actions,
        run.manifest.privileged,
        # Numbers from another world do not average with a benchmark's.
        caveat_of(run),
        *views,
    )


def _method_rows(
    layout: Layout,
    method: _Method,
    columns: Sequence[Column],
    cells: Mapping[str, pd.DataFrame],
    options: TableOptions,
) -> Iterator[OwnRow]:
    per_camera, errors = options.per_camera, options.errors
    frame = _cells_of(method, cells)
    cameras = list(dict.fromkeys(frame.index.get_level_values("camera")))
    protocol = method.runs[0].manifest.spec.protocol
    parts = [(f"mean of {len(cameras)} cameras" if len(cameras) > 1 else cameras[0], frame)]
    if per_camera and len(cameras) > 1:
        parts = [(camera, _of(frame, camera=camera)) for camera in cameras] + parts
    for where, part in parts:
        scores = tuple(_column_score(layout, column, method, part, errors) for column in columns)
        yield _own_row(method, method.label, f"{protocol}, {where}", scores)


def _task_rows(method: _Method, columns: Sequence[Column], cells: Mapping[str, pd.DataFrame]) -> Iterator[OwnRow]:
    frame = _cells_of(method, cells)
    protocol = method.runs[0].manifest.spec.protocol
    for task in [*dict.fromkeys(frame.index.get_level_values("task")), OVERALL]:
        part = frame if task == OVERALL else _of(frame, task=task)
        scores = tuple(score_of(part if column.key == ALL else _of(part, camera=column.key)) for column in columns)
        yield _own_row(method, task, protocol, scores)


def _column_score(
    layout: Layout, column: Column, method: _Method, frame: pd.DataFrame, errors: ErrorAccounting
) -> Score | None:
    """Average the episodes of a column; None, or a score without a rate, if one of its tasks has none."""
    if column.chain:
        return _chain_score(column, method, errors)
    found_tasks = {run.manifest.spec.suite: run.manifest.spec.tasks for run in method.runs}
    needed = _needed(layout, column, found_tasks) if column.measured else []
    pairs = frame.index.droplevel("camera")
    if not needed or not set(needed) <= set(pairs):
        return None
    part = frame[pairs.isin(needed)]
    score = score_of(part)
    counted = part.groupby(level=["suite", "task"], sort=False)["n"].sum()
    return replace(score, rate=math.nan, low=math.nan, high=math.nan) if score and not counted.all() else score


def _chain_score(column: Column, method: _Method, errors: ErrorAccounting) -> Score | None:
    """Return how many chains came so far, or their average length, over all cameras; None for a run without chains."""
    chains = [run.chains for run in method.runs if run.chains is not None]
    return chain_run_scores(chains[0], errors).get(column.chain) if len(chains) == 1 else None


def _own_row(method: _Method, label: str, setting: str, scores: tuple[Score | None, ...]) -> OwnRow:
    privileged = any(run.manifest.privileged for run in method.runs)
    return OwnRow(label, setting, scores, method.label, privileged, tuple(run.name for run in method.runs))


def _cells_of(method: _Method, cells: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the cells of a method's runs under (suite, task, camera)."""
    return pd.concat({run.manifest.spec.suite: cells[run.name] for run in method.runs}, names=["suite"])


def _of(frame: pd.DataFrame, **levels: str) -> pd.DataFrame:
    """Return the cells of one task or camera."""
    for level, value in levels.items():
        frame = frame[frame.index.get_level_values(level) == value]
    return frame


# --- What is shown ------------------------------------------------------------------------------------------------


def _own_cell(score: Score | None) -> SheetCell:
    if score is None:
        return SheetCell((NOTHING,))
    rate = (NOTHING,) if math.isnan(score.rate) else (score.estimate, score.interval)
    counts = [f"n {score.n}"]
    if score.errors:
        counts.append(f"errors {score.errors}")
    if score.missing:
        counts.append(f"missing {score.missing}")
    return SheetCell((*rate, *counts))


class _Footnotes:
    """Numbers the sources of published rows."""

    def __init__(self, rows: Sequence[PublishedRow]) -> None:
        self._rows = rows
        self._numbers: dict[str, int] = {}
        for row in rows:
            self._numbers.setdefault(self._text(row), len(self._numbers) + 1)

    def label(self, row: PublishedRow) -> str:
        """Return the method with the number of its source, and a mark if it was read in a copy."""
        mark = COPY_MARK if row.confidence == "copy" else ""
        return f"{row.method}{mark} [{self._numbers[self._text(row)]}]"

    @property
    def notes(self) -> tuple[str, ...]:
        """One note per source, after one that says how published rows are to be read."""
        if not self._rows:
            return ()
        copy = f" {COPY_MARK}: read in a text that repeats the number." if self._has_copies else ""
        reading = (
            f"Rows under {PUBLISHED!r} are numbers as printed (a fraction as percent), in italics, without an interval; nothing "
            f"is computed from them. An empty cell is not published or could not be read.{copy}"
        )
        return (reading, *(f"[{number}] {text}" for text, number in self._numbers.items()))

    @property
    def _has_copies(self) -> bool:
        return any(row.confidence == "copy" for row in self._rows)

    @staticmethod
    def _text(row: PublishedRow) -> str:
        protocol = f" Protocol: {row.protocol}." if row.protocol else ""
        return f"{row.source.text}.{protocol}{f' n: {row.n}.' if row.n else ''}"


def _by_group(rows: Iterable[PublishedRow]) -> list[tuple[str, list[PublishedRow]]]:
    groups: dict[str, list[PublishedRow]] = {}
    for row in rows:
        groups.setdefault(f"{PUBLISHED}: {row.group}" if row.group else PUBLISHED, []).append(row)
    return list(groups.items())


def _across(sheet: Sheet) -> Sheet:
    """Turn rows into columns, each group below a heading of its own."""
    lines = [line for group in sheet.groups for line in group.lines]
    headings = tuple(f"{line.labels[0]} ({line.labels[1]})" if line.labels[1] else line.labels[0] for line in lines)
    rows = tuple(
        Line((heading,), tuple(line.cells[index] for line in lines)) for index, heading in enumerate(sheet.headings)
    )
    spans = tuple(Span(group.heading, len(group.lines), repeat=True) for group in sheet.groups)
    return replace(sheet, labels=("",), spans=spans, headings=headings, groups=(Group("", rows),))


def _notes(layout: Layout, methods: Sequence[_Method], blocks: Sequence[tuple[str, tuple[OwnRow, ...]]]) -> list[str]:
    notes = []
    for method in methods:
        if len(method.runs) > 1:
            checkpoints = {run.manifest.spec.agent.content_sha256 for run in method.runs}
            differ = ", which use different checkpoints" if len(checkpoints) > 1 else ""
            notes.append(f"{method.label} is made of the runs {', '.join(run.name for run in method.runs)}{differ}.")
    seen_from: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for run in (run for method in methods for run in method.runs):
        cameras = run.manifest.spec.cameras
        if layout.cameras and set(cameras) != set(layout.cameras):
            seen_from.setdefault((cameras, bool(run.manifest.modalities)), []).append(run.name)
    for (cameras, looks), names in seen_from.items():
        blind = "" if looks else ", which makes no difference to an agent that looks at no image"
        notes.append(
            f"{', '.join(names)}: seen from {', '.join(cameras)}; the paper averages {', '.join(layout.cameras)}{blind}."
        )
    if any(score is None for _, rows in blocks for row in rows for score in row.scores):
        notes.append(f"{NOTHING}: not run, or a mean over tasks of which some were not run.")
    return notes
