"""How many episodes decide a difference: asked before an evaluation, or after one that decided nothing.

Paired runs need as many as their outcomes disagree: two agents that fail in the same scenarios are told apart soon.
"""

from __future__ import annotations

import math

import numpy as np

from flowbench.errors import BadValue
from flowbench.stats.paired import tango_score

#: Beyond this many pairs the exact power is replaced by its normal approximation, which is then good to a percent.
LARGEST_EXACT = 20_000


def mcnemar_power(n: int, difference: float, discordance: float, alpha: float = 0.05) -> float:
    """Return the probability that McNemar's exact two-sided test finds a difference in n independent pairs.

    Args:
        n: Pairs.
        difference: True difference of the two rates; its sign does not matter.
        discordance: Probability that a pair differs, at least |difference|.
        alpha: Level of the test.
    """
    from scipy.stats import binom

    difference = abs(difference)
    if not 0 < difference <= discordance <= 1:
        raise BadValue(
            f"A difference of {difference:g} with a discordance of {discordance:g} cannot be; "
            "it needs 0 < difference <= discordance <= 1."
        )
    differing = np.arange(n + 1)
    chance = binom.pmf(differing, n, discordance)
    likely = chance > 1e-12
    differing, chance = differing[likely], chance[likely]
    # The largest k with 2 P(X <= k) <= alpha for X ~ binomial(m, 1/2); -1 where no outcome rejects.
    critical = binom.ppf(alpha / 2, differing, 0.5)
    critical = critical - (2 * binom.cdf(critical, differing, 0.5) > alpha)
    share = (discordance + difference) / (2 * discordance)
    rejects = binom.cdf(critical, differing, share) + binom.sf(differing - critical - 1, differing, share)
    return float(np.sum(chance * np.where(critical >= 0, rejects, 0.0)))


def pairs_needed(difference: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return the smallest number of independent pairs that has the power, within a percent.

    Starts from the formula of Connor (1987), Biometrics 43, and goes on with the exact power of McNemar's exact test,
    which needs a few more.

    Args:
        difference: The difference to be found.
        discordance: Probability that a pair differs; raised to |difference|, the least that it can be.
        alpha: Level of the two-sided test.
        power: Probability of finding it.
    """
    difference = abs(difference)
    if not 0 < difference < 1:
        raise BadValue(f"The difference to be found is {difference:g}; give a number between 0 and 1, e.g. 0.05.")
    discordance = min(max(discordance, difference), 1.0)
    z_alpha, z_power = _quantile(1 - alpha / 2), _quantile(power)
    spread = math.sqrt(max(discordance - difference**2, 0.0))
    n = max(math.ceil((z_alpha * math.sqrt(discordance) + z_power * spread) ** 2 / difference**2), 2)
    if n > LARGEST_EXACT:
        # Exact tests lose about one pair per unit of difference to being discrete.
        return n + math.ceil(1 / difference)
    low, high = n // 2, n
    while mcnemar_power(high, difference, discordance, alpha) < power:
        low, high = high, math.ceil(high * 1.1) + 1
    step = max(n // 200, 1)
    while high - low > step:
        middle = (low + high) // 2
        enough = mcnemar_power(middle, difference, discordance, alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def holding_power(n: int, margin: float, discordance: float, alpha: float = 0.05) -> float:
    """Return the probability that n independent pairs show "not worse by `margin`" when nothing has changed.

    That is, that Tango's one-sided interval lies above -`margin`.

    Args:
        n: Pairs.
        margin: The loss that is tolerated, above 0.
        discordance: Probability that a pair differs.
        alpha: Level of the one-sided test.
    """
    from scipy.stats import binom

    first, last = (int(k) for k in binom.ppf([1e-6, 1 - 1e-6], n, discordance))
    differing, better = np.meshgrid(np.arange(max(first, 0), last + 1), np.arange(last + 1), indexing="ij")
    chance = binom.pmf(differing, n, discordance) * binom.pmf(better, differing, 0.5)
    score = tango_score(better.astype(float), (differing - better).astype(float), np.float64(n), np.float64(-margin))
    return float(np.sum(chance[score >= _quantile(1 - alpha)]))


def pairs_to_hold(margin: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return the number of independent pairs that shows "not worse by `margin`" when nothing has changed.

    Starts from the normal approximation of Nam (1997), Biometrics 53, and from the width that Tango's interval has when
    no pair differs, and goes on with the exact power.

    Args:
        margin: The loss that is tolerated, above 0.
        discordance: Probability that a pair differs.
        alpha: Level of the one-sided test.
        power: Probability of showing it.
    """
    if not 0 < margin < 1:
        raise BadValue(f"The margin is {margin:g}; give a number between 0 and 1, e.g. 0.05.")
    discordance = min(max(discordance, 0.0), 1.0)
    z_alpha, z_power = _quantile(1 - alpha), _quantile(power)
    n = math.ceil(max(z_alpha**2 * (1 / margin - 1), (z_alpha + z_power) ** 2 * discordance / margin**2))
    # The grid of outcomes grows with the square of the pairs that differ.
    while n * discordance < 400 and holding_power(n, margin, discordance, alpha) < power:
        n += max(n // 50, 1)
    return n


def episodes_needed(difference: float, rate: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return the number of independent episodes of each of two unpaired runs that finds a difference.

    By statsmodels' normal approximation. Of `rate + difference` and `rate - difference` the one nearer to 1/2, which
    needs more, is taken for the other rate.

    Args:
        difference: The difference to be found.
        rate: Rate of one of the two.
        alpha: Level of the two-sided test.
        power: Probability of finding it.
    """
    from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

    difference = abs(difference)
    if not 0 < difference < 1:
        raise BadValue(f"The difference to be found is {difference:g}; give a number between 0 and 1, e.g. 0.05.")
    rate = min(max(rate, 0.0), 1.0)
    toward_half = -difference if rate > 0.5 else difference
    if not 0 <= rate + toward_half <= 1:
        toward_half = -toward_half
    n = samplesize_proportions_2indep_onetail(toward_half, rate, power, alpha=alpha, alternative="two-sided")
    return math.ceil(float(n))


def _quantile(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))
