"""Paper-style tables: what each run scored, with its interval, its n and what is missing beside every number.

A table is a pure function of results. Runs are first sorted into cells (task x camera), so that a million episodes cost
one pass, and then averaged over cells, with intervals that count scenarios and not cameras. An error is a third outcome:
it is shown beside n and never folded into a rate unless the reader asks for that accounting, which a note then names.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from flowbench.chains import ChainOutcomes, chain_length
from flowbench.comparability import (
    ErrorAccounting,
    check_comparable,
    check_distinct,
    incomparable,
    notes_on_runs,
    remarks_on,
)
from flowbench.errors import BadValue, unknown_name
from flowbench.result import STATUSES, EpisodeResult
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell, Span
from flowbench.stats import ClusteredSample, clustered_rate, wilson_interval
from flowbench.store import read_columns, read_manifest, read_rows

if TYPE_CHECKING:
    from flowbench.manifest import RunManifest
    from flowbench.store import Run

Section = Literal["task", "camera", "task-camera", "overall", "chain", "instruction"]
SECTIONS: tuple[Section, ...] = ("task", "camera", "task-camera", "overall", "chain", "instruction")
#: The sections that only runs of chains have.
CHAIN_SECTIONS: tuple[Section, ...] = ("chain", "instruction")
#: The row of a chain's length, and the rows above it.
AVERAGE_LENGTH = "average length"
#: Stands in a row's task or camera when the row is an average over all of them.
ALL = "all"
#: Stands in the task of the one row that is an average over everything.
OVERALL = "overall"


class CellOutcomes(NamedTuple):
    """How each episode of one cell ended.

    Attributes:
        scenarios: (N,) number of the scenario's key within the run; the same key of two tasks is two scenarios.
        statuses: (N,) index into `STATUSES`.
    """

    scenarios: np.ndarray
    statuses: np.ndarray


@dataclass(frozen=True)
class RunSummary:
    """A run, reduced to what a table needs.

    Attributes:
        name: How the user calls it: its folder.
        manifest: What was run.
        cells: One row per task x camera in the order of the spec (index `task`, `camera`), with the columns `success`,
            `failure`, `error` and `missing`, numbers of episodes, and `outcomes`, the cell's `CellOutcomes`.
        torn: Whether the last stored line was cut off by a crash; it is not counted.
        chains: How far each chain went, where the protocol is a chain of instructions; else None.
        parts: Folders of the runs that are shown as this one; empty for a run of its own.
    """

    name: str
    manifest: RunManifest
    cells: pd.DataFrame
    torn: bool = False
    parts: tuple[str, ...] = ()
    chains: ChainOutcomes | None = None

    @classmethod
    def from_results(cls, manifest: RunManifest, results: Iterable[EpisodeResult], name: str = "run") -> RunSummary:
        """Count results that are already in memory."""
        results = list(results)
        chains = ChainOutcomes.of(manifest.spec, map(vars, results))
        rows = [(result.task, result.camera, result.status, result.id.rpartition("/")[2]) for result in results]
        return cls(name, manifest, _count_cells(manifest, rows), chains=chains)

    @classmethod
    def read(cls, folder: Path | str) -> RunSummary:
        """Count a stored run without keeping its episodes.

        Raises:
            StoreError: If the folder holds no run or a damaged one.
            BadValue: If no episode has finished yet.
        """
        manifest = read_manifest(Path(folder))
        rows, torn = _read_rows(folder, manifest)
        chains = _read_chains((folder,), manifest)
        return cls(str(folder), manifest, _count_cells(manifest, rows), torn, chains=chains)

    @classmethod
    def read_merged(cls, folders: Iterable[Path | str]) -> list[RunSummary]:
        """Count stored runs, those that are parts of one evaluation as one.

        Raises:
            StoreError: If a folder holds no run or a damaged one.
            BadValue: If no episode of a run has finished, or parts have an episode in common or differ in more than one
                of tasks, cameras, seeds and initial states.
        """
        from flowbench.merge import Part, merged_manifest, parts_of_one

        summaries = []
        for parts in parts_of_one([Part.read(folder) for folder in folders]):
            if len(parts) == 1:
                summaries.append(cls.read(parts[0].name))
                continue
            manifest = merged_manifest(parts)
            found = [_read_rows(part.name, part.manifest) for part in parts]
            rows = [row for rows, _ in found for row in rows]
            names = tuple(part.name for part in parts)
            torn = any(torn for _, torn in found)
            chains = _read_chains(names, manifest)
            summaries.append(cls(" + ".join(names), manifest, _count_cells(manifest, rows), torn, names, chains))
        return summaries


def _read_chains(folders: Sequence[Path | str], manifest: RunManifest) -> ChainOutcomes | None:
    if chain_length(manifest.spec) == 1:
        return None
    return ChainOutcomes.of(manifest.spec, [row for folder in folders for row in read_rows(Path(folder))[0]])


def _read_rows(folder: Path | str, manifest: RunManifest) -> tuple[list[tuple[str, ...]], bool]:
    rows, torn = read_columns(Path(folder), _FIELDS)
    if not rows:
        raise BadValue(
            f"{folder} holds a run without a finished episode. Go on with it by its own command: {manifest.command}"
        )
    return rows, torn


@dataclass(frozen=True)
class Score:
    """One number of a table with everything that qualifies it.

    Attributes:
        rate: Success rate, the mean over cells; NaN if nothing was counted.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        n: Episodes counted.
        successes: Successful episodes.
        errors: Episodes that could not be carried out.
        missing: Episodes of the spec without a result.
        tasks: Whether `rate` and its bounds are numbers of tasks, as the average length of chains is, and not shares.
    """

    rate: float
    low: float
    high: float
    n: int
    successes: int
    errors: int
    missing: int
    tasks: bool = False

    @property
    def text(self) -> str:
        """The score with its interval, e.g. `86.7 [81.3, 90.9]`; `-` if nothing was counted."""
        return NOTHING if math.isnan(self.rate) else f"{self.estimate} {self.interval}"

    @property
    def estimate(self) -> str:
        """The score in percent, e.g. `86.7`, or in tasks, e.g. `4.57`."""
        return self._show(self.rate)

    @property
    def interval(self) -> str:
        """The interval likewise, e.g. `[81.3, 90.9]`."""
        return f"[{self._show(self.low)}, {self._show(self.high)}]"

    def _show(self, value: float) -> str:
        return f"{value:.2f}" if self.tasks else f"{100 * value:.1f}"

    @property
    def record(self) -> dict[str, float | int | None]:
        """The score as flat fields for programs; a rate of nothing is None."""
        empty = math.isnan(self.rate) or self.tasks
        return {
            "success_rate": None if empty else self.rate,
            "success_rate_ci95_low": None if empty else self.low,
            "success_rate_ci95_high": None if empty else self.high,
            "n": self.n,
            "n_success": self.successes,
            "n_error": self.errors,
            "n_missing": self.missing,
        }

    @property
    def length_record(self) -> dict[str, float | None]:
        """An average length as flat fields for programs; None where the score is a share."""
        values = (self.rate, self.low, self.high) if self.tasks and not math.isnan(self.rate) else (None, None, None)
        return dict(zip(NO_LENGTH, values))


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        section: What the line is an average of.
        task: Name of the task, `all`, or `overall`.
        camera: Text of the camera pose, or `all`.
        scores: One per run; None where a run has no such cell.
    """

    section: Section
    task: str
    camera: str
    scores: tuple[Score | None, ...]


@dataclass(frozen=True)
class Column:
    """One run in a table.

    Attributes:
        label: Heading, unique in the table; says when the agent is privileged.
        name: Folder of the run.
        agent: Name of the agent.
        privileged: Whether the agent reads simulator state.
        suite: Name of the suite.
        protocol: Name of the protocol.
        profile: Render profile.
        command: The command that made the run.
        spec_digest: Hash of its spec.
    """

    label: str
    name: str
    agent: str
    privileged: bool
    suite: str
    protocol: str
    profile: str
    command: str
    spec_digest: str


@dataclass(frozen=True)
class ScoreTable:
    """Rows of scores, one column per run, and the notes without which they would mislead.

    Attributes:
        caption: Suite, protocol and rendering.
        columns: The runs.
        rows: The lines, section by section.
        notes: What a reader has to know.
        errors: How errors were counted.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    errors: ErrorAccounting

    @property
    def sheet(self) -> Sheet:
        """The table as people see it: per run its rate, n and errors."""
        any_missing = any(score and score.missing for row in self.rows for score in row.scores)
        lengths = any(score and score.tasks for row in self.rows for score in row.scores)
        headings = ("success % [95 %]", "n", "errors", *(["missing"] if any_missing else []))
        groups: dict[str, list[Line]] = {}
        for row in self.rows:
            texts: list[str] = []
            for score in row.scores:
                if score is None:
                    texts += [NOTHING] * len(headings)
                else:
                    texts += [score.text, str(score.n), str(score.errors), str(score.missing)][: len(headings)]
            cells = tuple(SheetCell((text,)) for text in texts)
            groups.setdefault(row.section, []).append(Line((row.task, row.camera), cells))
        return Sheet(
            caption=self.caption,
            labels=("task", "camera"),
            spans=tuple(Span(column.label, len(headings)) for column in self.columns),
            headings=headings * len(self.columns),
            groups=tuple(Group("", tuple(lines)) for lines in groups.values()),
            notes=self.notes,
            records=tuple(
                _record(row, index, column, lengths) for row in self.rows for index, column in enumerate(self.columns)
            ),
            facts={"errors_counted": self.errors, "runs": [asdict(column) for column in self.columns]},
        )


#: Fields of an average length that does not exist; only tables of chains have them.
NO_LENGTH: dict[str, None] = dict.fromkeys(("average_length", "average_length_ci95_low", "average_length_ci95_high"))
#: Fields of a score that does not exist.
NO_SCORE: dict[str, None] = dict.fromkeys(
    ("success_rate", "success_rate_ci95_low", "success_rate_ci95_high", "n", "n_success", "n_error", "n_missing")
)


def _record(row: Row, index: int, column: Column, lengths: bool) -> dict[str, Any]:
    score = row.scores[index]
    return {
        "by": row.section,
        "task": row.task,
        "camera": row.camera,
        "run": column.name,
        "agent": column.agent,
        "privileged": column.privileged,
        "suite": column.suite,
        "protocol": column.protocol,
        "profile": column.profile,
        **(score.record if score else NO_SCORE),
        **((score.length_record if score else NO_LENGTH) if lengths else {}),
    }


def aggregate(
    runs: Sequence[RunSummary],
    by: Sequence[Section] | None = None,
    *,
    errors: ErrorAccounting = "exclude",
    allow_mixed: bool = False,
) -> ScoreTable:
    """Average runs into a table.

    Args:
        runs: One or more runs, side by side.
        by: Sections in order; None gives tasks, cameras if there are several, and the overall rate; of chains, how many came
            how far, and each instruction.
        errors: `exclude` leaves error episodes out of n; `failure` counts them as failures.
        allow_mixed: Accept runs of different suites or rules.

    Raises:
        BadValue: If a run is given twice, or runs are not comparable and `allow_mixed` is off.
        UnknownName: If a section does not exist.
    """
    if not runs:
        raise BadValue("A table needs at least one run. Give its folder: flowbench table results/runs/RUN")
    for section in by or ():
        if section not in SECTIONS:
            raise unknown_name("breakdown", section, SECTIONS)
    check_distinct(runs)
    mixed = incomparable(runs)
    check_comparable(mixed, allow_mixed)
    cells = _aligned_cells(runs)
    are_chains = all(run.chains is not None for run in runs)
    if wrong := [section for section in by or () if section in CHAIN_SECTIONS and not are_chains]:
        raise BadValue(f"--by {wrong[0]} is for runs whose episodes are chains of instructions; not all of these are.")
    if by is None and are_chains:
        by = CHAIN_SECTIONS
    if by is None:
        several_cameras = cells[0].index.get_level_values("camera").nunique() > 1
        by = ("task", "camera", "overall") if several_cameras else ("task", "overall")
    counted = [count_errors(frame, errors) for frame in cells]
    rows: list[Row] = []
    for section in dict.fromkeys(by):
        if section == "chain":
            rows += _chain_rows([run.chains for run in runs if run.chains], errors)
        elif section == "instruction":
            rows += _instruction_rows([run.chains for run in runs if run.chains], errors)
        else:
            rows += _section_rows(section, counted)
    notes = tuple(notes_on_runs(runs, counted, errors, mixed))
    if are_chains:
        notes += (CHAIN_NOTE,)
    return ScoreTable(_caption(runs), _columns(runs), tuple(rows), notes, errors)


# --- From episodes to cells ---------------------------------------------------------------------------------------


#: What a reader of a table of chains has to know.
CHAIN_NOTE = (
    "An episode is a chain of instructions that ends at the first that fails: N in a row is the share of chains in which the "
    "first N were carried out, the average length their mean number, with the bootstrap's interval over chains; below it, "
    "each instruction where it was given."
)
#: What a table reads of each episode.
_FIELDS = ("task", "camera", "status", "scenario")


def _count_cells(manifest: RunManifest, rows: Sequence[tuple[str, str, str, str]]) -> pd.DataFrame:
    """Sort the outcome of each row of `_FIELDS` into its cell, in the order of the spec."""
    found = pd.DataFrame.from_records(rows, columns=_FIELDS)
    tasks, cameras, scenarios = (pd.factorize(found[name]) for name in ("task", "camera", "scenario"))
    status = pd.Categorical(found["status"], categories=STATUSES).codes
    planned = _planned(manifest)
    pairs = tasks[0].astype(np.int64) * max(len(cameras[1]), 1) + cameras[0]
    # In the order in which they finished.
    there = [(tasks[1][pair // len(cameras[1])], cameras[1][pair % len(cameras[1])]) for pair in pd.unique(pairs)]
    order = list(dict.fromkeys([*planned.index, *there]))
    position = {cell: index for index, cell in enumerate(order)}
    lookup = np.zeros(len(tasks[1]) * len(cameras[1]), dtype=np.int64)
    lookup[pd.unique(pairs)] = [position[cell] for cell in there]
    cell = lookup[pairs]
    counts = np.bincount(cell * len(STATUSES) + status, minlength=len(order) * len(STATUSES)).reshape(len(order), -1)
    by_cell = np.argsort(cell, kind="stable")
    bounds = np.cumsum(counts.sum(axis=1))[:-1]
    outcomes = map(CellOutcomes, np.split(scenarios[0][by_cell], bounds), np.split(status[by_cell], bounds))
    index = pd.MultiIndex.from_tuples(order, names=["task", "camera"])
    asked = planned.reindex(index, fill_value=0)
    return pd.DataFrame(counts, index, STATUSES).assign(
        missing=(asked - counts.sum(axis=1)).clip(lower=0), outcomes=pd.Series(list(outcomes), index, dtype=object)
    )


def _planned(manifest: RunManifest) -> pd.Series:
    """Return the number of episodes that the spec asks for, per cell."""
    spec = manifest.spec
    if spec.limit is None:
        per_cell = len(spec.seeds) * len(spec.init_states or (None,))
        sizes = {(task, camera): per_cell for task in spec.tasks for camera in spec.cameras}
    else:
        asked = Counter((episode.task, episode.camera) for episode in spec.episodes())
        sizes = {(task, camera): asked[task, camera] for task in spec.tasks for camera in spec.cameras}
        sizes = {cell: size for cell, size in sizes.items() if size}
    return pd.Series(sizes.values(), index=pd.MultiIndex.from_tuples(sizes, names=["task", "camera"]), dtype=int)


def _aligned_cells(runs: Sequence[RunSummary]) -> list[pd.DataFrame]:
    """Give the cells of all runs the same index; a cell that a run does not have is NaN there."""
    several_suites = len({run.manifest.spec.suite for run in runs}) > 1
    frames = []
    for run in runs:
        frame = run.cells
        if several_suites:
            index = [(f"{run.manifest.spec.suite}/{task}", camera) for task, camera in frame.index]
            frame = frame.set_axis(pd.MultiIndex.from_tuples(index, names=["task", "camera"]))
        frames.append(frame)
    order = dict.fromkeys(cell for frame in frames for cell in frame.index)
    index = pd.MultiIndex.from_tuples(order, names=["task", "camera"])
    return [frame.reindex(index) for frame in frames]


def count_errors(cells: pd.DataFrame, errors: ErrorAccounting) -> pd.DataFrame:
    """Return cells with `n`, the number of episodes that count, and no other episode among their `outcomes`."""
    n = cells["success"] + cells["failure"]
    if errors == "failure":
        return cells.assign(n=n + cells["error"])
    error = STATUSES.index("error")
    kept = [
        CellOutcomes(*(part[outcomes.statuses != error] for part in outcomes))
        if isinstance(outcomes, CellOutcomes)
        else outcomes
        for outcomes in cells["outcomes"]
    ]
    return cells.assign(n=n, outcomes=pd.Series(kept, cells.index, dtype=object))


# --- From cells to rows -------------------------------------------------------------------------------------------


def _section_rows(section: Section, counted: list[pd.DataFrame]) -> list[Row]:
    levels = {"task": ["task"], "camera": ["camera"], "task-camera": ["task", "camera"], "overall": []}[section]
    names = counted[0].index.to_frame(index=False)
    groups = names.groupby(levels, sort=False) if levels else [((), names)]
    rows = []
    for key, group in groups:
        labels = {"task": _only(names["task"]) if levels else OVERALL, "camera": _only(names["camera"])}
        labels |= dict(zip(levels, key))
        scores = tuple(score_of(frame.iloc[group.index]) for frame in counted)
        rows.append(Row(section, labels["task"], labels["camera"], scores))
    return rows


def _chain_rows(chains: Sequence[ChainOutcomes], errors: ErrorAccounting) -> list[Row]:
    """Return how many chains came how far, and their average length, camera by camera."""
    rows = []
    for camera in dict.fromkeys(camera for one in chains for camera in one.cameras):
        scores = [chain_run_scores(one, errors, camera) for one in chains]
        longest = max(one.longest for one in chains)
        labels = [*(f"{count} in a row" for count in range(1, longest + 1)), AVERAGE_LENGTH]
        for label in labels:
            rows.append(Row("chain", label, camera, tuple(found.get(label) for found in scores)))
    return rows


def chain_run_scores(chains: ChainOutcomes, errors: ErrorAccounting, camera: str | None = None) -> dict[str, Score]:
    """Return the scores of a run's chains by row: `1 in a row` and so on, and the average length.

    Intervals are Wilson's, and the bootstrap's over chains for the average length.
    """
    found = chains.scores(errors, camera)
    if found is None:
        return {}
    rest = (chains.errors(camera), chains.missing)
    scores = {
        f"{count} in a row": Score(float(rate), float(low), float(high), found.n, round(rate * found.n), *rest)
        for count, rate, low, high in zip(range(1, chains.longest + 1), found.rates, *found.intervals)
    }
    whole = scores[f"{chains.longest} in a row"].successes
    average = Score(found.average_length, *found.average_interval, found.n, whole, *rest, tasks=True)
    return {**scores, AVERAGE_LENGTH: average}


def _instruction_rows(chains: Sequence[ChainOutcomes], errors: ErrorAccounting) -> list[Row]:
    """Return how often each instruction was carried out when it was given."""
    counts = [one.instructions(errors) for one in chains]
    rows = []
    for name in dict.fromkeys(name for found in counts for name in found):
        scores = []
        for found in counts:
            successes, n = found.get(name, (0, 0))
            low, high = wilson_interval(successes, n) if n else (math.nan, math.nan)
            scores.append(Score(successes / n, float(low), float(high), n, successes, 0, 0) if n else None)
        rows.append(Row("instruction", name, ALL, tuple(scores)))
    return rows


def _only(names: pd.Series) -> str:
    """The one name that a whole table has, or `all`."""
    return str(names.iloc[0]) if names.nunique() == 1 else ALL


def score_of(cells: pd.DataFrame) -> Score | None:
    """Average cells that `count_errors` made; None if there are none."""
    cells = cells.dropna()
    if cells.empty:
        return None
    rate = clustered_rate(_sample_of(cells[cells["n"] > 0]))
    successes, errors, missing = (int(cells[name].sum()) for name in ("success", "error", "missing"))
    return Score(rate.mean, rate.low, rate.high, rate.n, successes, errors, missing)


def _sample_of(cells: pd.DataFrame) -> ClusteredSample:
    """Return the counted episodes of cells that have some; cells of one task share scenarios."""
    outcomes = list(cells["outcomes"])
    if not outcomes:
        nothing = np.zeros(0, dtype=np.int64)
        return ClusteredSample(np.zeros(0), nothing, nothing, nothing)
    sizes = [len(one.statuses) for one in outcomes]
    # Of several suites a task is named by both.
    task = np.repeat(cells.index.droplevel("camera").factorize()[0], sizes)
    key = np.concatenate([one.scenarios for one in outcomes])
    scenario = pd.factorize(task.astype(np.int64) * (int(key.max()) + 1) + key)[0]
    success = np.concatenate([one.statuses for one in outcomes]) == STATUSES.index("success")
    return ClusteredSample(success.astype(np.float64), np.repeat(np.arange(len(sizes)), sizes), scenario, task)


# --- What a reader has to know ------------------------------------------------------------------------------------


def _columns(runs: Sequence[RunSummary]) -> tuple[Column, ...]:
    specs = [run.manifest.spec for run in runs]
    agents = [spec.agent.name for spec in specs]
    folders = [Path(run.name).name for run in runs]
    columns = []
    for run, spec, folder in zip(runs, specs, folders):
        remarks = []
        if agents.count(spec.agent.name) > 1:
            remarks.append(folder if folders.count(folder) == 1 else run.name)
        remarks += remarks_on(run)
        columns.append(
            Column(
                label=f"{spec.agent.name} ({', '.join(remarks)})" if remarks else spec.agent.name,
                name=run.name,
                agent=spec.agent.name,
                privileged=run.manifest.privileged,
                suite=spec.suite,
                protocol=spec.protocol,
                profile=spec.profile,
                command=run.manifest.command,
                spec_digest=spec.digest,
            )
        )
    return tuple(columns)


def _caption(runs: Sequence[RunSummary]) -> str:
    specs = [run.manifest.spec for run in runs]
    rules = dict.fromkeys(f"Suite {spec.suite}, protocol {spec.protocol}" for spec in specs)
    rendering = dict.fromkeys(spec.profile for spec in specs)
    parts = [*rules, f"render profile {', '.join(rendering)}"]
    if any(spec.image_view for spec in specs):
        views = dict.fromkeys(spec.image_view or "the protocol's" for spec in specs)
        parts.append(f"image view {', '.join(views)}")
    return "; ".join(parts) + "."


def print_summary(run: Run) -> None:
    """Print the default table of a run that has just been made."""
    from flowbench.table_formats import to_markdown

    if run.results:
        summary = RunSummary.from_results(run.manifest, run.results, str(run.folder))
        print(to_markdown(aggregate([summary]), f"flowbench table {shlex.quote(str(run.folder))}"), end="")
