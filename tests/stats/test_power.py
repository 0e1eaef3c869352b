"""How many episodes: the planned number has the planned power."""

import numpy as np
import pytest

from flowbench.errors import BadValue
from flowbench.stats import episodes_needed, mcnemar_exact, mcnemar_power, pairs_needed, pairs_to_hold, tango_interval


@pytest.mark.parametrize("difference, discordance", [(0.05, 0.1), (0.1, 0.3), (0.2, 0.2)])
def test_the_planned_pairs_find_the_difference_four_times_in_five(difference, discordance):
    n = pairs_needed(difference, discordance)
    up, down = (discordance + difference) / 2, (discordance - difference) / 2
    drawn = np.random.default_rng(0).multinomial(n, [up, down, 1 - up - down], 20_000)
    # Exact tests jump from one number of pairs to the next.
    assert 0.79 < np.mean(mcnemar_exact(drawn[:, 1], drawn[:, 0]) <= 0.05) < 0.83


def test_power_is_a_sum_over_all_outcomes():
    n, difference, discordance = 12, 0.3, 0.5
    up, down = 0.4, 0.1
    from scipy.stats import multinomial

    expected = sum(
        multinomial.pmf([b, a, n - a - b], n, [up, down, 0.5])
        for a in range(n + 1)
        for b in range(n + 1 - a)
        if mcnemar_exact(a, b) <= 0.05
    )
    assert mcnemar_power(n, difference, discordance) == pytest.approx(expected)
    assert mcnemar_power(3, 0.5, 0.5) == 0.0, "three pairs reject nothing"


def test_agents_that_disagree_more_need_more_pairs_and_a_larger_difference_fewer():
    assert pairs_needed(0.05, 0.05) < pairs_needed(0.05, 0.1) < pairs_needed(0.05, 0.3)
    assert pairs_needed(0.02, 0.1) > pairs_needed(0.05, 0.1) > pairs_needed(0.1, 0.1)
    assert pairs_needed(0.1, 0.0) == pairs_needed(0.1, 0.1), "a difference needs as much discordance"
    # 0.02 near 0.80 needs thousands of scenarios.
    assert 5_000 < pairs_needed(0.02, 0.3) < 12_000


def test_independent_runs_need_as_many_as_the_textbook_says():
    # Fleiss, Levin & Paik (2003), table A.4: 0.5 against 0.7 at 0.05 and 80 %, without continuity correction: 93.
    assert episodes_needed(0.2, 0.5) == pytest.approx(93, abs=1)
    assert episodes_needed(0.05, 1.0) > 100, "the other rate is taken towards one half"


def test_the_planned_pairs_show_that_nothing_changed():
    generator = np.random.default_rng(1)
    for discordance in (0.02, 0.2):
        n = pairs_to_hold(0.05, discordance)
        drawn = generator.multinomial(n, [discordance / 2, discordance / 2, 1 - discordance], 4000)
        low, _ = tango_interval(drawn[:, 0], drawn[:, 1], n, 0.9)
        assert np.mean(low > -0.05) > 0.78
    n = pairs_to_hold(0.05, 0.0)
    assert tango_interval(0, 0, n, 0.9).low > -0.05 > tango_interval(0, 0, n - 3, 0.9).low


def test_impossible_questions_are_refused():
    with pytest.raises(BadValue, match="needs 0 < difference <= discordance <= 1"):
        mcnemar_power(10, 0.3, 0.2)
    for ask in (lambda: pairs_needed(0, 0.1), lambda: episodes_needed(1.0, 0.5)):
        with pytest.raises(BadValue, match="give a number between 0 and 1, e.g. 0.05"):
            ask()
    with pytest.raises(BadValue, match="The margin is 0;"):
        pairs_to_hold(0, 0.1)
