"""The test that may be watched, and the three answers of a gate."""

import numpy as np
import pytest

from flowbench.stats import ClusteredSample, betting_p_value, betting_wealth
from flowbench.stats.noninferiority import (
    decide,
    decide_sequentially,
    independent_evidence,
    paired_evidence,
    whole_blocks,
)


def changes(generator, count, size, up, down):
    return generator.choice([1.0, -1.0, 0.0], (count, size), p=[up, down, 1 - up - down])


def test_whoever_looks_after_every_episode_is_not_fooled_more_often_than_alpha():
    drawn = changes(np.random.default_rng(0), 2000, 400, 0.15, 0.15)
    fooled = np.mean([betting_p_value(row, 0.0).min() <= 0.05 for row in drawn])
    assert 0.001 < fooled <= 0.05
    # What an ordinary test does under the same eyes, for comparison.
    sums, spread = drawn.cumsum(axis=1), np.sqrt((drawn**2).cumsum(axis=1).clip(1))
    assert np.mean((sums / spread).max(axis=1) > 1.645) > 0.3


def test_at_the_edge_of_the_null_the_wealth_does_not_grow_on_average():
    drawn = changes(np.random.default_rng(1), 20_000, 10, 0.10, 0.15)
    wealth = np.array([betting_wealth(row, -0.05)[-1] for row in drawn])
    assert np.mean(wealth) == pytest.approx(1.0, abs=0.01)


def test_a_true_difference_is_found_and_the_p_value_never_rises():
    row = changes(np.random.default_rng(2), 1, 600, 0.25, 0.05)[0]
    p = betting_p_value(row, 0.0)
    assert np.all(np.diff(p) <= 0)
    assert p[-1] < 1e-6
    assert 10 < np.argmax(p <= 0.05) < 200


def test_tasks_that_differ_do_not_fool_the_test_of_the_whole():
    # One task gains what the other loses: on average nothing, at the end of each block.
    generator = np.random.default_rng(3)
    fooled = 0
    for _ in range(1000):
        good, bad = changes(generator, 1, 150, 0.3, 0.1)[0], changes(generator, 1, 150, 0.1, 0.3)[0]
        both = np.stack([good, bad], axis=1).ravel()
        fooled += betting_p_value(both, 0.0)[1::2].min() <= 0.05
    assert fooled <= 50


def test_blocks_hold_one_scenario_of_each_task():
    tasks = np.array([0, 0, 1, 0, 2, 1, 2, 2, 0])
    order, ends = whole_blocks(tasks, 3)
    assert tasks[order].tolist() == [0, 1, 2, 0, 1, 2]
    assert order.tolist() == [0, 2, 4, 1, 5, 6]
    assert ends.tolist() == [2, 5]
    assert [part.tolist() for part in whole_blocks(np.array([0, 0]), 2)] == [[], []]


def test_while_a_task_is_still_to_come_nothing_has_held():
    first = np.zeros(300)
    assert decide_sequentially(first, np.zeros(300, dtype=int), 2, 0.05, 0.05).answer == "underpowered"
    both = np.tile([0, 1], 150)
    assert decide_sequentially(first, both, 2, 0.05, 0.05).answer == "held"
    lost = np.where(both == 1, -1.0, 0.0)[:60]
    found = decide_sequentially(lost, both[:60], 2, 0.05, 0.05)
    assert (found.answer, found.tasks) == ("regression", (1,))
    assert decide_sequentially(-lost, both[:60], 2, 0.05, 0.05).answer == "better"
    assert decide_sequentially(np.zeros(0), np.zeros(0, dtype=int), 2, 0.05, 0.05).answer == "underpowered"


# --- Fixed size ---------------------------------------------------------------------------------------------------


def answer(array, margin=0.05, alpha=0.05):
    sample = ClusteredSample.from_array(array)
    overall, *tasks = paired_evidence([sample, *(sample.take(sample.task == t) for t in range(len(array)))], alpha)
    return decide(overall, tasks, margin, alpha)


def test_the_four_answers():
    same = np.zeros((4, 50, 1))
    assert answer(same).answer == "held"
    assert answer(same[:, :5]).answer == "underpowered", "twenty equal outcomes rule out nothing"
    risen = same.copy()
    risen[:, :10] = 1
    assert answer(risen).answer == "better"
    assert answer(-risen).answer == "regression"


def test_one_task_that_collapses_is_found_though_the_mean_has_held():
    change = np.zeros((50, 20, 1))
    change[17] = -1
    found = answer(change)
    assert found.answer == "regression"
    assert (found.overall, found.tasks) == (False, (17,))
    assert found.adjusted[17] < 0.001 and found.adjusted[0] == 1


def test_a_loss_that_is_shown_but_tolerated_is_no_regression():
    change = np.zeros((1, 5000, 1))
    change[0, :50] = -1
    found = answer(change)
    assert paired_evidence([ClusteredSample.from_array(change)], 0.05)[0].p_worse < 0.001
    assert found.answer == "held"
    assert answer(change, margin=0.005).answer == "regression"


def test_false_alarms_come_as_seldom_as_alpha_allows():
    generator = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        array = changes(generator, 3, 30, 0.15, 0.15)[..., None]
        alarms += answer(array).answer == "regression"
    assert alarms <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_independent_runs_are_weighed_by_their_rates():
    old = ClusteredSample.from_array(np.array([1.0] * 270 + [0.0] * 30).reshape(1, 300, 1))
    new = ClusteredSample.from_array(np.array([1.0] * 210 + [0.0] * 90).reshape(1, 300, 1))
    worse = independent_evidence(old, new, 0.05)
    assert worse.estimate == pytest.approx(-0.2)
    assert worse.p_worse < 0.001 < 0.999 < worse.p_better
    assert independent_evidence(old, old, 0.05).p_worse == 0.5
