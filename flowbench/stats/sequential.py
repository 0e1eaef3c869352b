"""A test that may be looked at after every episode: it stops when the evidence is in, and its error rate still holds.

Looking again and again at an ordinary P value finds a difference that is not there almost surely. A bettor who starts
with 1 and cannot win on average if the null is true has, at whatever moment one looks, reached 1 / alpha with probability
at most alpha (Ville 1939). So its wealth is evidence that may be watched: Waudby-Smith & Ramdas (2024), Estimating means
of bounded random variables by betting, J. Royal Statistical Society B 86.
"""

from __future__ import annotations

import numpy as np

#: Shares of the largest allowed stake; betting on each with an equal part needs no knowledge of the true difference.
STAKES = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95])


def betting_wealth(differences: np.ndarray, null: float) -> np.ndarray:
    """Return the wealth, after each of N differences, of one who bets that their mean exceeds `null`.

    If the mean given the past does not exceed `null` at any time, `max(wealth) >= 1 / alpha` has probability at most
    `alpha`. The stakes are fixed, so that it also holds at the ends of blocks whose independent members have different
    means that do not exceed `null` on average (the product of their factors' means is at most the mean to that power).

    Args:
        differences: (N,) in order of time, each from -1 to 1.
        null: The mean that is doubted, between -1 and 1.

    Returns:
        (N,) wealth; it started at 1.
    """
    differences = np.asarray(differences, dtype=np.float64)
    # 1 + stake * (d - null) stays positive down to d = -1.
    stakes = STAKES / (1 + null)
    logs = np.cumsum(np.log1p(stakes[:, None] * (differences[None] - null)), axis=1)
    return np.exp(logs - np.log(len(stakes))).sum(axis=0)


def betting_p_value(differences: np.ndarray, null: float) -> np.ndarray:
    """Return the anytime-valid P value after each of N differences: 1 over the largest wealth so far."""
    return np.minimum(1.0, 1 / np.maximum.accumulate(betting_wealth(differences, null)))
