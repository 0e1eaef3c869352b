"""Has it become worse? Three answers, with the chance of each wrong one fixed beforehand.

"Regression" when a loss is shown, "held" when a loss of `margin` or more is ruled out, and otherwise neither, which is no
pass: too few episodes cannot wave a regression through. Half of the false alarms that `alpha` allows go to the rate
overall, half to single tasks, because one task of fifty that collapses hardly moves the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from flowbench.stats.multiple import holm
from flowbench.stats.paired import scenario_sums, sign_flip_test, tango_counts, tango_interval
from flowbench.stats.sample import ClusteredSample
from flowbench.stats.sequential import betting_p_value

Answer = Literal["better", "held", "regression", "underpowered"]


class Evidence(NamedTuple):
    """What is known about a difference, new minus old.

    Attributes:
        estimate: The difference; NaN without an episode.
        low: Lower bound, above which it lies with confidence 1 - alpha.
        high: Upper bound, below which it lies with confidence 1 - alpha.
        p_worse: P value of "not worse".
        p_better: P value of "not better".
        n: Pairs, or episodes of the smaller run.
    """

    estimate: float
    low: float
    high: float
    p_worse: float
    p_better: float
    n: int


class Decision(NamedTuple):
    """The answer, and where a regression was found.

    Attributes:
        answer: One of four.
        overall: Whether the rate overall regressed.
        tasks: Indices of the tasks that regressed.
        adjusted: (T,) P values of "not worse" of the tasks, after Holm.
    """

    answer: Answer
    overall: bool
    tasks: tuple[int, ...]
    adjusted: np.ndarray


NOTHING_KNOWN = Evidence(math.nan, math.nan, math.nan, math.nan, math.nan, 0)


def paired_evidence(changes: Sequence[ClusteredSample], alpha: float) -> list[Evidence]:
    """Weigh pairs, sample by sample: -1, 0 or 1 of each; Tango's bounds and the sign-flip test, both by scenario."""
    confidence = 1 - 2 * alpha
    counts = [tango_counts(change, confidence) if change.n else (0.0, 0.0, 0.0) for change in changes]
    lows, highs = tango_interval(*np.array(counts).reshape(-1, 3).T, confidence)
    evidence = []
    for change, low, high in zip(changes, lows, highs):
        sums = scenario_sums(change) if change.n else np.zeros(0)
        p_values = [sign_flip_test(sums, side) for side in ("less", "greater")]
        found = Evidence(change.mean, float(low), float(high), *p_values, change.n)
        evidence.append(found if change.n else NOTHING_KNOWN)
    return evidence


def independent_evidence(old: ClusteredSample, new: ClusteredSample, alpha: float) -> Evidence:
    """Weigh two independent runs: Newcombe's bounds and Miettinen and Nurminen's score test."""
    from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

    if not old.n or not new.n:
        return NOTHING_KNOWN
    n_new, n_old = (sample.worth(sample.nominal_n, 1 - 2 * alpha) for sample in (new, old))
    counts = (new.mean * n_new, n_new, old.mean * n_old, n_old)
    # Rounding may leave the last bit outside.
    low, high = np.clip(confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=2 * alpha), -1, 1)
    if new.mean == old.mean:
        p_worse = p_better = 0.5
    else:
        p_worse, p_better = (
            float(test_proportions_2indep(*counts, method="score", compare="diff", alternative=side).pvalue)
            for side in ("smaller", "larger")
        )
    return Evidence(new.mean - old.mean, float(low), float(high), p_worse, p_better, min(new.n, old.n))


def decide(overall: Evidence, tasks: Sequence[Evidence], margin: float, alpha: float) -> Decision:
    """Answer from the evidence.

    A regression is a loss that is shown and not shown to be smaller than `margin`.

    Args:
        overall: Over all tasks.
        tasks: Task by task.
        margin: The loss that is tolerated.
        alpha: Probability of a false "regression", and of a false "held".
    """
    adjusted = holm([task.p_worse for task in tasks])
    worse_overall = overall.p_worse <= alpha / 2 and not overall.low > -margin
    worse_tasks = tuple(
        index for index, task in enumerate(tasks) if adjusted[index] <= alpha / 2 and not task.low > -margin
    )
    if worse_overall or worse_tasks:
        answer: Answer = "regression"
    elif overall.p_better <= alpha and overall.low > -margin:
        answer = "better"
    elif overall.low > -margin:
        answer = "held"
    else:
        answer = "underpowered"
    return Decision(answer, worse_overall, worse_tasks, adjusted)


def decide_sequentially(
    changes: np.ndarray, tasks: np.ndarray, task_count: int, margin: float, alpha: float
) -> Decision:
    """Answer from the scenarios that have finished so far; may be asked again after each.

    A regression may be found at any moment. Whether the whole has held is only asked when every task has had equally
    many scenarios, since the tasks that come first say nothing of the others; `betting_wealth` says why its answer is
    then valid although the tasks differ.

    Args:
        changes: (S,) new minus old of each scenario that has finished, from -1 to 1, in order of time.
        tasks: (S,) index of its task.
        task_count: Number of tasks T of the whole evaluation.
        margin: The loss that is tolerated.
        alpha: Probability of ever giving a false "regression", and of ever giving a false "held".
    """
    changes, tasks = np.asarray(changes, dtype=np.float64), np.asarray(tasks, dtype=int)
    per_task = np.array([_smallest(betting_p_value(-changes[tasks == task], 0.0)) for task in range(task_count)])
    adjusted = holm(per_task)
    worse_overall = _smallest(betting_p_value(-changes, 0.0)) <= alpha / 2
    worse_tasks = tuple(int(task) for task in np.flatnonzero(adjusted <= alpha / 2))
    in_blocks, ends = whole_blocks(tasks, task_count)
    held = _smallest(betting_p_value(changes[in_blocks], -margin)[ends]) <= alpha
    better = _smallest(betting_p_value(changes[in_blocks], 0.0)[ends]) <= alpha
    if worse_overall or worse_tasks:
        answer: Answer = "regression"
    elif held:
        answer = "better" if better else "held"
    else:
        answer = "underpowered"
    return Decision(answer, bool(worse_overall), worse_tasks, adjusted)


def whole_blocks(tasks: np.ndarray, task_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the order in which scenarios form blocks of one per task, and where each block ends.

    Args:
        tasks: (S,) index of each scenario's task, in order of time.
        task_count: Number of tasks T.

    Returns:
        (B * T,) indices into the scenarios, and (B,) indices into that.
    """
    counts = np.bincount(tasks, minlength=task_count)
    blocks = int(counts.min()) if task_count else 0
    by_task = np.argsort(tasks, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    order = by_task[(starts[None, :] + np.arange(blocks)[:, None])].reshape(-1) if blocks else np.zeros(0, dtype=int)
    return order, np.arange(1, blocks + 1) * task_count - 1


def _smallest(p_values: np.ndarray) -> float:
    return float(np.min(p_values)) if len(p_values) else 1.0
