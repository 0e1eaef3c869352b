"""Whether one run is better than another: paired by scenario where they share some, task by task and overall.

Two agents meet the same hard and easy scenarios, so what is counted is where they disagree. A comparison says what it
decides, how large the difference may be, and, if nothing is decided, how many more episodes would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from flowbench.chains import RUNG_NOTE, chain_length, episode_of
from flowbench.comparability import incomparable
from flowbench.errors import BadValue, FlowBenchError
from flowbench.outcomes import KEY, RunOutcomes, count_errors, field_differences, sample_of, version_differences
from flowbench.recording import video_path
from flowbench.registry import get_suite
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell
from flowbench.stats import (
    ClusteredSample,
    Difference,
    PairedCounts,
    Rate,
    clustered_rate,
    episodes_needed,
    holm,
    independent_difference,
    paired_difference,
    pairs_needed,
)
from flowbench.tables import OVERALL, ErrorAccounting

#: Besides protocol, horizon, simulator and rendering; runs that differ in one are compared on request only.
RULES = ("suite", "suite_version", "clip_actions")
#: What agents may choose for themselves; a difference is said.
CHOICES = ("image_size", "image_view", "cameras", "seeds", "init_states", "limit")
#: Chance of finding the difference that is asked for, in "how many more".
POWER = 0.8
#: Flipped episodes that are listed for people; programs get all.
SHOWN_FLIPS = 10

Decision = Literal["better", "worse", "alike", "undecided"]


@dataclass(frozen=True)
class Flip:
    """An episode that ended differently.

    Attributes:
        id: Its id in A.
        a: Status in A.
        b: Status in B.
        videos: Recorded videos of it, as paths; may be empty.
    """

    id: str
    a: str
    b: str
    videos: tuple[str, ...] = ()

    def text(self, a: str = "in A", b: str = "in B") -> str:
        """Return one line that says how it ended where."""
        videos = f" (videos: {', '.join(self.videos)})" if self.videos else ""
        return f"{self.id}: {self.a} {a}, {self.b} {b}{videos}"


@dataclass(frozen=True)
class ComparedTask:
    """One line of a comparison.

    Attributes:
        task: Name of the task, or `overall`.
        a: Rate of A over the compared episodes.
        b: Rate of B.
        counts: Agreement of the pairs; None if unpaired.
        difference: B minus A.
        adjusted_p: P value after Holm over the tasks; that of `overall` is not adjusted.
        more: Further pairs (unpaired: episodes of each run) that would find the difference asked for; 0 if enough.
    """

    task: str
    a: Rate
    b: Rate
    counts: PairedCounts | None
    difference: Difference
    adjusted_p: float
    more: int


@dataclass(frozen=True)
class Comparison:
    """Two runs, compared; `flowbench.table_formats` writes it.

    Attributes:
        a: The first run.
        b: The second run.
        paired: Whether the same scenarios were compared.
        tasks: One line per task.
        overall: All of them.
        decision: Of B against A, overall.
        verdict: The decision in one sentence.
        flips: Pairs that ended differently.
        notes: What a reader has to know.
        alpha: Level of the tests.
        asked: The difference that `more` is about.
        errors: How errors were counted.
    """

    a: RunOutcomes
    b: RunOutcomes
    paired: bool
    tasks: tuple[ComparedTask, ...]
    overall: ComparedTask
    decision: Decision
    verdict: str
    flips: tuple[Flip, ...]
    notes: tuple[str, ...]
    alpha: float
    asked: float
    errors: ErrorAccounting

    @property
    def sheet(self) -> Sheet:
        """The comparison as people see it."""
        confidence = f"[{100 * (1 - self.alpha):g} %]"
        headings = [f"A % {confidence}", f"B % {confidence}", f"B - A {confidence}", "p", "p (Holm)"]
        headings += ["only A", "only B", "pairs"] if self.paired else ["n A", "n B"]
        headings.append("more")
        more = "pairs" if self.paired else "episodes of each run"
        flips = [f"Flipped: {flip.text()}." for flip in self.flips[:SHOWN_FLIPS]]
        if len(self.flips) > SHOWN_FLIPS:
            flips.append(f"{len(self.flips) - SHOWN_FLIPS} more episodes flipped; --format json lists all.")
        notes = (
            *self.notes,
            f"more: further {more} until a difference of {_points(self.asked)} points would be found at level {self.alpha:g} "
            f"in {POWER:.0%} of evaluations.",
            *flips,
        )
        return Sheet(
            caption=f"A: {self.a.name} ({self.a.label}); B: {self.b.name} ({self.b.label}). {self.verdict}",
            labels=("task",),
            spans=(),
            headings=tuple(headings),
            groups=(
                Group("", tuple(self._line(task) for task in self.tasks)),
                Group("", (self._line(self.overall),)),
            ),
            notes=notes,
            records=tuple(self._record(task) for task in (*self.tasks, self.overall)),
            facts={
                "verdict": {"decision": self.decision, "sentence": self.verdict},
                "a": _facts(self.a),
                "b": _facts(self.b),
                "paired": self.paired,
                "alpha": self.alpha,
                "difference_asked": self.asked,
                "errors_counted": self.errors,
                "flips": [asdict(flip) for flip in self.flips],
            },
        )

    def _line(self, task: ComparedTask) -> Line:
        texts = [rate_text(task.a), rate_text(task.b), difference_text(task.difference), p_text(task.difference.p)]
        texts.append("" if task is self.overall else p_text(task.adjusted_p))
        counts = task.counts
        texts += [counts.only_a, counts.only_b, counts.n] if counts else [task.a.n, task.b.n]
        return Line((task.task,), tuple(SheetCell((str(text),)) for text in (*texts, task.more)))

    def _record(self, task: ComparedTask) -> dict[str, Any]:
        counts, difference = task.counts, task.difference
        return {
            "task": task.task,
            **_rate_record("a", task.a),
            **_rate_record("b", task.b),
            "difference": number(difference.estimate),
            "difference_ci_low": number(difference.low),
            "difference_ci_high": number(difference.high),
            "p": number(difference.p),
            "p_holm": None if task is self.overall else number(task.adjusted_p),
            "design_effect": number(difference.design_effect),
            "both": counts.both if counts else None,
            "only_a": counts.only_a if counts else None,
            "only_b": counts.only_b if counts else None,
            "neither": counts.neither if counts else None,
            "more": task.more,
        }


def compare(
    a: RunOutcomes,
    b: RunOutcomes,
    *,
    errors: ErrorAccounting = "exclude",
    allow_different: bool = False,
    alpha: float = 0.05,
    difference: float = 0.05,
) -> Comparison:
    """Compare two runs.

    Args:
        a: The run to compare with.
        b: The run of interest; differences are B minus A.
        errors: `exclude` leaves out episodes that are an error in either run; `failure` counts them as failures.
        allow_different: Accept runs under different rules.
        alpha: Level of the tests; intervals cover 1 - alpha.
        difference: The difference of rates that "how many more" is about.

    Raises:
        BadValue: If the runs are not comparable, or share no task.
    """
    for name, value in (("alpha", alpha), ("difference", difference)):
        if not 0 < value < 1:
            raise BadValue(f"--{name} is {value:g}; give a number between 0 and 1, e.g. 0.05.")
    if Path(a.name).resolve() == Path(b.name).resolve():
        raise BadValue(f"{a.name} is compared with itself; give two runs.")
    different = incomparable([a, b], RULES)
    if different and not allow_different:
        raise BadValue(
            f"The runs are not comparable: {'; '.join(different)}. Evaluate both under the same rules, or pass "
            "--allow-different to compare them all the same."
        )
    counted_a, counted_b = count_errors(a.frame, errors), count_errors(b.frame, errors)
    pairs = pair(counted_a, counted_b) if same_scenarios(a, b) else None
    paired = pairs is not None and len(pairs) > 0
    notes = _notes(a, b, different, errors)
    if paired:
        notes += _left_out(a, b, counted_a, counted_b, len(pairs))
        rows = [_compare_pairs(task, group, alpha, difference) for task, group in _by_task(pairs, a.spec.tasks).items()]
        overall = _compare_pairs(OVERALL, pairs, alpha, difference)
        differ = pairs[pairs["status_a"] != pairs["status_b"]]
    else:
        notes.append("The runs have no scenario in common, so their rates are compared as independent ones.")
        counted_a, counted_b = _common_cells(a, b, counted_a, counted_b)
        of_b = _by_task(counted_b, a.spec.tasks)
        rows = [
            _compare_rates(task, group, of_b[task], alpha, difference)
            for task, group in _by_task(counted_a, a.spec.tasks).items()
        ]
        overall = _compare_rates(OVERALL, counted_a, counted_b, alpha, difference)
        differ = pd.DataFrame(columns=["id_a", "id_b", "status_a", "status_b"])
    if not rows:
        raise BadValue(f"{a.name} and {b.name} have no task in common whose episodes could be compared.")
    adjusted = holm([row.difference.p for row in rows])
    tasks = tuple(replace(row, adjusted_p=float(p)) for row, p in zip(rows, adjusted))
    decision, verdict = _decide(tasks, overall, paired, alpha, difference)
    if overall.difference.design_effect > 1.005:
        notes.append(
            f"{'Lengths of one chain go together' if chain_length(a.spec) > 1 else 'Several cameras saw each scenario'}; "
            f"{overall.difference.design_effect:.2f} episodes of a scenario are worth one "
            "independent episode, and intervals and tests count accordingly."
        )
    return Comparison(
        a, b, paired, tasks, overall, decision, verdict, _flips(a, b, differ), tuple(notes), alpha, difference, errors
    )


# --- Which episodes are laid beside which -------------------------------------------------------------------------


def same_scenarios(a: RunOutcomes, b: RunOutcomes) -> bool:
    """Whether equal keys mean equal initial states: same suite and version, and states made in the same way."""
    if (a.spec.suite, a.spec.suite_version) != (b.spec.suite, b.spec.suite_version):
        return False
    if a.spec.protocol == b.spec.protocol:
        return True
    try:
        suite = get_suite(a.spec.suite)
        return suite.rules(a.spec.protocol).initial_states == suite.rules(b.spec.protocol).initial_states
    except FlowBenchError:
        return False


def pair(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Join two frames on task, camera and scenario; on task and scenario if each has one camera, and not the same."""
    cameras_a, cameras_b = set(a["camera"]), set(b["camera"])
    by = KEY
    if not cameras_a & cameras_b and len(cameras_a) == len(cameras_b) == 1:
        by = ["task", "scenario"]
        b = b.drop(columns="camera")
    return a.merge(b, on=by, suffixes=("_a", "_b"))


def _by_task(frame: pd.DataFrame, tasks: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the episodes of each task that has some, in the order of `tasks`."""
    groups = dict(iter(frame.groupby("task", sort=False)))
    return {task: groups[task] for task in tasks if task in groups}


def _common_cells(
    a: RunOutcomes, b: RunOutcomes, frame_a: pd.DataFrame, frame_b: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Restrict two unpaired frames to the cells, or else to the tasks, that both have."""
    for columns in (["task", "camera"], ["task"]):
        cells = frame_a[columns].drop_duplicates().merge(frame_b[columns].drop_duplicates())
        if len(cells):
            return frame_a.merge(cells), frame_b.merge(cells)
    raise BadValue(
        f"{a.name} and {b.name} have no task in common: {', '.join(a.spec.tasks[:4])} and {', '.join(b.spec.tasks[:4])}."
    )


def _flips(a: RunOutcomes, b: RunOutcomes, differ: pd.DataFrame) -> tuple[Flip, ...]:
    # Asking for each of a hundred thousand videos takes seconds; most runs have none.
    recorded = [Path(run.name) / "videos" for run in (a, b)]
    there = [{path.name for path in folder.iterdir()} if folder.is_dir() else set() for folder in recorded]
    found = []
    for row in differ.itertuples():
        paths = [
            video_path(folder.parent, episode_of(identifier))
            for folder, names, identifier in zip(recorded, there, (row.id_a, row.id_b))
            if names and video_path(folder.parent, episode_of(identifier)).name in names
        ]
        found.append(Flip(row.id_a, row.status_a, row.status_b, tuple(map(str, paths))))
    return tuple(found)


# --- One line -----------------------------------------------------------------------------------------------------


def _compare_pairs(task: str, pairs: pd.DataFrame, alpha: float, asked: float) -> ComparedTask:
    success_a, success_b = pairs["success_a"].to_numpy(), pairs["success_b"].to_numpy()
    change = sample_of(pairs, success_b - success_a)
    rates = [
        clustered_rate(ClusteredSample(values, change.cell, change.scenario, change.task), 1 - alpha)
        for values in (success_a, success_b)
    ]
    difference = paired_difference(change, 1 - alpha)
    discordance = change.mean_of(change.values != 0)
    total = pairs_needed(asked, discordance, alpha, POWER) * difference.design_effect * change.n / change.nominal_n
    more = max(math.ceil(total) - change.n, 0)
    return ComparedTask(task, *rates, PairedCounts.of(success_a, success_b), difference, difference.p, more)


def _compare_rates(task: str, a: pd.DataFrame, b: pd.DataFrame, alpha: float, asked: float) -> ComparedTask:
    sample_a, sample_b = sample_of(a, a["success"]), sample_of(b, b["success"])
    rates = [clustered_rate(sample, 1 - alpha) for sample in (sample_a, sample_b)]
    difference = independent_difference(sample_a, sample_b, 1 - alpha)
    total = episodes_needed(asked, (rates[0].mean + rates[1].mean) / 2, alpha, POWER) * difference.design_effect
    more = max(math.ceil(total) - min(sample_a.n, sample_b.n), 0)
    return ComparedTask(task, *rates, None, difference, difference.p, more)


# --- What it means ------------------------------------------------------------------------------------------------


def _decide(
    tasks: tuple[ComparedTask, ...], overall: ComparedTask, paired: bool, alpha: float, asked: float
) -> tuple[Decision, str]:
    difference = overall.difference
    unit = "paired episodes" if paired else "episodes of each run"
    numbers = f"{difference_phrase(difference)}, {p_phrase(difference.p)}, {difference.n} {unit}"
    if difference.p <= alpha:
        better = difference.estimate > 0
        decision: Decision = "better" if better else "worse"
        sentence = f"B is {decision} than A: {numbers}."
    elif -asked < difference.low and difference.high < asked:
        decision = "alike"
        sentence = f"A and B are alike within {_points(asked)} points: {numbers}."
    else:
        decision = "undecided"
        sentence = f"Not decided: {numbers}."
        if overall.more:
            per_cell = math.ceil(overall.more / max(overall.a.cells, 1))
            what = "pairs" if paired else "episodes of each run"
            sentence += (
                f" About {overall.more} more {what} ({per_cell} more scenarios per task) would find a difference of "
                f"{_points(asked)} points."
            )
        else:
            sentence += f" A difference of {_points(asked)} points would have been found in {POWER:.0%} of evaluations."
    if len(tasks) > 1:
        clear = [task for task in tasks if task.adjusted_p <= alpha]
        for word, names in (
            ("better", [task.task for task in clear if task.difference.estimate > 0]),
            ("worse", [task.task for task in clear if task.difference.estimate < 0]),
        ):
            if names:
                sentence += f" B is {word} in {', '.join(names)}."
    return decision, sentence


def _notes(a: RunOutcomes, b: RunOutcomes, different: list[str], errors: ErrorAccounting) -> list[str]:
    notes = [
        "Rates are means over task x camera cells of the compared episodes. Intervals: Wilson's for rates, Tango's for paired "
        "and Newcombe's for independent differences. p: exact sign-flip test over scenarios, McNemar's with one "
        "camera; for independent rates Boschloo's or the score test."
    ]
    if chain_length(a.spec) > 1:
        notes.append(RUNG_NOTE)
    if different:
        notes.append(f"Compared on request, though the rules differ: {'; '.join(different)}.")
    if changes := field_differences(a.spec, b.spec, CHOICES):
        notes.append(f"The runs differ in {'; '.join(map(_shorten, changes))}.")
    if changes := version_differences(dict(a.manifest.versions), dict(b.manifest.versions)):
        notes.append(f"The runs were made with different packages: {'; '.join(changes)}.")
    if a.manifest.privileged != b.manifest.privileged:
        one = a if a.manifest.privileged else b
        notes.append(f"{one.name} is privileged: its agent reads the simulator's state.")
    counts = [(run.name, run.count("error")) for run in (a, b)]
    if any(count for _, count in counts):
        how = "counted as failures" if errors == "failure" else "left out, with their partners"
        notes.append(f"Error episodes, {how}: {', '.join(f'{count} in {name}' for name, count in counts)}.")
    for run in (a, b):
        if run.missing:
            notes.append(f"{run.name} is not finished: {run.missing} episodes have no result yet.")
    return notes


def _left_out(a: RunOutcomes, b: RunOutcomes, frame_a: pd.DataFrame, frame_b: pd.DataFrame, pairs: int) -> list[str]:
    """Say how many counted episodes have no partner."""
    alone = [(run.name, len(frame) - pairs) for run, frame in ((a, frame_a), (b, frame_b)) if len(frame) > pairs]
    if not alone:
        return []
    return [f"Without a partner and left out: {', '.join(f'{count} episodes of {name}' for name, count in alone)}."]


# --- Texts --------------------------------------------------------------------------------------------------------


def rate_text(rate: Rate) -> str:
    """A rate in percent with its interval."""
    return NOTHING if not rate.n else f"{100 * rate.mean:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def difference_text(difference: Difference) -> str:
    """A difference in points with its interval."""
    if not difference.n:
        return NOTHING
    estimate, low, high = (signed(value) for value in difference[:3])
    return f"{estimate} [{low}, {high}]"


def difference_phrase(difference: Difference) -> str:
    """A difference within a sentence, without the brackets that Markdown would escape."""
    estimate, low, high = (signed(value) for value in difference[:3])
    return f"{estimate} points ({low} to {high})"


def signed(share: float) -> str:
    """A difference in points with its sign; -0.0 is +0.0."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def p_phrase(p: float) -> str:
    """A P value within a sentence."""
    return "p below 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_text(p: float) -> str:
    """A P value as papers print it."""
    if math.isnan(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if value is None or math.isnan(value) else float(value)


def _points(share: float) -> str:
    return f"{100 * share:g}"


def _shorten(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:80]}..."


def _rate_record(name: str, rate: Rate) -> dict[str, Any]:
    return {
        f"{name}_success_rate": number(rate.mean),
        f"{name}_ci_low": number(rate.low),
        f"{name}_ci_high": number(rate.high),
        f"{name}_n": rate.n,
        f"{name}_n_success": None if not rate.n else int(np.rint(rate.mean * rate.n)),
    }


def _facts(run: RunOutcomes) -> Mapping[str, Any]:
    return {
        "run": run.name,
        "agent": run.spec.agent.name,
        "privileged": run.manifest.privileged,
        "suite": run.spec.suite,
        "protocol": run.spec.protocol,
        "spec_digest": run.spec.digest,
        "n_error": run.count("error"),
        "n_missing": run.missing,
    }
