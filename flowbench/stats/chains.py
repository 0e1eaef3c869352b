"""CALVIN's numbers: how many instructions in a row, of a chain of five, an agent carries out.

A chain ends at the first instruction that fails, so its length says all. The published columns are the rates of chains
that reach 1, 2, 3, 4 and 5, and the average length, which is the sum of the five (Mees et al. 2022, section V-B).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.errors import ShapeError
from flowbench.stats.intervals import Interval, wilson_interval


class ChainScores(NamedTuple):
    """Scores of N chains of L instructions.

    Attributes:
        rates: (L,) share of chains whose first k instructions succeeded, k = 1 to L; does not increase.
        intervals: Wilson's bounds of each, two (L,) arrays; chains are independent.
        average_length: Mean number of instructions in a row, 0 to L.
        average_interval: Its bounds, by the percentile bootstrap over chains.
        n: Number of chains N.
    """

    rates: np.ndarray
    intervals: Interval
    average_length: float
    average_interval: Interval
    n: int


def chain_lengths(successes: np.ndarray) -> np.ndarray:
    """Return (N,) the number of leading successes of (N, L) outcomes; what follows a failure does not count."""
    successes = np.asarray(successes, dtype=bool)
    if successes.ndim != 2:
        raise ShapeError(f"successes has shape {successes.shape}; expected (chains, instructions per chain).")
    return np.logical_and.accumulate(successes, axis=1).sum(axis=1)


def chain_scores(
    lengths: np.ndarray,
    generator: np.random.Generator,
    *,
    longest: int = 5,
    confidence: float = 0.95,
    count: int = 10_000,
) -> ChainScores:
    """Score chains by their lengths.

    Args:
        lengths: (N,) instructions in a row, from `chain_lengths`.
        generator: Source of the bootstrap's randomness.
        longest: Instructions per chain L.
        confidence: Coverage of the intervals.
        count: Bootstrap samples.

    Raises:
        ShapeError: If a length is not a whole number from 0 to `longest`, or there is no chain.
    """
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or not len(lengths) or np.any((lengths != lengths.astype(int)) | (lengths < 0)):
        raise ShapeError(f"lengths has shape {lengths.shape}; expected whole numbers from 0, one per chain.")
    if lengths.max() > longest:
        raise ShapeError(f"lengths has a chain of {lengths.max()}; the longest possible is {longest}.")
    n = len(lengths)
    frequencies = np.bincount(lengths.astype(int), minlength=longest + 1)
    reached = frequencies[::-1].cumsum()[::-1][1:]
    # Drawing N chains with replacement is drawing their N lengths.
    drawn = generator.multinomial(n, frequencies / n, count) @ np.arange(longest + 1) / n
    tail = (1 - confidence) / 2
    return ChainScores(
        rates=reached / n,
        intervals=wilson_interval(reached, n, confidence),
        average_length=float(lengths.mean()),
        average_interval=Interval(*np.quantile(drawn, [tail, 1 - tail])),
        n=n,
    )
