"""Episodes of one scenario count for what they are worth."""

import numpy as np
import pytest

from flowbench.errors import BadValue
from flowbench.stats import ClusteredSample, bootstrap_interval, bootstrap_means, clustered_rate, wilson_interval


def outcomes(generator, tasks, scenarios, cameras, rate=0.7):
    return (generator.random((tasks, scenarios, cameras)) < rate).astype(float)


def test_one_cell_gives_wilsons_interval():
    sample = ClusteredSample.from_array(np.array([1.0] * 18 + [0.0] * 7).reshape(1, 25, 1))
    rate = clustered_rate(sample)
    np.testing.assert_allclose(rate[:3], (0.72, *wilson_interval(18, 25)))
    assert (rate.n, rate.cells, sample.design_effect) == (25, 1, 1.0)


def test_three_cameras_that_show_the_same_count_as_one():
    once = outcomes(np.random.default_rng(0), 1, 25, 1)
    thrice = ClusteredSample.from_array(np.repeat(once, 3, axis=2))
    assert thrice.n == 75
    assert thrice.design_effect == pytest.approx(3)
    rate = clustered_rate(thrice)
    assert (rate.low, rate.high) == pytest.approx(wilson_interval(once.sum(), 25))


def test_a_further_camera_never_takes_away_what_one_said():
    generator = np.random.default_rng(2)
    for together in (0.0, 0.5, 1.0):
        values = outcomes(generator, 1, 4, 3)
        shared = generator.random((1, 4)) < together
        values[shared] = values[shared][:, :1]
        rate = clustered_rate(ClusteredSample.from_array(values))
        low, high = wilson_interval(rate.mean * 4, 4)
        assert low - 1e-9 <= rate.low and rate.high <= high + 1e-9


def test_cameras_that_have_nothing_in_common_count_fully_on_average():
    generator = np.random.default_rng(0)
    effects = [ClusteredSample.from_array(outcomes(generator, 11, 25, 3)).design_effect for _ in range(50)]
    assert 1 <= np.mean(effects) < 1.08


def test_where_nothing_varies_scenarios_are_counted():
    rate = clustered_rate(ClusteredSample.from_array(np.ones((1, 25, 3))))
    assert rate.high == 1.0
    assert rate.low == pytest.approx(wilson_interval(25, 25).low)


def test_tasks_that_differ_narrow_the_interval_and_tasks_alike_do_not():
    easy, hard = np.ones((5, 25, 1)), np.zeros((5, 25, 1))
    easy[:, 0], hard[:, 0] = 0, 1
    differ = ClusteredSample.from_array(np.concatenate([easy, hard]))
    narrow, wide = clustered_rate(differ), clustered_rate(differ, stratified=False)
    assert narrow.mean == wide.mean == 0.5
    assert (narrow.high - narrow.low) < 0.6 * (wide.high - wide.low)
    alike = ClusteredSample.from_array(outcomes(np.random.default_rng(1), 10, 25, 1, 0.5))
    assert clustered_rate(alike).low == pytest.approx(clustered_rate(alike, stratified=False).low, abs=0.01)


def test_the_mean_is_that_of_the_cells_and_missing_episodes_are_left_out():
    values = np.array([[[1.0], [1.0], [np.nan], [np.nan]], [[0.0], [0.0], [0.0], [1.0]]])
    sample = ClusteredSample.from_array(values)
    assert (sample.n, sample.cells, sample.scenarios) == (6, 2, 6)
    assert sample.mean == pytest.approx((1 + 0.25) / 2)
    assert np.isnan(clustered_rate(sample.take(np.zeros(6, dtype=bool))).mean)


def test_labels_and_arrays_describe_the_same_sample():
    values = outcomes(np.random.default_rng(2), 2, 5, 3)
    labels = [(f"t{t}", f"c{c}", f"s{s}") for t in range(2) for s in range(5) for c in range(3)]
    named = ClusteredSample.from_labels(values.ravel(), *([row[k] for row in labels] for k in range(3)))
    counted = ClusteredSample.from_array(values)
    assert named.scenarios == counted.scenarios == 10, "s0 of two tasks are two scenarios"
    assert clustered_rate(named) == clustered_rate(counted)


# --- Bootstrap ----------------------------------------------------------------------------------------------------


def test_the_bootstrap_varies_as_the_analytic_interval_says():
    values = np.repeat(outcomes(np.random.default_rng(3), 11, 25, 1), 3, axis=2)
    means = bootstrap_means(values, np.random.default_rng(4), count=4000)
    rate = clustered_rate(ClusteredSample.from_array(values))
    assert np.mean(means) == pytest.approx(rate.mean, abs=0.003)
    assert np.std(means) == pytest.approx((rate.high - rate.low) / 2 / 1.96, rel=0.1)


def test_the_same_generator_gives_the_same_interval():
    values = outcomes(np.random.default_rng(5), 3, 10, 2)
    first, second = (bootstrap_interval(values, np.random.default_rng(6)) for _ in range(2))
    assert first == second
    assert first != bootstrap_interval(values, np.random.default_rng(7))


def test_drawing_tasks_too_adds_what_lies_between_tasks():
    values = np.concatenate([np.ones((5, 20, 1)), np.zeros((5, 20, 1))])
    generator = np.random.default_rng(8)
    within = bootstrap_interval(values, generator)
    assert within == (0.5, 0.5), "no scenario of any task varies"
    low, high = bootstrap_interval(values, generator, resample=("task", "scenario"))
    assert low <= 0.3 and high >= 0.7
    by_camera = np.stack([np.ones((4, 9)), np.zeros((4, 9))], axis=2)
    assert bootstrap_interval(by_camera, generator, resample=("camera",)) == (0.0, 1.0)


def test_missing_episodes_do_not_count_in_the_bootstrap():
    values = outcomes(np.random.default_rng(9), 2, 10, 2)
    values[0, :, 1] = np.nan
    values[1, 3, :] = np.nan
    means = bootstrap_means(values, np.random.default_rng(0), count=500)
    assert np.isfinite(means).all()
    cells = [np.nanmean(values[0, :, 0]), np.nanmean(values[1, :, 0]), np.nanmean(values[1, :, 1])]
    assert np.mean(means) == pytest.approx(np.mean(cells), abs=0.02)


def test_an_unknown_level_is_refused():
    with pytest.raises(BadValue, match=r"resample is \['seed'\]; choose one or more of task, camera, scenario"):
        bootstrap_means(np.ones((1, 2, 1)), np.random.default_rng(0), resample=("seed",))
