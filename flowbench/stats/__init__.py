"""Success rates with intervals: the few statistics every table needs, written once and vectorised.

A rate over several cells (task x camera) is the mean of the cells' rates, as the papers report it, so that a cell with
more episodes does not count for more. With equally many episodes in every cell it equals the pooled rate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri


class Interval(NamedTuple):
    """Bounds of a confidence interval for a rate; numbers or arrays, NaN where there is no episode.

    Attributes:
        low: Lower bound, from 0.
        high: Upper bound, to 1.
    """

    low: np.ndarray
    high: np.ndarray


class Rate(NamedTuple):
    """A success rate over cells.

    Attributes:
        mean: Mean of the cells' rates; NaN if no cell has an episode.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        n: Number of episodes counted.
        cells: Number of cells that have at least one episode.
    """

    mean: float
    low: float
    high: float
    n: int
    cells: int


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
    z = float(ndtri(0.5 + confidence / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = successes / n
        scale = 1 + z**2 / n
        center = (rate + z**2 / (2 * n)) / scale
        half_width = z / scale * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # At 0 and n successes the bound is exact; rounding must not push it past the rate.
    low = np.where(successes == 0, np.where(n > 0, 0.0, np.nan), center - half_width)
    high = np.where(successes == n, np.where(n > 0, 1.0, np.nan), center + half_width)
    return Interval(low[()], high[()])


def mean_of_cells(successes: np.ndarray, n: np.ndarray) -> Rate:
    """Average the rates of cells that have episodes, with a Wilson interval.

    The interval is taken at the effective sample size of a mean of cells, `cells**2 / sum(1 / n_cell)`. With equal cells
    that is the number of episodes, and the interval is Wilson's on the pooled counts.

    Args:
        successes: (C,) successes per cell.
        n: (C,) episodes per cell; cells without one are left out.
    """
    successes, n = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    filled = n > 0
    cells = int(filled.sum())
    if not cells:
        return Rate(np.nan, np.nan, np.nan, 0, 0)
    total = float(n[filled].sum())
    equal = bool(np.all(n[filled] == n[filled][0]))
    mean = float(successes[filled].sum() / total if equal else np.mean(successes[filled] / n[filled]))
    effective_n = total if equal else cells**2 / float(np.sum(1 / n[filled]))
    low, high = wilson_interval(mean * effective_n, effective_n)
    return Rate(mean, float(low), float(high), int(total), cells)
