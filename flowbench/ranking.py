"""Which of several runs may be the best: every pair on the scenarios that all of them ran.

The largest of ten rates is the largest partly by luck. So a ranking names the set of agents that cannot be told apart from
the best, and adjusts the P values of all pairs together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from flowbench.comparability import check_distinct, differences, incomparable
from flowbench.compare import (
    CHOICES,
    RULES,
    difference_text,
    number,
    p_text,
    rate_text,
    same_scenarios,
)
from flowbench.errors import BadValue
from flowbench.outcomes import KEY, RunOutcomes, count_errors, sample_of
from flowbench.sheet import Group, Line, Sheet, SheetCell
from flowbench.stats import (
    ClusteredSample,
    Difference,
    Rate,
    candidates_for_best,
    clustered_rate,
    holm,
    paired_difference,
)
from flowbench.tables import ErrorAccounting


@dataclass(frozen=True)
class ComparedPair:
    """Two of the runs.

    Attributes:
        a: Index of the one.
        b: Index of the other.
        difference: B minus A.
        adjusted_p: P value after Holm over all pairs.
    """

    a: int
    b: int
    difference: Difference
    adjusted_p: float


@dataclass(frozen=True)
class Ranking:
    """Several runs, the highest rate first; `flowbench.table_formats` writes it.

    Attributes:
        runs: The runs.
        rates: One per run, over the common episodes.
        candidates: Whether each may be the best.
        pairs: Every pair of runs, the one with the higher rate first.
        n: Number of episodes that all runs have.
        notes: What a reader has to know.
        alpha: Level of the tests; the truly best agent is missing from the candidates with at most this probability.
        errors: How errors were counted.
    """

    runs: tuple[RunOutcomes, ...]
    rates: tuple[Rate, ...]
    candidates: tuple[bool, ...]
    pairs: tuple[ComparedPair, ...]
    n: int
    notes: tuple[str, ...]
    alpha: float
    errors: ErrorAccounting

    @property
    def verdict(self) -> str:
        """Which agents may be the best, in one sentence."""
        names = [
            f"{self._letter(index)} ({run.label})"
            for index, (run, candidate) in enumerate(zip(self.runs, self.candidates))
            if candidate
        ]
        where = f"{self.n} episodes that all runs have"
        if len(names) == 1:
            return f"{names[0]} is better than every other run, on {where}."
        return f"{', '.join(names[:-1])} and {names[-1]} cannot be told apart from the best, on {where}."

    @property
    def sheet(self) -> Sheet:
        """The ranking as people see it: a line per run, with what it lacks to each better one."""
        confidence = f"[{100 * (1 - self.alpha):g} %]"
        others = [f"minus {self._letter(index)} {confidence}, p (Holm)" for index in range(len(self.runs) - 1)]
        return Sheet(
            caption=self.verdict,
            labels=("", "run"),
            spans=(),
            headings=(f"success % {confidence}", "may be the best", *others),
            groups=(Group("", tuple(map(self._line, range(len(self.runs))))),),
            notes=self.notes,
            records=tuple(map(self._record, self.pairs)),
            facts={
                "verdict": {
                    "sentence": self.verdict,
                    "candidates": [run.name for run, kept in zip(self.runs, self.candidates) if kept],
                },
                "runs": [
                    {
                        "run": run.name,
                        "agent": run.spec.agent.name,
                        "privileged": run.manifest.privileged,
                        "success_rate": number(rate.mean),
                        "ci_low": number(rate.low),
                        "ci_high": number(rate.high),
                        "may_be_best": candidate,
                    }
                    for run, rate, candidate in zip(self.runs, self.rates, self.candidates)
                ],
                "n": self.n,
                "alpha": self.alpha,
                "errors_counted": self.errors,
            },
        )

    @staticmethod
    def _letter(index: int) -> str:
        return chr(ord("A") + index) if index < 26 else f"#{index + 1}"

    def _line(self, index: int) -> Line:
        run = self.runs[index]
        texts = [rate_text(self.rates[index]), "yes" if self.candidates[index] else "no"]
        found = {pair.a: pair for pair in self.pairs if pair.b == index}
        for other in range(len(self.runs) - 1):
            pair = found.get(other)
            texts.append(f"{difference_text(pair.difference)}, {p_text(pair.adjusted_p)}" if pair else "")
        return Line((self._letter(index), f"{run.label} ({run.name})"), tuple(SheetCell((text,)) for text in texts))

    def _record(self, pair: ComparedPair) -> dict[str, Any]:
        return {
            "a": self.runs[pair.a].name,
            "b": self.runs[pair.b].name,
            "difference": number(pair.difference.estimate),
            "difference_ci_low": number(pair.difference.low),
            "difference_ci_high": number(pair.difference.high),
            "p": number(pair.difference.p),
            "p_holm": number(pair.adjusted_p),
            "n": pair.difference.n,
        }


def rank(
    runs: Sequence[RunOutcomes],
    *,
    errors: ErrorAccounting = "exclude",
    allow_different: bool = False,
    alpha: float = 0.05,
) -> Ranking:
    """Rank runs on the episodes that all of them have.

    Args:
        runs: Two or more runs; three or more make sense.
        errors: `exclude` leaves out episodes that are an error in any run; `failure` counts them as failures.
        allow_different: Accept runs under different rules.
        alpha: Level of the tests; intervals cover 1 - alpha each.

    Raises:
        BadValue: If the runs are not comparable, or have no episode in common.
    """
    if not 0 < alpha < 1:
        raise BadValue(f"--alpha is {alpha:g}; give a number between 0 and 1, e.g. 0.05.")
    check_distinct(runs)
    different = incomparable(runs, RULES)
    if different and not allow_different:
        raise BadValue(
            f"The runs are not comparable: {'; '.join(different)}. Evaluate all under the same rules, or pass "
            "--allow-different to compare them all the same."
        )
    common = _common_episodes(runs, errors)
    sample = sample_of(common, np.zeros(len(common)))
    successes = common[[f"success_{index}" for index in range(len(runs))]].to_numpy().T
    samples = [ClusteredSample(row, sample.cell, sample.scenario, sample.task) for row in successes]
    rates = [clustered_rate(one, 1 - alpha) for one in samples]
    order = sorted(range(len(runs)), key=lambda index: -rates[index].mean)
    found = [
        paired_difference(
            ClusteredSample(successes[order[b]] - successes[order[a]], sample.cell, sample.scenario, sample.task),
            1 - alpha,
        )
        for a, b in combinations(range(len(runs)), 2)
    ]
    adjusted = holm([difference.p for difference in found])
    pairs = tuple(
        ComparedPair(a, b, difference, float(p))
        for (a, b), difference, p in zip(combinations(range(len(runs)), 2), found, adjusted)
    )
    kept = candidates_for_best(successes[order], sample, alpha)
    ranked = tuple(runs[index] for index in order)
    return Ranking(
        ranked,
        tuple(rates[index] for index in order),
        tuple(map(bool, kept)),
        pairs,
        len(common),
        tuple(_notes(ranked, different, errors, len(common), alpha)),
        alpha,
        errors,
    )


def _common_episodes(runs: Sequence[RunOutcomes], errors: ErrorAccounting) -> pd.DataFrame:
    """Return one row per episode that every run has, with a column `success_INDEX` of each run."""
    first = runs[0]
    for other in runs[1:]:
        if not same_scenarios(first, other):
            raise BadValue(
                f"{first.name} and {other.name} start from different initial states. More than two runs are compared on common "
                "scenarios; compare these two alone."
            )
    frames = [
        count_errors(run.frame, errors)[[*KEY, "success"]].rename(columns={"success": f"success_{index}"})
        for index, run in enumerate(runs)
    ]
    common = reduce(lambda a, b: a.merge(b, on=KEY), frames)
    if common.empty:
        raise BadValue(
            "The runs have no episode in common: the same task, camera and scenario in all of them. Compare two at a "
            "time, or leave one out."
        )
    return common


def _notes(
    runs: Sequence[RunOutcomes], different: list[str], errors: ErrorAccounting, n: int, alpha: float
) -> list[str]:
    notes = [
        "Rates are means over task x camera cells of the episodes that all runs have. Intervals: Wilson's for rates, Tango's for "
        "differences, both counting scenarios; p: exact sign-flip test over scenarios, McNemar's with one camera, after Holm "
        "over all pairs.",
        f"may be the best: no other run is better at level {alpha:g} (one-sided, divided by the number of others). The truly "
        f"best agent is left out with a probability of at most {alpha:g}.",
    ]
    if different:
        notes.append(f"Compared on request, though the rules differ: {'; '.join(different)}.")
    if changes := differences(runs, CHOICES):
        notes.append(f"The runs differ in {'; '.join(changes)}.")
    if privileged := [run.name for run in runs if run.manifest.privileged]:
        notes.append(f"Privileged, because the agent reads the simulator's state: {', '.join(privileged)}.")
    counts = [f"{run.count('error')} in {run.name}" for run in runs if run.count("error")]
    if counts:
        how = "counted as failures" if errors == "failure" else "left out, with their partners"
        notes.append(f"Error episodes, {how}: {', '.join(counts)}.")
    alone = [f"{len(run.frame) - n} of {run.name}" for run in runs if len(run.frame) > n]
    if alone:
        notes.append(f"Episodes that not all runs have, left out: {', '.join(alone)}.")
    notes += [f"{run.name} is not finished: {run.missing} episodes have no result yet." for run in runs if run.missing]
    return notes
