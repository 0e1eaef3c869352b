"""Snapshots: the future after a restore is the future that was."""

import pickle

import numpy as np
import pytest

from flowbench.errors import BadValue
from flowbench.task import Scenario

pytest.importorskip("libero", reason="needs flowbench[libero]")


def random_actions(count, seed):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 7))


@pytest.mark.parametrize("name, index", [("libero-goal", 7), ("libero10", 8)])
def test_thirty_actions_after_a_restore_repeat_bit_for_bit(name, index, simulators, physics_of, assert_same):
    simulator = simulators(name, index)
    simulator.reset(Scenario(0, 3))
    for action in random_actions(20, seed=0):
        simulator.step(action)

    def run():
        outcomes = [simulator.step(action) for action in random_actions(30, seed=1)]
        return outcomes, physics_of(simulator.control_env), simulator.proprio()

    state = simulator.get_state()
    outcomes, physics, proprio = run()
    # Right away, after another scenario, and through a pickle (as when workers exchange states).
    for between in ("nothing", "another scenario", "pickle"):
        if between != "nothing":
            simulator.reset(Scenario(1, 20))
            for action in random_actions(40, seed=2):
                simulator.step(action)
        simulator.set_state(pickle.loads(pickle.dumps(state)) if between == "pickle" else state)
        outcomes_again, physics_again, proprio_again = run()
        assert outcomes_again == outcomes
        assert_same(physics_again, physics)
        np.testing.assert_array_equal(proprio_again, proprio)


def test_a_snapshot_right_after_a_reset_keeps_the_controllers_first_goal(simulators, physics_of, assert_same):
    simulator = simulators("libero-goal", 7)
    simulator.reset(Scenario(0, 0))
    state = simulator.get_state()
    simulator.step(np.full(7, 0.5))
    first = physics_of(simulator.control_env)
    simulator.set_state(state)
    simulator.step(np.full(7, 0.5))
    assert_same(physics_of(simulator.control_env), first)


def test_looking_does_not_change_the_future(simulators, look, opengl, physics_of, assert_same):
    simulator = simulators("libero10", 8)

    def run(looking):
        simulator.reset(Scenario(0, 5))
        for action in random_actions(12, seed=4):
            simulator.step(action)
            if looking:
                simulator.proprio()
                simulator.view("robot0_eye_in_hand")
        if looking:
            look(simulator, "agentview+az20", "rgb", "depth", "segmentation")
        for action in random_actions(5, seed=5):
            simulator.step(action)
        return physics_of(simulator.control_env)

    assert_same(run(looking=True), run(looking=False))


def test_a_restored_state_looks_as_it_did(simulators, look, opengl):
    simulator = simulators("libero-goal", 7)
    simulator.reset(Scenario(0, 5))
    for action in random_actions(10, seed=4):
        simulator.step(action)
    state = simulator.get_state()
    before, camera_before = look(simulator, "robot0_eye_in_hand", "rgb", "depth", "segmentation")
    simulator.reset(Scenario(1, 6))
    simulator.set_state(state)
    after, camera_after = look(simulator, "robot0_eye_in_hand", "rgb", "depth", "segmentation")
    np.testing.assert_array_equal(camera_before.camera_to_world, camera_after.camera_to_world)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_state_of_another_task_is_refused(simulators):
    simulators("libero-goal", 7).reset(Scenario(0, 0))
    state = simulators("libero-goal", 7).get_state()
    with pytest.raises(BadValue, match="taken from another task"):
        simulators("libero-object", 1).set_state(state)
