"""Intervals for one rate, against SciPy and statsmodels for every small count."""

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from flowbench.stats import clopper_pearson_interval, wilson_interval


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_clopper_pearson_intervals_equal_those_of_scipy_for_every_small_count(confidence):
    for n in range(1, 31):
        for successes in range(n + 1):
            expected = binomtest(successes, n).proportion_ci(confidence, method="exact")
            np.testing.assert_allclose(clopper_pearson_interval(successes, n, confidence), expected, atol=1e-10)


@pytest.mark.parametrize("method, interval", [("wilson", wilson_interval), ("beta", clopper_pearson_interval)])
def test_whole_tables_of_counts_equal_those_of_statsmodels(method, interval):
    n = np.arange(1, 61)[:, None]
    successes = np.arange(61)[None]
    n, successes = (part[np.broadcast_to(successes <= n, (60, 61))] for part in np.broadcast_arrays(n, successes))
    assert len(n) == 1890
    np.testing.assert_allclose(interval(successes, n), proportion_confint(successes, n, method=method), atol=1e-9)


def test_no_episode_has_no_interval():
    assert np.isnan(clopper_pearson_interval(0, 0)).all()
    low, _ = clopper_pearson_interval(np.array([0, 2]), np.array([0, 4]))
    assert np.isnan(low[0])
    assert low[1] == pytest.approx(0.067586, abs=1e-6)
