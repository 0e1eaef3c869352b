"""Intervals for one success rate, vectorised: a million cells cost one call.

Both bracket the rate k / n of independent episodes. Wilson's covers 95 % on average over rates, with dips near 0 and 1;
Clopper-Pearson's covers at least 95 % at every rate and is wider for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtri


class Interval(NamedTuple):
    """Bounds of a confidence interval; numbers or arrays, NaN where there is no episode.

    Attributes:
        low: Lower bound.
        high: Upper bound.
    """

    low: np.ndarray
    high: np.ndarray


def normal_quantile(confidence: float) -> float:
    """Return z such that a standard normal lies within +-z with this probability."""
    return float(ndtri(0.5 + confidence / 2))


def wilson_interval(successes: np.ndarray | float, n: np.ndarray | float, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval (Wilson 1927, without continuity correction) of each of many rates.

    Equal to `scipy.stats.binomtest(k, n).proportion_ci(confidence, method="wilson")`, but for whole arrays, and for the
    fractional counts of an effective sample size.

    Args:
        successes: (...) number of successes.
        n: (...) number of episodes; 0 gives NaN bounds.
        confidence: Coverage.
    """
    successes, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    z = normal_quantile(confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = successes / n
        scale = 1 + z**2 / n
        center = (rate + z**2 / (2 * n)) / scale
        half_width = z / scale * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # At 0 and n successes the bound is exact; rounding must not push it past the rate.
    low = np.where(successes == 0, np.where(n > 0, 0.0, np.nan), center - half_width)
    high = np.where(successes == n, np.where(n > 0, 1.0, np.nan), center + half_width)
    return Interval(low[()], high[()])


def clopper_pearson_interval(
    successes: np.ndarray | float, n: np.ndarray | float, confidence: float = 0.95
) -> Interval:
    """Return the exact interval of Clopper & Pearson (1934) of each of many rates.

    Equal to `scipy.stats.binomtest(k, n).proportion_ci(confidence, method="exact")`, but for whole arrays, and for
    fractional counts (Korn & Graubard 1998).

    Args:
        successes: (...) number of successes.
        n: (...) number of episodes; 0 gives NaN bounds.
        confidence: Least coverage.
    """
    successes, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(successes == 0, 0.0, betaincinv(np.maximum(successes, 1e-300), n - successes + 1, tail))
        high = np.where(successes == n, 1.0, betaincinv(successes + 1, np.maximum(n - successes, 1e-300), 1 - tail))
    empty = n <= 0
    return Interval(np.where(empty, np.nan, low)[()], np.where(empty, np.nan, high)[()])
