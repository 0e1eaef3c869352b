"""Every decision of the published rule, every accident of its code, and every departure of ours."""

import numpy as np
import pytest

from flowbench.agents.avdc.hands import HANDS, hand_of
from flowbench.agents.avdc.rules import NoDirection, PublishedRule, RobustRule, RuleConstants, published_mode
from flowbench.errors import UnknownName
from flowbench.registry import get_suite

METAWORLD = HANDS["metaworld-xyz-gripper"]
START = np.array([0.0, 0.6, 0.1])


def path(*offsets):
    return START + np.array(offsets, dtype=float)


#: Sideways by 2 cm per link.
PUSH = path(*[(0.02 * k, 0, 0) for k in range(8)])
#: Straight down.
PRESS = path(*[(0, 0, -0.01 * k) for k in range(8)])
#: Up by 12 cm in the third link, then aside.
LIFT = path((0, 0, 0), (0, 0, 0), (0, 0, 0.12), (0, 0, 0.13), *[(0.05 * k, 0, 0.13) for k in range(1, 5)])
#: Up by 12 cm in all, never more than 2 cm per link: the hammer.
SLOW_LIFT = path(*[(0, 0, min(0.02 * k, 0.12)) for k in range(8)])


def run(rule, hand, steps=1):
    """Let the hand go exactly where it is told; return the last command."""
    for _ in range(steps):
        command = rule.command(hand)
        hand = command.target_world
    return command


def stand_still(rule, hand):
    """Return how many steps of rest it takes until a new plan is wanted."""
    for count in range(1, 100):
        if rule.wants_plan(hand):
            return count
    return None


def first_plan(rule, points, hand=(0, 0.4, 0.2)):
    assert rule.wants_plan(np.array(hand, dtype=float))
    rule.take(points)
    return rule


# --- what both rules do


@pytest.mark.parametrize("make", [PublishedRule, RobustRule])
def test_a_grasp_goes_above_then_down_then_along_the_path(make):
    rule = first_plan(make(METAWORLD), LIFT)
    assert rule.mode == "grasp"
    above = rule.command(np.array([0, 0.4, 0.3]))
    assert above.target_world == pytest.approx(START + [0, 0, 0.2]) and not above.close
    down = rule.command(START + [0.01, 0, 0.2])
    assert down.target_world == pytest.approx(START) and not down.close
    assert rule.command(START + [0, 0, 0.02]).close
    targets = []
    hand = START
    for _ in range(40):
        hand = rule.command(hand).target_world
        targets.append(hand)
    assert np.allclose(hand, LIFT[-1]) and any(np.allclose(target, LIFT[3]) for target in targets)


@pytest.mark.parametrize("make", [PublishedRule, RobustRule])
def test_a_push_starts_eight_centimetres_back_and_three_lower_with_a_closed_hand(make):
    rule = first_plan(make(METAWORLD), PUSH)
    assert rule.mode == "push"
    above = rule.command(np.array([0, 0.4, 0.3]))
    assert above.target_world == pytest.approx(START + [-0.08, 0, 0.2]) and above.close
    hand = START + [-0.08, 0, 0]
    rule.command(hand)
    for _ in range(12):
        hand = rule.command(hand).target_world
    assert hand == pytest.approx(PUSH[-1] - [0, 0, 0.03])


@pytest.mark.parametrize("make", [PublishedRule, RobustRule])
def test_rest_asks_for_a_new_plan_five_times(make):
    rule = first_plan(make(METAWORLD), LIFT)
    hand = np.array([0, 0.4, 0.2])
    # The robust rule first gets out of the way; a hand that cannot is given as long again.
    steps = 15 if make is PublishedRule else 30
    for _ in range(5):
        assert stand_still(rule, hand) == steps
        rule.take(LIFT)
    assert stand_still(rule, hand) is None


def test_a_hand_that_moves_stops_the_clock_and_does_not_set_it_back():
    rule = first_plan(PublishedRule(METAWORLD), LIFT)
    hand = np.array([0, 0.4, 0.2])
    for _ in range(10):
        assert not rule.wants_plan(hand)
    moving = hand + [0.002, 0, 0]
    assert not rule.wants_plan(moving)
    assert stand_still(rule, moving) == 5


def test_fewer_replans_on_request():
    rule = first_plan(PublishedRule(METAWORLD, constants=RuleConstants(max_replans=0)), LIFT)
    assert stand_still(rule, np.zeros(3)) is None


# --- accidents of the published code, kept


def test_published_mode_looks_at_single_links_without_the_first_and_the_last():
    assert published_mode(LIFT) == "grasp"
    assert published_mode(SLOW_LIFT) == "push"
    only_first = path((0, 0, 0), *[(0, 0, 0.2)] * 7)
    only_last = path(*[(0, 0, 0)] * 7, (0, 0, 0.2))
    assert published_mode(only_first) == published_mode(only_last) == "push"


def test_published_mode_is_decided_once():
    rule = first_plan(PublishedRule(METAWORLD), PUSH)
    rule.take(LIFT)
    assert rule.mode == "push"
    repaired = first_plan(PublishedRule(METAWORLD, faithful=False), PUSH)
    repaired.take(LIFT)
    assert repaired.mode == "grasp"


def test_published_push_is_lowered_in_the_first_plan_only():
    rule = first_plan(PublishedRule(METAWORLD), PUSH)
    rule.take(PUSH)
    run(rule, START)
    hand = START + [-0.08, 0, 0]
    rule.command(hand)
    for _ in range(12):
        hand = rule.command(hand).target_world
    assert hand == pytest.approx(PUSH[-1])


def test_published_replan_moves_the_first_subgoal_back_with_the_contact():
    rule = first_plan(PublishedRule(METAWORLD), PUSH)
    rule.take(PUSH)
    # Right after a replan the first subgoal is the target, wherever the hand is.
    assert rule.command(np.array([0.3, 0.4, 0.3])).target_world == pytest.approx(START + [-0.08, 0, 0])
    # Without the accident it stays where the object is (and is lowered).
    repaired = first_plan(PublishedRule(METAWORLD, faithful=False), PUSH)
    repaired.take(PUSH)
    assert repaired.command(np.array([0.3, 0.4, 0.3])).target_world == pytest.approx(START - [0, 0, 0.03])


def test_published_first_plan_does_not_move_the_first_subgoal():
    rule = first_plan(PublishedRule(METAWORLD), PUSH)
    # In place: 12 cm around the first subgoals are passed at once, so the hand is put far from all of them.
    rule.command(START + [-0.08, 0, 0])
    far = rule.command(START + [0, 0.5, 0])
    assert far.target_world == pytest.approx(START - [0, 0, 0.03])


def test_published_grasp_is_not_approached_again():
    rule = first_plan(PublishedRule(METAWORLD), LIFT)
    run(rule, START, steps=3)
    rule.take(LIFT + [0.2, 0, 0])
    run(rule, START)
    # It stays closed and follows the new path from wherever it is.
    command = rule.command(START)
    assert command.close and command.target_world == pytest.approx(LIFT[0] + [0.2, 0, 0])


def test_published_press_divides_by_zero():
    with pytest.raises(NoDirection, match="stands exactly above the contact, so the push has no direction"):
        first_plan(PublishedRule(METAWORLD), PRESS)


@pytest.mark.parametrize("changes", [{"faithful": False}, {"exact": True}], ids=["repaired", "exact motion"])
def test_a_press_goes_straight_down_where_zero_is_not_divided(changes):
    rule = first_plan(PublishedRule(METAWORLD, **changes), PRESS)
    assert rule.command(np.array([0, 0.4, 0.3])).target_world == pytest.approx(START + [0, 0, 0.2])


def test_published_push_without_a_clear_direction_steps_back_from_noise():
    noisy = PRESS + np.array([[0.001 * k, 0, 0] for k in range(8)])
    rule = first_plan(PublishedRule(METAWORLD), noisy)
    assert rule.command(np.array([0, 0.4, 0.3])).target_world == pytest.approx(START + [-0.08, 0, 0.2])


# --- departures of the robust rule


def test_robust_mode_is_the_net_lift_of_each_plan():
    rule = first_plan(RobustRule(METAWORLD), SLOW_LIFT)
    assert rule.mode == "grasp"
    rule.take(PUSH)
    assert rule.mode == "push"


def test_robust_press_is_not_stepped_back_from():
    noisy = PRESS + np.array([[0.001 * k, 0, 0] for k in range(8)])
    rule = first_plan(RobustRule(METAWORLD), noisy)
    assert rule.command(np.array([0, 0.4, 0.3])).target_world == pytest.approx(START + [0, 0, 0.2])


def test_robust_short_push_has_the_direction_of_its_longest_way():
    short = path(*[(0, 0.007 * k, 0) for k in range(8)])
    rule = first_plan(RobustRule(METAWORLD), short)
    assert rule.command(np.array([0.3, 0.4, 0.3])).target_world == pytest.approx(START + [0, -0.08, 0.2])


def test_robust_grasp_is_approached_again_with_an_open_hand():
    rule = first_plan(RobustRule(METAWORLD), LIFT)
    run(rule, START, steps=20)
    rule.take(LIFT + [0.2, 0, 0])
    command = rule.command(START + [0, 0, 0.2])
    assert command.target_world == pytest.approx(START + [0.2, 0, 0.2]) and not command.close


def test_robust_grasp_gives_the_fingers_ten_steps_to_close():
    rule = first_plan(RobustRule(METAWORLD), LIFT)
    hand = START + [0, 0, 0.02]
    commands = [rule.command(hand) for _ in range(12)]
    assert all(command.target_world == pytest.approx(START) and command.close for command in commands[:11])


def test_robust_grasp_stays_within_the_reach_of_the_hand():
    low = LIFT - [0, 0, 0.12]
    rule = first_plan(RobustRule(METAWORLD), low)
    assert rule.command(START).target_world[2] == pytest.approx(METAWORLD.lowest_m + 0.01)
    hand = START * [1, 1, 0] + [0, 0, 0.06]
    for _ in range(14):
        hand = rule.command(hand).target_world
    assert hand[2] >= METAWORLD.lowest_m


def test_robust_rule_carries_up_before_sideways_and_sideways_before_down():
    over_a_rim = path((0, 0, 0), (0, 0, 0.1), (0.2, 0, 0.2), (0.4, 0, 0.05))
    rule = first_plan(RobustRule(METAWORLD), over_a_rim)
    hand, seen = START, []
    for _ in range(200):
        hand = hand + np.clip(rule.command(hand).target_world - hand, -0.01, 0.01)
        seen.append(hand - START)
    way = np.array(seen)
    sideways, height = way[:, 0], way[:, 2]
    assert way[-1] == pytest.approx([0.4, 0, 0.05], abs=1e-6)
    # It is level with the highest subgoal before it has gone a tenth of the way there, and until it is above the last one.
    assert height[(sideways > 0.02) & (sideways < 0.37)].min() > 0.12


def test_robust_push_is_lowered_in_every_plan():
    rule = first_plan(RobustRule(METAWORLD), PUSH)
    rule.take(PUSH)
    hand = START + [-0.08, 0, 0]
    for _ in range(12):
        hand = rule.command(hand).target_world
    assert hand == pytest.approx(PUSH[-1] - [0, 0, 0.03])


def test_robust_hand_opens_and_goes_up_before_it_looks_again():
    rule = first_plan(RobustRule(METAWORLD), PUSH)
    hand = START - [0.08, 0, 0]
    run(rule, hand, steps=3)
    for _ in range(16):
        assert not rule.wants_plan(hand)
    command = rule.command(hand)
    assert command.target_world == pytest.approx(hand + [0, 0, 0.15]) and not command.close
    assert not rule.wants_plan(hand + [0, 0, 0.05])
    assert rule.wants_plan(hand + [0, 0, 0.14])


def test_a_look_that_shows_nothing_is_used_up_and_the_hand_goes_up():
    rule = first_plan(RobustRule(METAWORLD), PUSH)
    hand = np.array([0, 0.4, 0.2])
    rule.see_nothing(hand)
    assert rule.command(hand).target_world == pytest.approx(hand + [0, 0, 0.15])
    assert rule.wants_plan(hand + [0, 0, 0.15])
    for _ in range(4):
        rule.see_nothing(hand)
    assert stand_still(rule, hand) is None


# --- hands


def test_actions_are_twenty_times_the_missing_metres_within_bounds():
    spec = get_suite("metaworld11").tasks[0].action_spec
    action = METAWORLD.action(spec, np.zeros(3), np.array([0.01, -0.03, 2.0]), True)
    assert action == pytest.approx([0.2, -0.6, 1.0, 0.8])
    assert METAWORLD.action(spec, np.zeros(3), np.zeros(3), False)[-1] == -0.8


def test_a_hand_that_could_turn_does_not():
    spec = get_suite("libero-object").tasks[0].action_spec
    action = hand_of("libero-osc-pose").action(spec, np.zeros(3), np.array([0.1, 0.01, 0]), True)
    assert action == pytest.approx([1, 0.2, 0, 0, 0, 0, 1])


def test_a_robot_without_a_hand_is_named():
    with pytest.raises(UnknownName, match="AVDC's flow-to-action stage has no hand for action convention 'drone'."):
        hand_of("drone")
