"""Resets: upstream's own, bit for bit, and a pure function of the scenario."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from flowbench.errors import BadValue
from flowbench.registry import get_suite
from flowbench.task import Scenario

pytest.importorskip("libero", reason="needs flowbench[libero]")

from flowbench.envs.libero.reset import fixture_seed

# Starts with an open drawer; starts with a stove that is on; no fixtures at all.
TASKS = [("libero-spatial", 4), ("libero10", 8), ("libero-object", 1)]


def random_actions(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 7))


def check_against_upstream(simulator, upstream, task_name, scenario, physics_of, assert_same, steps):
    upstream.start(fixture_seed(task_name, scenario), scenario.init_state)
    simulator.reset(scenario)
    assert_same(physics_of(simulator.control_env), physics_of(upstream.env))
    for action in random_actions(steps, seed=1):
        _, reward, done, _ = upstream.env.step(action)
        assert simulator.step(action)[:2] == (reward, done)
    assert_same(physics_of(simulator.control_env), physics_of(upstream.env))


@pytest.mark.parametrize("name, index", TASKS)
def test_a_reset_equals_upstreams_hard_reset_bit_for_bit(
    name, index, simulators, make_upstream, physics_of, assert_same
):
    simulator, task_name = simulators(name, index), get_suite(name).tasks[index].name
    # Leave a mess behind first.
    simulator.reset(Scenario(9, 2))
    for action in random_actions(25):
        simulator.step(action)
    upstream = make_upstream(task_name, cameras=("agentview",))
    check_against_upstream(simulator, upstream, task_name, Scenario(0, 7), physics_of, assert_same, steps=20)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(10))
@pytest.mark.parametrize("name", ["libero-spatial", "libero-goal", "libero10", "libero90"])
def test_resets_of_every_kind_of_scene_equal_upstreams(name, index, simulators, make_upstream, physics_of, assert_same):
    index = index * 9 if name == "libero90" else index
    simulator, task_name = simulators(name, index), get_suite(name).tasks[index].name
    upstream = make_upstream(task_name, cameras=("agentview",))
    check_against_upstream(simulator, upstream, task_name, Scenario(3, 41), physics_of, assert_same, steps=20)


@pytest.mark.parametrize("name, index", TASKS)
def test_a_scenario_does_not_depend_on_what_ran_before(name, index, simulators, physics_of, assert_same):
    simulator, scenario = simulators(name, index), Scenario(4, 11)

    def run():
        simulator.reset(scenario)
        start = physics_of(simulator.control_env)
        for action in random_actions(15, seed=2):
            simulator.step(action)
        return start, physics_of(simulator.control_env)

    start, end = run()
    simulator.reset(Scenario(5, 3))
    for action in random_actions(300):
        simulator.step(action)
    start_again, end_again = run()
    assert_same(start, start_again)
    assert_same(end, end_again)
    assert not np.array_equal(start["positions"], end["positions"])


def test_fixtures_stand_elsewhere_for_another_seed_and_in_the_same_place_for_the_same(simulators):
    simulator = simulators("libero-spatial", 4)
    model = simulator.model
    cabinet = model.body("wooden_cabinet_1_main").id
    places = {}
    for seed in (0, 1, 2, 0, 1):
        simulator.reset(Scenario(seed, 0))
        place = np.append(model.body_pos[cabinet], model.body_quat[cabinet])
        np.testing.assert_array_equal(places.setdefault(seed, place), place)
    assert not np.array_equal(places[0], places[1])
    assert not np.array_equal(places[0], places[2])
    # Centimetres, not another scene.
    assert np.abs(places[0][:3] - places[1][:3]).max() < 0.05


def test_the_seed_of_the_fixtures_depends_on_task_initial_state_and_seed():
    seeds = {
        fixture_seed(task, Scenario(seed, init_state))
        for task in ("turn_on_the_stove", "put_the_bowl_on_the_plate")
        for seed in (0, 1)
        for init_state in (0, 1)
    }
    assert len(seeds) == 8
    # A start that the seed samples is a scenario of its own.
    assert fixture_seed("turn_on_the_stove", Scenario(3)) != fixture_seed("turn_on_the_stove", Scenario(3, 0))


def test_resets_leave_numpys_global_generator_alone(simulators):
    simulator = simulators("libero-spatial", 4)
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.rand(3)  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    simulator.reset(Scenario(1, 1))
    np.testing.assert_array_equal(np.random.rand(3), expected)  # noqa: NPY002


def test_an_initial_state_that_does_not_exist_is_named(simulators):
    with pytest.raises(BadValue, match="initial states 0 to 49; 50 is not one"):
        simulators("libero-object", 1).reset(Scenario(0, 50))


DIGEST = """
import hashlib, numpy as np, flowbench
env = flowbench.make("libero10", {task!r}, cameras=())
observation, _ = env.reset(options={{"scenario": flowbench.Scenario(2, 5)}})
for action in np.random.default_rng(0).uniform(-1, 1, (20, 7)):
    observation, *_ = env.step(action)
print(hashlib.sha256(env.get_state().simulator.physics.tobytes() + observation["proprio"].tobytes()).hexdigest())
env.close()
"""


def test_two_processes_agree_bit_for_bit():
    script = DIGEST.format(task=get_suite("libero10").tasks[3].name)
    digests = set()
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == len(hashlib.sha256().hexdigest())
