"""Success rules: the exact step at which an episode ends, and whether it counts."""

import numpy as np
import pytest

from flowbench.success import AVDC_HELD_STEPS, SuccessTracker

HORIZON = 50


def follow(rule: str, outcomes: list[bool]) -> SuccessTracker:
    """Step until the rule, or the horizon, ends the episode, as the environment does."""
    tracker = SuccessTracker(rule, HORIZON)
    for outcome in outcomes:
        tracker = tracker.update(outcome)
        if tracker.ended or tracker.out_of_time:
            break
    return tracker


def held_from(step: int, length: int = HORIZON) -> list[bool]:
    """Outcomes that are true from `step` (counted from 1) on."""
    return [number >= step for number in range(1, length + 1)]


def test_first_success_ends_the_episode_at_the_first_success():
    tracker = follow("first_success", held_from(7))
    assert tracker.ended and tracker.succeeded
    assert (tracker.steps, tracker.first_success) == (7, 7)


def test_first_success_counts_at_the_last_step():
    tracker = follow("first_success", held_from(HORIZON))
    assert tracker.succeeded and tracker.ended and tracker.steps == HORIZON


def test_first_success_fails_when_it_never_comes():
    tracker = follow("first_success", [False] * HORIZON)
    assert not tracker.succeeded and not tracker.ended and tracker.out_of_time
    assert tracker.first_success is None


def test_avdc_strict_goes_on_until_ten_steps_have_succeeded():
    tracker = follow("avdc_strict", held_from(7))
    assert tracker.ended and tracker.succeeded
    assert (tracker.first_success, tracker.steps) == (7, 7 + AVDC_HELD_STEPS - 1)


def test_avdc_strict_is_undecided_while_success_is_being_held():
    tracker = follow("avdc_strict", held_from(7)[:10])
    assert not tracker.ended and not tracker.succeeded


@pytest.mark.parametrize(("first", "counts"), [(HORIZON - 10, True), (HORIZON - 9, False), (HORIZON - 11, True)])
def test_avdc_strict_wants_a_held_success_by_ten_steps_before_the_horizon(first, counts):
    # Initial image + one per step <= horizon: first + 9 steps + 1 image <= horizon.
    tracker = follow("avdc_strict", held_from(first))
    assert tracker.first_success == first
    assert tracker.ended
    assert tracker.succeeded is counts


def test_avdc_strict_counts_a_success_that_is_lost_at_once():
    outcomes = [False] * 4 + [True, False] + [False] * 44
    tracker = follow("avdc_strict", outcomes)
    assert tracker.ended and tracker.succeeded
    assert (tracker.first_success, tracker.steps) == (5, 6)


@pytest.mark.parametrize(("lost_at", "counts"), [(HORIZON - 1, True), (HORIZON, False)])
def test_avdc_strict_counts_a_late_loss_only_within_the_image_budget(lost_at, counts):
    outcomes = [number == lost_at - 1 for number in range(1, HORIZON + 1)]
    tracker = follow("avdc_strict", outcomes)
    assert tracker.ended and tracker.steps == lost_at
    assert tracker.succeeded is counts


def test_avdc_strict_fails_when_time_runs_out_while_holding():
    tracker = follow("avdc_strict", held_from(HORIZON - 3))
    assert tracker.out_of_time and not tracker.ended and not tracker.succeeded


def test_avdc_strict_fails_when_success_never_comes():
    tracker = follow("avdc_strict", [False] * HORIZON)
    assert tracker.out_of_time and not tracker.ended and not tracker.succeeded


@pytest.mark.parametrize("rule", ["first_success", "avdc_strict"])
def test_a_decided_episode_stays_decided(rule):
    tracker = follow(rule, [False, True, False])
    assert tracker.ended and tracker.succeeded
    for outcome in [True, False] * HORIZON:
        assert tracker.update(outcome) == tracker


@pytest.mark.parametrize("rule", ["first_success", "avdc_strict"])
def test_numpy_outcomes_give_plain_booleans(rule):
    tracker = SuccessTracker(rule, HORIZON)
    for _ in range(AVDC_HELD_STEPS):
        tracker = tracker.update(np.bool_(True))
    assert tracker.succeeded is True and tracker.ended is True


def test_trackers_are_values():
    before = SuccessTracker("first_success", HORIZON)
    before.update(True)
    assert before == SuccessTracker("first_success", HORIZON)
