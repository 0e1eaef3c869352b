"""Whether a run may pass: it is held against a baseline, and only what is shown to have held passes.

A point estimate that went down by two episodes is no regression, and one that went up proves nothing either. The verdict
is one of six, each with an exit code that a build server understands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from flowbench.baseline import RULES, Baseline, join
from flowbench.chains import RUNG_NOTE, chain_length
from flowbench.compare import SHOWN_FLIPS, Flip, number, p_text, signed
from flowbench.errors import BadValue
from flowbench.outcomes import (
    KEY,
    RunOutcomes,
    count_errors,
    field_differences,
    planned_keys,
    sample_of,
    version_differences,
)
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell
from flowbench.stats import ClusteredSample, pairs_to_hold
from flowbench.stats.noninferiority import (
    Decision,
    Evidence,
    decide,
    decide_sequentially,
    independent_evidence,
    paired_evidence,
)
from flowbench.tables import OVERALL, ErrorAccounting

Verdict = Literal["better", "held", "regression", "changed", "underpowered", "not comparable"]
#: 2 is wrong usage, in every command.
EXIT_CODES: dict[Verdict, int] = {
    "better": 0,
    "held": 0,
    "regression": 1,
    "changed": 1,
    "underpowered": 3,
    "not comparable": 4,
}
Mode = Literal["paired", "sequential", "unpaired", "exact"]


@dataclass(frozen=True)
class GateOptions:
    """How strict a gate is.

    Attributes:
        margin: The loss of success rate that is tolerated.
        alpha: Probability of a false "regression" when nothing changed, and of a false "held" when `margin` was lost.
        mode: `paired` by scenario; `sequential`, the same at any moment of an unfinished run; `unpaired`, rates alone;
            `exact`, outcome by outcome.
        errors: Leave out error episodes, or count them as failures.
        max_errors: Error episodes of the run that are accepted.
        allow_different: Accept other rules than the baseline's, and a run that covers only a part of it.
    """

    margin: float = 0.05
    alpha: float = 0.05
    mode: Mode = "paired"
    errors: ErrorAccounting = "exclude"
    max_errors: int = 0
    allow_different: bool = False

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("alpha", self.alpha)):
            if not 0 < value < 0.5:
                raise BadValue(f"--{name} is {value:g}; give a number between 0 and 0.5, e.g. 0.05.")


@dataclass(frozen=True)
class GateTask:
    """One line of a gate's table.

    Attributes:
        task: Name of the task, or `overall`.
        baseline: Success rate of the baseline.
        run: Success rate of the run.
        evidence: Run minus baseline.
        adjusted_p: P value of "not worse" after Holm over the tasks; that of `overall` is not adjusted.
        lost: Episodes that the baseline alone succeeded in; None if unpaired.
        won: Episodes that the run alone succeeded in; None if unpaired.
    """

    task: str
    baseline: float
    run: float
    evidence: Evidence
    adjusted_p: float
    lost: int | None
    won: int | None


@dataclass(frozen=True)
class GateResult:
    """A verdict with its reasons; `flowbench.table_formats` writes it.

    Attributes:
        verdict: One of six.
        sentence: Why, in one sentence.
        options: How strict the gate was.
        tasks: One line per task; empty if not comparable.
        overall: All of them; None if not comparable.
        flips: Episodes that ended differently.
        notes: What a reader has to know.
        finished: Whether every episode of the run is in; a sequential gate may be asked again until it is.
    """

    verdict: Verdict
    sentence: str
    options: GateOptions
    tasks: tuple[GateTask, ...] = ()
    overall: GateTask | None = None
    flips: tuple[Flip, ...] = ()
    notes: tuple[str, ...] = ()
    finished: bool = True

    @property
    def exit_code(self) -> int:
        """What the command exits with."""
        return EXIT_CODES[self.verdict]

    @property
    def text(self) -> str:
        """The verdict and its sentence."""
        return f"{self.verdict}: {self.sentence}"

    @property
    def sheet(self) -> Sheet:
        """The verdict and its table as people see them."""
        bounds = f"[{100 * (1 - 2 * self.options.alpha):g} %]"
        lines = (*self.tasks, *([self.overall] if self.overall else []))
        flips = [f"{flip.text('in the baseline', 'in the run')}." for flip in self.flips[:SHOWN_FLIPS]]
        if len(self.flips) > SHOWN_FLIPS:
            flips.append(f"{len(self.flips) - SHOWN_FLIPS} more episodes ended differently; --json lists all.")
        return Sheet(
            caption=self.text,
            labels=("task",),
            spans=(),
            headings=("baseline %", "run %", f"run - baseline {bounds}", "p worse", "p (Holm)", "lost", "won", "n"),
            groups=tuple(Group("", (self._line(line),)) for line in lines),
            notes=(*self.notes, *flips),
            records=tuple(_record(line) for line in lines),
        )

    def _line(self, line: GateTask) -> Line:
        e = line.evidence
        known = e.n > 0
        texts = [f"{100 * rate:.1f}" if known else NOTHING for rate in (line.baseline, line.run)]
        bounds = f"{signed(e.estimate)} [{signed(e.low)}, {signed(e.high)}]"
        texts += [bounds if known else NOTHING, p_text(e.p_worse)]
        texts.append("" if line.task == OVERALL else p_text(line.adjusted_p))
        texts += [NOTHING if count is None else str(count) for count in (line.lost, line.won)]
        return Line((line.task,), tuple(SheetCell((text,)) for text in (*texts, str(e.n))))

    def to_markdown(self, command: str) -> str:
        """Return the verdict, the table and the notes; a verdict without a table is one line."""
        from flowbench.table_formats import to_markdown

        return to_markdown(self, command) if self.overall else f"{self.text}\n"

    def to_json(self, command: str) -> str:
        """Return everything, unrounded."""
        data = {
            "command": command,
            "schema_version": 1,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "sentence": self.sentence,
            "options": asdict(self.options),
            "finished": self.finished,
            "overall": _record(self.overall) if self.overall else None,
            "tasks": [_record(task) for task in self.tasks],
            "flips": [asdict(flip) for flip in self.flips],
            "notes": list(self.notes),
        }
        return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class _Case:
    """What a gate judges: the episodes of both sides that are laid beside each other."""

    options: GateOptions
    baseline: Baseline
    old: pd.DataFrame
    new: pd.DataFrame
    pairs: pd.DataFrame
    finished: bool
    notes: list[str] = field(default_factory=list)


def gate(runs: Sequence[RunOutcomes], baseline: Baseline, options: GateOptions = GateOptions()) -> GateResult:
    """Hold one or more runs of one agent against a baseline.

    Args:
        runs: Runs under one set of rules, e.g. of further seeds; they must cover the baseline's episodes.
        baseline: What they are held against.
        options: How strict.

    Raises:
        BadValue: If the runs do not belong together.
    """
    frame = join(runs)
    if why := _incomparable(runs, frame, baseline, options):
        return GateResult("not comparable", why, options)
    old = baseline.frame
    pairs = frame.merge(old, on=KEY, suffixes=("_new", "_old"))
    finished = not any(run.missing for run in runs)
    case = _Case(options, baseline, old, frame, pairs, finished)
    case.notes.extend(_notes(runs, case))
    judges = {"paired": _paired, "sequential": _sequential, "unpaired": _unpaired, "exact": _exact}
    return judges[options.mode](case)


# --- What cannot be compared --------------------------------------------------------------------------------------


def _incomparable(
    runs: Sequence[RunOutcomes], frame: pd.DataFrame, baseline: Baseline, options: GateOptions
) -> str | None:
    """Return the first reason not to compare, as a sentence with the way out."""
    first, different = runs[0], field_differences(baseline, runs[0].spec, RULES)
    if baseline.privileged != first.manifest.privileged:
        different.append(f"privileged: {baseline.privileged} != {first.manifest.privileged}")
    if different and not options.allow_different:
        return f"the rules differ from the baseline's ({'; '.join(different)}). Pass --allow-different to judge all the same."
    if baseline.suite != first.spec.suite:
        return f"suite {first.spec.suite} shares no task with the baseline's suite {baseline.suite}."
    errors = int((frame["status"] == "error").sum())
    if errors > options.max_errors and options.errors == "exclude":
        return (
            f"{errors} of {len(frame)} episodes are errors. Run them again with flowbench eval --retry-errors, accept them "
            "with --max-errors, or count them with --errors failure."
        )
    if options.mode != "sequential":
        for run in runs:
            if run.missing:
                return (
                    f"{run.name} is not finished: {run.missing} episodes have no result yet. Finish it, or pass --sequential, "
                    "whose verdict may be asked for at any moment."
                )
    cells = {(cell.task, cell.camera) for cell in baseline.cells}
    if options.mode == "unpaired":
        lacking = cells - set(zip(frame["task"], frame["camera"]))
        if lacking and not options.allow_different:
            task, camera = min(lacking)
            return f"the run lacks {len(lacking)} of the baseline's {len(cells)} cells, e.g. {task} from {camera}."
        return None
    if not baseline.scenarios:
        return "the baseline holds counts only; pass --unpaired to compare rates, or make it again with outcomes."
    keys = set(baseline.frame[KEY].itertuples(index=False, name=None))
    asked = {key for run in runs for key in planned_keys(run.spec)}
    lacking = keys - asked
    if len(lacking) == len(keys):
        return "the run and the baseline have no episode in common; pass --unpaired to compare rates."
    if lacking and not options.allow_different and options.mode != "sequential":
        task, camera, scenario = min(lacking)
        return (
            f"the run lacks {len(lacking)} of the baseline's {len(keys)} episodes, e.g. {task} from {camera}, {scenario}. "
            "Pass --allow-different to judge by the others."
        )
    return None


def _notes(runs: Sequence[RunOutcomes], case: _Case) -> list[str]:
    options, notes = case.options, []
    if different := field_differences(case.baseline, runs[0].spec, RULES):
        notes.append(f"Judged on request, though the rules differ: {'; '.join(different)}.")
    agent = asdict(runs[0].spec.agent)
    changes = [f"{name}: {case.baseline.agent.get(name)} != {agent[name]}" for name in agent]
    changes = [change for change, name in zip(changes, agent) if case.baseline.agent.get(name) != agent[name]]
    if changes:
        notes.append(f"Another agent than the baseline's: {'; '.join(changes)}.")
    if changes := version_differences(dict(case.baseline.versions), dict(runs[0].manifest.versions)):
        notes.append(f"Other packages than the baseline's: {'; '.join(changes)}.")
    extra = len(case.new) - len(case.pairs)
    if extra and options.mode != "unpaired":
        notes.append(f"{extra} episodes of the run are not in the baseline and were left out.")
    errors = [int((frame["status"] == "error").sum()) for frame in (case.new, case.old)]
    if any(errors):
        how = "counted as failures" if options.errors == "failure" else "left out"
        notes.append(f"Error episodes, {how}: {errors[0]} of the run, {errors[1]} of the baseline.")
    if chain_length(runs[0].spec) > 1:
        notes.append(RUNG_NOTE)
    notes.append(
        f"Tolerated loss: {_plain(options.margin)} points; chance of a false alarm and of a false pass: {options.alpha:g} each."
    )
    return notes


# --- Four ways to judge -------------------------------------------------------------------------------------------


def _paired(case: _Case) -> GateResult:
    options, pairs = case.options, _counted(case)
    tasks, change, old, new = _samples(case, pairs)
    overall, *by_task = paired_evidence(_by_task(change, len(tasks)), options.alpha)
    decision = decide(overall, by_task, options.margin, options.alpha)
    lines, whole = _lines(tasks, change, old, new, overall, by_task, decision)
    unit = "paired episodes"
    sentence = _sentence(decision, lines, whole, options, unit)
    if decision.answer == "underpowered":
        discordance = change.mean_of(change.values != 0) if change.n else 0.0
        needed = pairs_to_hold(options.margin, discordance, options.alpha) * change.design_effect
        more = max(int(np.ceil(needed)) - change.n, 0)
        sentence += f" If nothing changed, about {more} more {unit} would show it." if more else ""
    return GateResult(decision.answer, sentence, options, lines, whole, _flips(pairs), tuple(case.notes), case.finished)


def _sequential(case: _Case) -> GateResult:
    options, pairs = case.options, _counted(case)
    tasks, change, old, new = _samples(case, pairs)
    cameras = case.old.groupby(["task", "scenario"]).size()
    # A scenario counts when all its cameras are in, in the order in which that happened.
    seen = pairs.groupby(["task", "scenario"]).agg(
        n=("change", "size"), change=("change", "mean"), last=("position", "max")
    )
    all_seen = case.pairs.groupby(["task", "scenario"]).size()
    seen = seen[all_seen.reindex(seen.index) == cameras.reindex(seen.index)].sort_values("last")
    names = case.baseline.tasks
    index = np.array([names.index(task) for task in seen.index.get_level_values("task")], dtype=int)
    decision = decide_sequentially(
        seen["change"].to_numpy(dtype=np.float64), index, len(names), options.margin, options.alpha
    )
    by_name = dict(zip(names, decision.adjusted))
    overall, *by_task = paired_evidence(_by_task(change, len(tasks)), options.alpha)
    worse = tuple(tasks.index(names[i]) for i in decision.tasks)
    decision = decision._replace(tasks=worse, adjusted=np.array([by_name[task] for task in tasks]))
    lines, whole = _lines(tasks, change, old, new, overall, by_task, decision)
    total = len(cameras)
    sentence = _sentence(decision, lines, whole, options, "paired episodes")
    if decision.answer == "underpowered":
        sentence = f"not decided after {len(seen)} of {total} scenarios: {_numbers(whole, 'paired episodes')}."
    else:
        sentence += f" Decided after {len(seen)} of {total} scenarios."
    case.notes.append(
        "Sequential: valid whenever it is asked for. Bounds and unadjusted P values are those of a single look; p (Holm) and "
        "the verdict are not."
    )
    done = len(all_seen) == total and bool((all_seen == cameras.reindex(all_seen.index)).all())
    return GateResult(decision.answer, sentence, options, lines, whole, _flips(pairs), tuple(case.notes), done)


def _unpaired(case: _Case) -> GateResult:
    options, baseline = case.options, case.baseline
    new = count_errors(case.new, options.errors)
    cells = pd.DataFrame([(cell.task, cell.camera) for cell in baseline.cells], columns=["task", "camera"])
    new = new.merge(cells, on=["task", "camera"])
    if baseline.scenarios:
        old = count_errors(case.old, options.errors)
    else:
        old = _from_counts(baseline, options.errors)
        case.notes.append("The baseline holds counts only: its cameras are taken for independent.")
    present = set(new["task"].unique())
    names = [task for task in baseline.tasks if task in present]
    old = old[old["task"].isin(names)]
    groups = [dict(iter(frame.groupby("task", sort=False))) for frame in (old, new)]
    samples = [
        [sample_of(part, part["success"]) for part in (group.get(task, new.iloc[:0]) for group in groups)]
        for task in names
    ]
    by_task = [independent_evidence(*pair, options.alpha) for pair in samples]
    whole_old, whole_new = sample_of(old, old["success"]), sample_of(new, new["success"])
    overall = independent_evidence(whole_old, whole_new, options.alpha)
    decision = decide(overall, by_task, options.margin, options.alpha)
    lines = tuple(
        GateTask(task, pair[0].mean, pair[1].mean, evidence, float(p), None, None)
        for task, pair, evidence, p in zip(names, samples, by_task, decision.adjusted)
    )
    whole = GateTask(OVERALL, whole_old.mean, whole_new.mean, overall, overall.p_worse, None, None)
    sentence = _sentence(decision, lines, whole, options, "episodes of each")
    return GateResult(decision.answer, sentence, options, lines, whole, (), tuple(case.notes), case.finished)


def _exact(case: _Case) -> GateResult:
    pairs = case.pairs
    other_status = pairs["status_new"] != pairs["status_old"]
    other_steps = ~other_status & (pairs["steps_new"] != pairs["steps_old"])
    lost = other_status & (pairs["status_old"] == "success")
    counted = _counted(case)
    tasks, change, old, new = _samples(case, counted)
    overall, *by_task = paired_evidence(_by_task(change, len(tasks)), case.options.alpha)
    decision = decide(overall, by_task, case.options.margin, case.options.alpha)
    lines, whole = _lines(tasks, change, old, new, overall, by_task, decision)
    if not other_status.any() and not other_steps.any():
        verdict: Verdict = "held"
        sentence = f"all {len(pairs)} episodes end as in the baseline, in as many steps."
    else:
        verdict = "regression" if lost.any() else "changed"
        parts = [
            (int(lost.sum()), "succeeded and no longer do"),
            (int((other_status & ~lost).sum()), "end differently without a success lost"),
            (int(other_steps.sum()), "take another number of steps"),
        ]
        told = ", ".join(f"{count} {what}" for count, what in parts if count)
        sentence = f"of {len(pairs)} episodes, {told}. If that is meant, make a new baseline: flowbench baseline RUN --out FILE"
    flips = _flips(pairs) + tuple(
        Flip(row.id, f"{row.status_old} after {row.steps_old} steps", f"{row.status_new} after {row.steps_new} steps")
        for row in pairs[other_steps].itertuples()
    )
    case.notes.append("Exact: the verdict is about single outcomes; the table is for orientation.")
    return GateResult(verdict, sentence, case.options, lines, whole, flips, tuple(case.notes), case.finished)


# --- From episodes to evidence ------------------------------------------------------------------------------------


def _counted(case: _Case) -> pd.DataFrame:
    """Add what changed in each pair that counts, and its place in time."""
    pairs = case.pairs.assign(position=np.arange(len(case.pairs)))
    if case.options.errors == "exclude":
        pairs = pairs[(pairs["status_new"] != "error") & (pairs["status_old"] != "error")]
    new, old = ((pairs[f"status_{side}"] == "success").astype(float) for side in ("new", "old"))
    return pairs.assign(new=new, old=old, change=new - old)


def _samples(case: _Case, pairs: pd.DataFrame) -> tuple[list[str], ClusteredSample, ClusteredSample, ClusteredSample]:
    """Return the names of the tasks in their order, and the change, the old and the new success of the pairs."""
    present = set(pairs["task"].unique())
    tasks = [task for task in case.baseline.tasks if task in present]
    order = {task: index for index, task in enumerate(tasks)}
    change = sample_of(pairs, pairs["change"])
    task = np.array([order[name] for name in pairs["task"]], dtype=int)
    parts = (change.cell, change.scenario, task)
    return tasks, *(ClusteredSample(pairs[name].to_numpy(dtype=float), *parts) for name in ("change", "old", "new"))


def _by_task(change: ClusteredSample, tasks: int) -> list[ClusteredSample]:
    """Return the whole sample, then task by task."""
    return [change, *(change.take(change.task == task) for task in range(tasks))]


def _lines(
    tasks: list[str],
    change: ClusteredSample,
    old: ClusteredSample,
    new: ClusteredSample,
    overall: Evidence,
    by_task: list[Evidence],
    decision: Decision,
) -> tuple[tuple[GateTask, ...], GateTask]:
    def line(task: str, chosen: np.ndarray, evidence: Evidence, adjusted: float) -> GateTask:
        rates = [sample.take(chosen).mean for sample in (old, new)]
        lost, won = int((change.values[chosen] < 0).sum()), int((change.values[chosen] > 0).sum())
        return GateTask(task, *rates, evidence, adjusted, lost, won)

    lines = tuple(
        line(task, change.task == index, by_task[index], float(decision.adjusted[index]))
        for index, task in enumerate(tasks)
    )
    return lines, line(OVERALL, np.ones(change.n, dtype=bool), overall, overall.p_worse)


def _from_counts(baseline: Baseline, errors: ErrorAccounting) -> pd.DataFrame:
    """Make up an episode for each that a baseline without outcomes has counted."""
    rows = []
    for cell in baseline.cells:
        failures = cell.failure + (cell.error if errors == "failure" else 0)
        outcomes = [1.0] * cell.success + [0.0] * failures
        rows += [(cell.task, cell.camera, f"{cell.camera}/{k}", value) for k, value in enumerate(outcomes)]
    return pd.DataFrame(rows, columns=["task", "camera", "scenario", "success"])


def _flips(pairs: pd.DataFrame) -> tuple[Flip, ...]:
    differ = pairs[pairs["status_new"] != pairs["status_old"]]
    return tuple(Flip(row.id, row.status_old, row.status_new) for row in differ.itertuples())


# --- Texts --------------------------------------------------------------------------------------------------------


def _sentence(decision: Decision, lines: tuple[GateTask, ...], whole: GateTask, options: GateOptions, unit: str) -> str:
    margin, sure = _plain(options.margin), f"{100 * (1 - options.alpha):g} %"
    numbers = _numbers(whole, unit)
    if decision.answer == "regression":
        worse = [f"{lines[i].task} {100 * lines[i].baseline:.0f} to {100 * lines[i].run:.0f} %" for i in decision.tasks]
        where = (["overall"] if decision.overall else []) + worse
        return f"success was lost ({', '.join(where)}); overall {numbers}."
    if decision.answer == "better":
        return f"success has risen: {numbers}."
    if decision.answer == "held":
        return f"a loss of {margin} points is ruled out with {sure} confidence: {numbers}."
    return f"a loss of {margin} points can be neither shown nor ruled out: {numbers}."


def _numbers(whole: GateTask, unit: str) -> str:
    e = whole.evidence
    if not e.n:
        return "no episode could be compared"
    return f"{signed(e.estimate)} points ({signed(e.low)} to {signed(e.high)}), {e.n} {unit}"


def _plain(share: float) -> str:
    return f"{100 * share:g}"


def _record(line: GateTask) -> dict[str, Any]:
    e = line.evidence
    return {
        "task": line.task,
        "baseline_success_rate": number(line.baseline),
        "run_success_rate": number(line.run),
        "difference": number(e.estimate),
        "difference_low": number(e.low),
        "difference_high": number(e.high),
        "p_worse": number(e.p_worse),
        "p_worse_holm": None if line.task == OVERALL else number(line.adjusted_p),
        "p_better": number(e.p_better),
        "lost": line.lost,
        "won": line.won,
        "n": e.n,
    }
