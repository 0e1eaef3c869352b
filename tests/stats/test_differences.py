"""Whether two agents differ: published numbers, second libraries, and laws."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from flowbench.errors import BadValue, ShapeError
from flowbench.stats import (
    ClusteredSample,
    PairedCounts,
    boschloo,
    candidates_for_best,
    holm,
    independent_difference,
    mcnemar_exact,
    paired_difference,
    sign_flip_test,
    tango_interval,
)
from flowbench.stats.paired import tango_score

# --- Tango's interval ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first_only, second_only, n, confidence, expected, digits",
    [
        # Airway hyper-responsiveness (Bentur et al. 2009) in Fagerland, Lydersen & Laake (2014), Statistics in Medicine 33.
        (1, 7, 21, 0.95, (-0.517, -0.026), 3),
        # Complete response (Cavo et al. 2012) in Fagerland, Lydersen & Laake (2017), chapter 8; R's contingencytables.
        (6, 16, 161, 0.95, (-0.1240, -0.0054), 4),
        # R's PropCIs::scoreci.mp, whose sign is the opposite one.
        (20, 60, 1000, 0.95, (-0.0584, -0.0231), 4),
        (48, 41, 549, 0.90, (-0.0157, 0.0414), 4),
    ],
)
def test_tangos_interval_equals_published_ones(first_only, second_only, n, confidence, expected, digits):
    found = tango_interval(first_only, second_only, n, confidence)
    np.testing.assert_allclose(found, expected, atol=0.51 * 10**-digits)


def test_the_bounds_are_where_the_score_test_stops_rejecting():
    z = norm.ppf(0.975)
    for only_b, only_a, n in ((40, 20, 160), (13, 3, 400), (0, 5, 25), (7, 7, 30), (0, 0, 60)):
        low, high = tango_interval(only_b, only_a, n)
        assert tango_score(*map(float, (only_b, only_a, n)), low) == pytest.approx(z, abs=1e-6)
        assert tango_score(*map(float, (only_b, only_a, n)), high) == pytest.approx(-z, abs=1e-6)
        assert low < (only_b - only_a) / n < high


def test_exchanging_the_agents_mirrors_the_interval_and_nothing_different_has_a_width():
    low, high = tango_interval(np.array([40, 3, 0]), np.array([20, 13, 0]), np.array([160, 400, 50]))
    mirrored = tango_interval(np.array([20, 13, 0]), np.array([40, 3, 0]), np.array([160, 400, 50]))
    np.testing.assert_allclose(mirrored, (-high, -low), atol=1e-12)
    z2 = norm.ppf(0.975) ** 2
    assert high[2] == pytest.approx(z2 / (50 + z2))
    assert tango_interval(5, 0, 5).high == 1.0
    assert tango_interval(0, 5, 5).low == -1.0
    assert np.isnan(tango_interval(0, 0, 0)).all()


# --- Exact tests --------------------------------------------------------------------------------------------------


def test_mcnemars_exact_test_equals_that_of_statsmodels():
    for only_a, only_b in itertools.product(range(15), range(15)):
        if only_a + only_b:
            expected = mcnemar([[3, only_a], [only_b, 4]], exact=True).pvalue
            assert mcnemar_exact(only_a, only_b) == pytest.approx(min(expected, 1.0))
    assert mcnemar_exact(0, 0) == 1.0
    # Cavo et al. 2012 in R's contingencytables.
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=1e-6)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_with_one_camera_the_sign_flip_test_is_mcnemars(alternative):
    for only_a, only_b in ((0, 0), (1, 0), (5, 5), (6, 16), (40, 20), (0, 12)):
        differences = np.array([-1] * only_a + [1] * only_b + [0] * 7)
        assert sign_flip_test(differences, alternative) == pytest.approx(mcnemar_exact(only_a, only_b, alternative))


def test_the_sign_flip_test_counts_all_signs():
    differences = np.array([3, -1, 2, 0, 1, -2, 3, 1])
    signs = np.array(list(itertools.product((-1, 1), repeat=len(differences))))
    sums, found = signs @ np.abs(differences), differences.sum()
    assert sign_flip_test(differences, "greater") == pytest.approx(np.mean(sums >= found))
    assert sign_flip_test(differences, "less") == pytest.approx(np.mean(sums <= found))
    assert sign_flip_test(differences) == pytest.approx(np.mean(np.abs(sums) >= abs(found)))


def test_cameras_that_repeat_an_episode_add_no_evidence():
    once = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 14).reshape(1, 25, 1)
    single = paired_difference(ClusteredSample.from_array(once))
    triple = paired_difference(ClusteredSample.from_array(np.repeat(once, 3, axis=2)))
    assert triple.p == single.p
    assert triple.design_effect == pytest.approx(3)
    assert (triple.low, triple.high) == pytest.approx((single.low, single.high))
    assert triple.estimate == pytest.approx(single.estimate) == pytest.approx(7 / 25)


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match="give whole numbers of successes per scenario"):
        sign_flip_test([0.5, 1])
    with pytest.raises(BadValue, match="alternative is 'worse'; choose two-sided, greater or less"):
        sign_flip_test([1], "worse")
    assert np.isnan(paired_difference(ClusteredSample.from_array(np.full((1, 2, 1), np.nan))).estimate)


def test_pairs_are_counted_by_who_succeeded():
    counts = PairedCounts.of([1, 1, 0, 0, 1], [1, 0, 1, 0, 1])
    assert counts == (2, 1, 1, 1)
    assert counts.n == 5


# --- Independent rates --------------------------------------------------------------------------------------------


def plain(successes, n):
    return ClusteredSample.from_array(np.array([1.0] * successes + [0.0] * (n - successes)).reshape(1, n, 1))


def test_newcombes_interval_equals_the_published_example():
    # Newcombe (1998), Statistics in Medicine 17:873-890, table II, contrast (a) 56/70 - 48/80, method 10.
    found = independent_difference(plain(48, 80), plain(56, 70))
    np.testing.assert_allclose(found[:3], (0.2, 0.0524, 0.3339), atol=5e-5)


def test_small_runs_get_boschloos_test_and_large_ones_the_score_test():
    small = independent_difference(plain(15, 25), plain(23, 25))
    assert small.p == pytest.approx(boschloo(15, 25, 23, 25))
    assert 0 < small.p < 0.05
    assert independent_difference(plain(25, 25), plain(25, 25)).p == 1.0
    large = independent_difference(plain(150, 250), plain(180, 250))
    assert large.p == pytest.approx(0.0045, abs=5e-4)


def test_rates_at_the_ends_have_intervals():
    for old, new in ((25, 25), (0, 0), (25, 0), (0, 25)):
        found = independent_difference(plain(old, 25), plain(new, 25))
        assert -1 <= found.low <= found.estimate <= found.high <= 1
        assert found.low < found.high


# --- Many tests ---------------------------------------------------------------------------------------------------


def test_holm_adjusts_what_was_tested():
    adjusted = holm([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(adjusted, [0.03, np.nan, 0.06, 0.06])
    assert np.isnan(holm([np.nan])).all()
    p_values = np.random.default_rng(0).random(50) ** 3
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_agents_that_cannot_be_told_apart_from_the_best_are_found():
    generator = np.random.default_rng(0)
    scenarios = ClusteredSample.from_array(np.zeros((1, 200, 1)))
    successes = (generator.random((4, 200)) < np.array([0.9, 0.88, 0.6, 0.2])[:, None]).astype(float)
    assert candidates_for_best(successes, scenarios).tolist() == [True, True, False, False]
    alike = np.repeat(successes[:1], 3, axis=0)
    assert candidates_for_best(alike, scenarios).all()


def test_the_best_is_left_out_as_seldom_as_promised():
    generator = np.random.default_rng(1)
    scenarios = ClusteredSample.from_array(np.zeros((1, 50, 1)))
    kept = [candidates_for_best((generator.random((5, 50)) < 0.6).astype(float), scenarios)[0] for _ in range(300)]
    assert np.mean(kept) > 0.95
