"""A snapshot is exact: the same actions give the same bits, after anything in between."""

import pickle

import numpy as np
import pytest

pytest.importorskip("metaworld", reason="needs flowbench[metaworld]")
from flowbench.registry import get_suite, make
from flowbench.task import Scenario

TASKS = [task.name for task in get_suite("metaworld11").tasks]


@pytest.mark.parametrize("task", TASKS)
def test_going_on_from_a_snapshot_is_exact(simulators, walk, task):
    simulator = simulators(task)
    simulator.reset(Scenario(2))
    walk(simulator, 25)
    state = simulator.get_state()
    went_on = walk(simulator, 30, seed=1)
    simulator.reset(Scenario(9))
    walk(simulator, 10, seed=2)
    simulator.set_state(state)
    np.testing.assert_array_equal(walk(simulator, 30, seed=1), went_on)


def test_a_snapshot_restores_what_reset_left_for_the_first_look(simulators, walk):
    # basketball keeps its goal as a window onto MuJoCo's memory, and its first markers are stale by design.
    simulator = simulators("basketball")
    simulator.reset(Scenario(1))
    state, observation = simulator.get_state(), simulator.raw_observation().copy()
    derived = {name: getattr(simulator.data, name).copy() for name in state.extras["derived"]}
    went_on = walk(simulator, 20)
    simulator.set_state(state)
    np.testing.assert_array_equal(simulator.raw_observation(), observation)
    for name, values in derived.items():
        np.testing.assert_array_equal(getattr(simulator.data, name), values, err_msg=name)
    np.testing.assert_array_equal(walk(simulator, 20), went_on)


def test_changing_the_simulator_does_not_change_the_snapshot(simulators, walk):
    simulator = simulators("hammer")
    simulator.reset(Scenario(0))
    state = simulator.get_state()
    before = pickle.dumps(state)
    walk(simulator, 10)
    simulator.set_state(state)
    walk(simulator, 10)
    assert pickle.dumps(state) == before


def test_a_snapshot_moves_to_another_simulator(simulators, walk):
    source = simulators("assembly")
    source.reset(Scenario(5))
    walk(source, 15)
    state = pickle.loads(pickle.dumps(source.get_state()))
    went_on = walk(source, 20, seed=3)
    suite = get_suite("metaworld11")
    other = make("metaworld11", "assembly").simulator
    assert other is not source and suite.task("assembly")
    other.set_state(state)
    np.testing.assert_array_equal(walk(other, 20, seed=3), went_on)
    other.close()


def test_the_image_after_restoring_is_the_image_before(opengl, simulators, walk, look):
    simulator = simulators("shelf-place")
    simulator.reset(Scenario(3))
    state = simulator.get_state()
    before, _ = look(simulator, "corner3", "rgb", "depth", "segmentation")
    walk(simulator, 10)
    simulator.set_state(state)
    after, _ = look(simulator, "corner3", "rgb", "depth", "segmentation")
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
