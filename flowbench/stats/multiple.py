"""Many tests at once: eleven tasks give a "significant" one by chance in four comparisons of ten."""

from __future__ import annotations

import numpy as np

from flowbench.stats.paired import scenario_sums, sign_flip_test
from flowbench.stats.sample import ClusteredSample


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm's adjusted P values (Holm 1979); NaN, where nothing was tested, stays and does not count.

    Equal to `statsmodels.stats.multitest.multipletests(p_values, method="holm")`, which collects the process's garbage
    on each call and so takes a tenth of a second.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    # NaN sorts last.
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def candidates_for_best(successes: np.ndarray, sample: ClusteredSample, alpha: float = 0.05) -> np.ndarray:
    """Return which agents cannot be told apart from the best.

    An agent is left out when another is better than it by the one-sided sign-flip test at `alpha` / (agents - 1). The
    truly best agent is left out with probability at most `alpha`, however many are close to it (a confidence set for
    the best, after Hsu 1984, Annals of Statistics 12; by Bonferroni's inequality, so without his normal model).

    Args:
        successes: (A, N) success of each agent in the same N episodes.
        sample: The cell and scenario of each episode; its values are not used.
        alpha: Probability of leaving out the best.

    Returns:
        (A,) booleans; at least one is True.
    """
    successes = np.asarray(successes, dtype=np.float64)
    agents = len(successes)
    kept = np.ones(agents, dtype=bool)
    for agent in range(agents):
        for other in range(agents):
            sums = scenario_sums(
                ClusteredSample(successes[other] - successes[agent], sample.cell, sample.scenario, sample.task)
            )
            if sums.sum() > 0 and sign_flip_test(sums, "greater") * (agents - 1) <= alpha:
                kept[agent] = False
                break
    return kept
