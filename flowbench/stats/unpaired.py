"""Two agents on different scenarios: independent rates, compared by what SciPy and statsmodels offer.

Pairs decide with fewer episodes; this is for runs that have no scenario in common.
"""

from __future__ import annotations

import numpy as np

from flowbench.stats.paired import Difference
from flowbench.stats.sample import ClusteredSample

#: Boschloo's test takes seconds beyond this many episodes in each run.
LARGEST_EXACT = 100


def independent_difference(
    a: ClusteredSample, b: ClusteredSample, confidence: float = 0.95, *, largest_exact: int = LARGEST_EXACT
) -> Difference:
    """Estimate, bracket and test the difference of two independent rates, B minus A.

    The interval is Newcombe's hybrid score interval (1998, method 10), at the number of episodes that each run is worth:
    it needs no iteration, which statsmodels' Miettinen-Nurminen interval does not survive at 0 and 100 %. The test is
    Boschloo's (1970), exact, for up to `largest_exact` episodes of one camera; else Miettinen & Nurminen's score test
    (1985).

    Args:
        a: Success of A's episodes.
        b: Success of B's.
        confidence: Coverage of the interval.
        largest_exact: Episodes up to which the exact test is used.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

    if not a.n or not b.n:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0, 1.0)
    n_a, n_b = (sample.worth(sample.nominal_n, confidence) for sample in (a, b))
    counts = (b.mean * n_b, n_b, a.mean * n_a, n_a)
    # Rounding may leave the last bit outside.
    low, high = np.clip(
        confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=1 - confidence), -1, 1
    )
    effect = max(a.design_effect, b.design_effect)
    plain = n_a == a.n and n_b == b.n
    if plain and max(a.n, b.n) <= largest_exact:
        p = boschloo(int(a.values.sum()), a.n, int(b.values.sum()), b.n)
    elif a.mean in (0.0, 1.0) and a.mean == b.mean:
        p = 1.0
    else:
        p = float(test_proportions_2indep(*counts, method="score", compare="diff").pvalue)
    return Difference(b.mean - a.mean, float(low), float(high), p, min(a.n, b.n), effect)


def boschloo(successes_a: int, n_a: int, successes_b: int, n_b: int) -> float:
    """Return the two-sided P value of Boschloo's exact test of two independent rates."""
    from scipy.stats import boschloo_exact

    if successes_a * n_b == successes_b * n_a:
        return 1.0
    table = [[successes_b, successes_a], [n_b - successes_b, n_a - successes_a]]
    return float(boschloo_exact(table).pvalue)
