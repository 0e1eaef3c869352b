"""Intervals and averages, against SciPy and by their laws."""

import numpy as np
import pytest
from scipy.stats import binomtest

from flowbench.stats import mean_of_cells, wilson_interval


def test_wilson_intervals_equal_those_of_scipy_for_every_small_count():
    for n in range(1, 31):
        for successes in range(n + 1):
            expected = binomtest(successes, n).proportion_ci(method="wilson")
            np.testing.assert_allclose(wilson_interval(successes, n), expected, atol=1e-12)


def test_wilson_intervals_equal_those_of_scipy_at_other_confidences_and_large_counts():
    expected = binomtest(715, 825).proportion_ci(0.99, method="wilson")
    np.testing.assert_allclose(wilson_interval(715, 825, confidence=0.99), expected, atol=1e-12)


def test_whole_arrays_give_what_single_counts_give():
    successes, n = np.array([0, 3, 7, 0]), np.array([5, 7, 7, 0])
    low, high = wilson_interval(successes, n)
    for index in range(3):
        assert (low[index], high[index]) == tuple(wilson_interval(successes[index], n[index]))
    assert np.isnan([low[3], high[3]]).all(), "no episode, no interval"


def test_the_bounds_at_no_and_at_full_success_are_exact():
    assert wilson_interval(0, 9).low == 0.0
    assert wilson_interval(9, 9).high == 1.0


def test_equal_cells_give_the_pooled_rate_and_its_interval():
    rate = mean_of_cells([5, 0, 3], [5, 5, 5])
    assert rate.mean == pytest.approx(8 / 15)
    np.testing.assert_allclose(rate[1:3], wilson_interval(8, 15))
    assert (rate.n, rate.cells) == (15, 3)


def test_unequal_cells_count_alike():
    rate = mean_of_cells([1, 0], [1, 99])
    assert rate.mean == pytest.approx(0.5)
    # Effective n of the mean of cells of 1 and 99 episodes: 4 / (1 + 1/99).
    np.testing.assert_allclose(rate[1:3], wilson_interval(0.5 * 3.96, 3.96))
    assert rate.low < rate.mean < rate.high


def test_cells_without_an_episode_are_left_out():
    assert mean_of_cells([4, 0], [5, 0]) == mean_of_cells([4], [5])
    nothing = mean_of_cells([0, 0], [0, 0])
    assert np.isnan(nothing[:3]).all()
    assert (nothing.n, nothing.cells) == (0, 0)


def test_the_interval_covers_the_true_rate_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 0.8
    low, high = wilson_interval(rng.binomial(50, truth, 20_000), 50)
    assert 0.93 < np.mean((low <= truth) & (truth <= high)) < 0.97
