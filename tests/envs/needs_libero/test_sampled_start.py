"""Starts without a stored initial state: upstream's own reset, and a pure function of the seed."""

import numpy as np
import pytest

from flowbench.registry import get_suite
from flowbench.task import Scenario

pytest.importorskip("libero", reason="needs flowbench[libero]")

from flowbench.envs.libero.reset import fixture_seed

# Starts with an open drawer; starts with a stove that is on; no fixtures at all.
TASKS = [("libero-spatial", 4), ("libero10", 8), ("libero-object", 1)]


def actions(count, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 7))


@pytest.mark.parametrize("name, index", TASKS)
def test_a_sampled_start_equals_upstreams_seeded_reset_bit_for_bit(
    name, index, simulators, make_upstream, physics_of, assert_same
):
    simulator, task_name = simulators(name, index), get_suite(name).tasks[index].name
    scenario = Scenario(10_003)
    # Leave a mess behind first.
    simulator.reset(Scenario(9, 2))
    for action in actions(25):
        simulator.step(action)
    # With a camera, as in `OffScreenRenderEnv`: its render context advances the warm start once more.
    upstream = make_upstream(task_name, cameras=("agentview",)).env
    upstream.seed(fixture_seed(task_name, scenario))
    upstream.reset()
    simulator.reset(scenario)
    assert_same(physics_of(simulator.control_env), physics_of(upstream))
    for action in actions(20):
        _, reward, done, _ = upstream.step(action)
        assert simulator.step(action)[:2] == (reward, done)
    assert_same(physics_of(simulator.control_env), physics_of(upstream))


def test_the_same_seed_gives_the_same_start_and_another_seed_another_one(simulators, physics_of, assert_same):
    simulator = simulators("libero-spatial", 4)

    def start(scenario):
        simulator.reset(scenario)
        return physics_of(simulator.control_env)

    first = start(Scenario(10_000))
    other = start(Scenario(10_001))
    start(Scenario(3, 7))
    assert_same(start(Scenario(10_000)), first)
    assert not np.array_equal(first["positions"], other["positions"])


def test_a_sampled_start_is_none_of_the_official_ones(simulators):
    simulator = simulators("libero-spatial", 4)
    simulator.reset(Scenario(0))
    sampled = simulator.data.qpos.copy()
    for index in range(50):
        simulator.reset(Scenario(0, index))
        assert not np.allclose(simulator.data.qpos, sampled, atol=1e-4)


def test_fixtures_of_official_scenarios_stand_where_published_results_had_them():
    # Results are stored under these seeds; another number would make them another benchmark.
    task = "put_the_wine_bottle_on_the_rack"
    assert fixture_seed(task, Scenario(0, 0)) == FIXTURE_SEEDS[0]
    assert fixture_seed(task, Scenario(3, 41)) == FIXTURE_SEEDS[1]
    assert fixture_seed(task, Scenario(0)) not in FIXTURE_SEEDS


#: Of the commit before sampled starts were added.
FIXTURE_SEEDS = (4062235038, 1959397498)
