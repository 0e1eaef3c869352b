"""Rates over several cells: the mean of the cells' rates, as the papers report it, with an interval for that mean.

A cell with more episodes does not count for more. With equally many episodes in every cell the mean equals the pooled
rate. Three intervals, by what they know: `mean_of_cells` takes every episode for independent; `clustered_rate` counts
scenarios where several cameras saw one; `bootstrap_interval` resamples, for any statistic. docs/statistics.md shows how
often each covers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from flowbench.errors import BadValue
from flowbench.stats.intervals import Interval, wilson_interval
from flowbench.stats.sample import ClusteredSample

Level = Literal["task", "camera", "scenario"]
LEVELS: tuple[Level, ...] = ("task", "camera", "scenario")


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


def clustered_rate(sample: ClusteredSample, confidence: float = 0.95, *, stratified: bool = True) -> Rate:
    """Average the rates of cells, with a Wilson interval at the number of episodes that the scenarios are worth.

    The effective sample size is the one at which independent episodes would vary as this mean does, after Korn &
    Graubard (1998), Survey Methodology 24; Franco, Little, Louis & Slud (2019), J. Survey Statistics and Methodology 7,
    find Wilson's interval at it to cover best. It falls with the design effect (scenarios that fail from all cameras),
    and rises when cells differ (a cell that always succeeds contributes no variance). So that a cell of few episodes is
    not taken for one that always succeeds, a success and a failure are added to each for its variance. One cell gives
    Wilson's plain interval.

    Args:
        sample: Success, 0 or 1, of each episode.
        confidence: Coverage.
        stratified: Whether cells that differ narrow the interval; without, it is never narrower than `mean_of_cells`.
    """
    if not sample.n:
        return Rate(np.nan, np.nan, np.nan, 0, 0)
    mean, n = sample.mean, sample.nominal_n
    if stratified:
        rates = (np.bincount(sample.cell, sample.values, sample.cells) + 1) / (sample.cell_counts + 2)
        variance = float(np.sum(rates * (1 - rates) / sample.cell_counts)) / sample.cells**2
        n = max(n, mean * (1 - mean) / variance)
    n = sample.worth(n, confidence)
    low, high = wilson_interval(mean * n, n, confidence)
    # Rounding of mean * n must not push a bound past the mean.
    return Rate(mean, max(float(min(low, mean)), 0.0), min(float(max(high, mean)), 1.0), sample.n, sample.cells)


def bootstrap_means(
    values: np.ndarray, generator: np.random.Generator, *, resample: Iterable[Level] = ("scenario",), count: int = 2000
) -> np.ndarray:
    """Return `count` means of cells of samples drawn with replacement, level by level.

    Scenarios are drawn within their task, each with all its cameras. What is not drawn is held fixed: the default asks
    how the rate on these very tasks and cameras would vary. Drawing tasks, too, asks about tasks like these, and drawing
    cameras about poses like these; with few of them the answer is rough.

    Args:
        values: (T, S, C) success or difference by task, scenario and camera; NaN where there is no episode.
        generator: Source of randomness.
        resample: Which of `task`, `camera` and `scenario` are drawn.
        count: Number of samples B.

    Returns:
        (B,) means; NaN for a sample without an episode.

    Raises:
        BadValue: If a level does not exist.
    """
    levels = set(resample)
    if not levels or levels - set(LEVELS):
        raise BadValue(f"resample is {sorted(levels)}; choose one or more of {', '.join(LEVELS)}.")
    values = np.asarray(values, dtype=np.float64)
    tasks, _, cameras = values.shape
    found = ~np.isnan(values)
    sums = np.where(found, values, 0.0)

    def draw(size: int) -> np.ndarray:
        return generator.multinomial(size, np.full(size, 1 / size), count).astype(np.float64)

    task_weights = draw(tasks) if "task" in levels else np.ones((count, tasks))
    camera_weights = draw(cameras) if "camera" in levels else np.ones((count, cameras))
    total, weight = np.zeros(count), np.zeros(count)
    for task in range(tasks):
        rows = found[task].any(axis=1)
        if not rows.any():
            continue
        drawn = draw(int(rows.sum())) if "scenario" in levels else np.ones((count, int(rows.sum())))
        n = drawn @ found[task][rows].astype(np.float64)
        rates = (drawn @ sums[task][rows]) / np.maximum(n, 1e-300)
        cell_weights = task_weights[:, [task]] * camera_weights * (n > 0)
        total += (cell_weights * rates).sum(axis=1)
        weight += cell_weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return total / weight


def bootstrap_interval(
    values: np.ndarray,
    generator: np.random.Generator,
    *,
    resample: Iterable[Level] = ("scenario",),
    confidence: float = 0.95,
    count: int = 2000,
) -> Interval:
    """Return the percentile interval of `bootstrap_means` (Efron 1979; clusters after Davison & Hinkley 1997, 3.8).

    It has no width where no scenario of any task varies: at 0 and 100 % use `clustered_rate`.
    """
    means = bootstrap_means(values, generator, resample=resample, count=count)
    tail = (1 - confidence) / 2
    return Interval(*np.nanquantile(means, [tail, 1 - tail]))
