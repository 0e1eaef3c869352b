"""Two agents on the same scenarios: what differs is counted scenario by scenario, so that hard scenarios cancel out.

Differences are B minus A. The test flips the sign of each scenario's difference (Fisher 1935), which with one camera is
McNemar's exact test; the interval is Tango's. Both count scenarios, not episodes, where several cameras saw one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.special import bdtr

from flowbench.errors import BadValue, ShapeError
from flowbench.stats.intervals import Interval, normal_quantile
from flowbench.stats.sample import ClusteredSample

#: Which B is looked for: any other, a better one, a worse one.
Alternative = Literal["two-sided", "greater", "less"]


class PairedCounts(NamedTuple):
    """Outcomes of two agents in the same episodes.

    Attributes:
        both: Episodes in which both succeeded.
        only_a: Episodes in which A alone succeeded.
        only_b: Episodes in which B alone succeeded.
        neither: Episodes in which both failed.
    """

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def n(self) -> int:
        """Number of pairs."""
        return sum(self)

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray) -> PairedCounts:
        """Count two (N,) arrays of success."""
        a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
        return cls(int(np.sum(a & b)), int(np.sum(a & ~b)), int(np.sum(~a & b)), int(np.sum(~a & ~b)))


class Difference(NamedTuple):
    """A difference of success rates, B minus A.

    Attributes:
        estimate: Mean of the cells' differences; NaN without an episode.
        low: Lower bound.
        high: Upper bound.
        p: P value of "no difference".
        n: Pairs counted.
        design_effect: By how much pairs of one scenario go together; 1 with one camera.
    """

    estimate: float
    low: float
    high: float
    p: float
    n: int
    design_effect: float


def tango_interval(
    only_b: np.ndarray | float, only_a: np.ndarray | float, n: np.ndarray | float, confidence: float = 0.95
) -> Interval:
    """Return Tango's score interval of a paired difference (only_b - only_a) / n, of each of many.

    The differences d for which the score test of "the difference is d" does not reject; Tango (1998), Statistics in
    Medicine 17:891-908, equations 24 to 26. It stays within -1 and 1 and has a width when nothing differs.

    Args:
        only_b: (...) pairs in which B alone succeeded; may be fractional.
        only_a: (...) pairs in which A alone succeeded.
        n: (...) pairs; 0 gives NaN bounds.
        confidence: Coverage.
    """
    only_b, only_a, n = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (only_b, only_a, n)))
    z = normal_quantile(confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = (only_b - only_a) / n
        low, high = _cross(only_b, only_a, n, z, estimate)
    low, high = np.where(only_a == n, -1.0, low), np.where(only_b == n, 1.0, high)
    empty = n <= 0
    return Interval(np.where(empty, np.nan, low)[()], np.where(empty, np.nan, high)[()])


def tango_score(only_b: np.ndarray, only_a: np.ndarray, n: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Return Tango's score of "the difference is `difference`": standard normal if it is; it falls as that rises."""
    # Most likely share of pairs in which A alone succeeds, among all with this difference.
    linear = (2 * n - only_b + only_a) * difference - only_b - only_a
    constant = -only_a * difference * (1 - difference)
    share_a = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * share_a + difference * (1 - difference))
    gap = only_b - only_a - n * difference
    # Without variance a gap is certain; none is none.
    certain = np.where(gap == 0, 0.0, np.copysign(np.inf, gap))
    return np.where(variance > 0, gap / np.sqrt(np.where(variance > 0, variance, 1.0)), certain)


def _cross(only_b: np.ndarray, only_a: np.ndarray, n: np.ndarray, z: float, estimate: np.ndarray) -> np.ndarray:
    """Find where the falling score crosses z, below the estimate, and -z, above it, by bisection to 2**-53."""
    target = np.array([z, -z]).reshape(2, *[1] * estimate.ndim)
    left, right = np.stack([np.full_like(estimate, -1.0), estimate]), np.stack([estimate, np.full_like(estimate, 1.0)])
    for _ in range(54):
        middle = (left + right) / 2
        above = tango_score(only_b, only_a, n, middle) > target
        left, right = np.where(above, middle, left), np.where(above, right, middle)
    return (left + right) / 2


def mcnemar_exact(
    only_a: np.ndarray | int, only_b: np.ndarray | int, alternative: Alternative = "two-sided"
) -> np.ndarray:
    """Return the P values of McNemar's exact test, conditional on the number of pairs that differ.

    Args:
        only_a: (...) pairs in which A alone succeeded.
        only_b: (...) pairs in which B alone succeeded.
        alternative: `greater` looks for a better B, `less` for a worse one.
    """
    only_a, only_b = np.broadcast_arrays(np.asarray(only_a, dtype=np.int64), np.asarray(only_b, dtype=np.int64))
    m = only_a + only_b
    as_bad, as_good = bdtr(only_b, m, 0.5), bdtr(only_a, m, 0.5)
    p = {"less": as_bad, "greater": as_good, "two-sided": 2 * np.minimum(as_bad, as_good)}[_check(alternative)]
    return np.minimum(np.where(m > 0, p, 1.0), 1.0)[()]


def sign_flip_test(differences: np.ndarray, alternative: Alternative = "two-sided") -> float:
    """Test "A and B do equally well in each scenario" by their differences per scenario, exactly.

    If they do, each scenario's difference is as likely to have the other sign, whatever its cameras have in common. The
    distribution of the sum over all signs is a convolution of binomial ones. With differences of -1, 0 and 1 it is
    McNemar's exact test.

    Args:
        differences: (S,) B's successes minus A's, per scenario: whole numbers.
        alternative: `greater` looks for a better B, `less` for a worse one.
    """
    _check(alternative)
    differences = np.asarray(differences)
    whole = np.rint(differences).astype(int)
    if np.any(np.abs(differences - whole) > 1e-9):
        raise ShapeError("differences has fractions; give whole numbers of successes per scenario.")
    sizes = np.abs(whole[whole != 0])
    if not len(sizes):
        return 1.0
    distribution = np.ones(1)
    for size, number in enumerate(np.bincount(sizes)):
        if size and number:
            spread = np.zeros(size * number + 1)
            spread[::size] = _fair_coins(number)
            distribution = np.convolve(distribution, spread)
    # Entry k is the probability that k of sum(sizes) points are B's.
    for_b = int(whole[whole > 0].sum())
    as_bad, as_good = float(distribution[: for_b + 1].sum()), float(distribution[for_b:].sum())
    p = {"less": as_bad, "greater": as_good, "two-sided": 2 * min(as_bad, as_good)}[alternative]
    return min(p, 1.0)


def _fair_coins(number: int) -> np.ndarray:
    """Return (number + 1,) probabilities of 0 to `number` heads."""
    return np.diff(bdtr(np.arange(number + 1.0), number, 0.5), prepend=0.0)


def _check(alternative: str) -> str:
    if alternative not in ("two-sided", "greater", "less"):
        raise BadValue(f"alternative is {alternative!r}; choose two-sided, greater or less.")
    return alternative


def scenario_sums(sample: ClusteredSample) -> np.ndarray:
    """Return (S,) sums of a sample's values per scenario."""
    return np.bincount(sample.scenario, sample.values, sample.scenarios)


def paired_difference(
    sample: ClusteredSample, confidence: float = 0.95, alternative: Alternative = "two-sided"
) -> Difference:
    """Estimate, bracket and test a paired difference.

    The interval is Tango's at the counts divided by the design effect, the test flips signs of whole scenarios.

    Args:
        sample: B's success minus A's, -1, 0 or 1, of each pair.
        confidence: Coverage of the interval.
        alternative: Of the test.
    """
    if not sample.n:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0, 1.0)
    low, high = tango_interval(*tango_counts(sample, confidence), confidence)
    p = sign_flip_test(scenario_sums(sample), alternative)
    return Difference(sample.mean, float(low), float(high), p, sample.n, sample.design_effect)


def tango_counts(sample: ClusteredSample, confidence: float) -> tuple[float, float, float]:
    """Return (only B, only A, n) in independent pairs, as `tango_interval` takes them."""
    n = sample.worth(sample.nominal_n, confidence)
    return sample.mean_of(sample.values > 0) * n, sample.mean_of(sample.values < 0) * n, n
