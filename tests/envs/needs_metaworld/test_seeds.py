"""A seed decides the initial state: the one Meta-World gives it, whatever ran before."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("metaworld", reason="needs flowbench[metaworld]")
import mujoco
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

from flowbench.envs.metaworld.plain_state import DERIVED_ARRAYS, MODEL_ARRAYS
from flowbench.envs.metaworld.suites import MT50_TASKS
from flowbench.task import Scenario

#: Upstream draws their goal's marker, before the first step, where the reset before left it.
STALE_MARKERS = ("push", "push-back")
SEED_7_OF_SHELF_PLACE = """
import hashlib, sys
import numpy as np
np.random.seed(int(sys.argv[1]))
import flowbench
simulator = flowbench.make("metaworld11", "shelf-place").simulator
from flowbench.task import Scenario
simulator.reset(Scenario(7))
print(hashlib.sha256(simulator.get_state().physics.tobytes()).hexdigest())
"""


def fresh_upstream(task, seed):
    env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-v3-goal-observable"](seed=seed)
    observation, _ = env.reset()
    return env, observation


def assert_starts_and_goes_on_as_upstream(simulator, task, seed):
    simulator.step(np.ones(4))
    simulator.reset(Scenario(seed))
    env, observation = fresh_upstream(task, seed)
    np.testing.assert_array_equal(simulator.raw_observation(), observation)
    physics = np.empty_like(simulator.get_state().physics)
    mujoco.mj_getState(env.model, env.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
    np.testing.assert_array_equal(simulator.get_state().physics, physics)
    for name in MODEL_ARRAYS:
        np.testing.assert_array_equal(getattr(simulator.model, name), getattr(env.model, name), err_msg=name)
    for name in DERIVED_ARRAYS:
        tolerance = 1e-3 if name == "site_xpos" and task in STALE_MARKERS else 0
        ours, theirs = getattr(simulator.data, name), getattr(env.data, name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=name)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        action = rng.uniform(-1, 1, 4)
        observation, reward, _, _, info = env.step(action)
        outcome = simulator.step(action)
        np.testing.assert_array_equal(simulator.raw_observation(), observation)
        assert outcome[:2] == (reward, bool(info["success"]))


@pytest.mark.parametrize("task", ["door-open", "basketball", "assembly", "shelf-place"])
def test_a_seed_is_the_seed_of_a_fresh_upstream_environment(simulators, task):
    for seed in (0, 3):
        assert_starts_and_goes_on_as_upstream(simulators(task), task, seed)


@pytest.mark.slow
@pytest.mark.parametrize("task", MT50_TASKS)
def test_every_task_starts_and_goes_on_as_upstream(task):
    from flowbench.registry import get_suite
    from flowbench.simulator import RenderSettings

    suite = get_suite("metaworld-mt50")
    simulator = suite.make_simulator(suite.task(task), suite.rules(), RenderSettings(64, 64))
    for seed in (0, 5):
        assert_starts_and_goes_on_as_upstream(simulator, task, seed)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("door-open", [0.054, 0.892, 0.15]),
        ("shelf-place", [-0.012, 0.589, 0.021, -0.023, 0.879, 0.3]),
        ("button-press", [0.009, 0.871, 0.115]),
        ("assembly", [0, 0.6, 0.02, -0.023, 0.829, 0.1]),
    ],
)
def test_seed_0_draws_the_measured_vectors(simulators, task, expected):
    simulator = simulators(task)
    simulator.reset(Scenario(0))
    np.testing.assert_allclose(simulator._env._last_rand_vec, expected, atol=1e-3)


def test_different_seeds_start_differently(simulators):
    simulator = simulators("door-open")
    doors = set()
    for seed in range(10):
        simulator.reset(Scenario(seed))
        doors.add(tuple(simulator.model.body("door").pos))
    assert len(doors) == 10


def test_what_ran_before_does_not_matter(simulators, walk):
    simulator = simulators("basketball")
    simulator.reset(Scenario(4))
    first, first_walk = simulator.get_state(), walk(simulator, 30)
    walk(simulator, 300, seed=1)
    for other in (11, 12):
        simulator.reset(Scenario(other))
        walk(simulator, 5)
    simulator.reset(Scenario(4))
    np.testing.assert_array_equal(simulator.get_state().physics, first.physics)
    np.testing.assert_array_equal(walk(simulator, 30), first_walk)


@pytest.mark.parametrize("protocol", ["stock_v3", "avdc"])
def test_numpys_global_generator_is_neither_used_nor_moved(simulators, protocol):
    simulator = simulators("assembly", protocol=protocol)
    positions = []
    for global_seed in (1, 2):
        np.random.seed(global_seed)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        simulator.reset(Scenario(6))
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
        positions.append(simulator.raw_observation().copy())
    np.testing.assert_array_equal(*positions)


def test_processes_agree_on_a_seed(simulators):
    hashes = set()
    for global_seed in ("1", "2"):
        command = [sys.executable, "-c", SEED_7_OF_SHELF_PLACE, global_seed]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
        assert finished.returncode == 0, finished.stderr
        hashes.add(finished.stdout.strip())
    simulator = simulators("shelf-place")
    simulator.reset(Scenario(7))
    hashes.add(hashlib.sha256(simulator.get_state().physics.tobytes()).hexdigest())
    assert len(hashes) == 1


def test_upstreams_limit_of_500_steps_does_not_show(simulators):
    simulator = simulators("handle-press")
    simulator.reset(Scenario(0))
    for _ in range(510):
        outcome = simulator.step(np.zeros(4))
    assert np.isfinite(outcome.reward)


def test_proprio_is_the_hand_and_its_opening(simulators):
    simulator = simulators("door-open")
    simulator.reset(Scenario(0))
    proprio = simulator.proprio()
    assert proprio.dtype == np.float32 and proprio.shape == (4,)
    np.testing.assert_allclose(proprio[:3], simulator.data.body("hand").xpos, atol=1e-6)
    for _ in range(20):
        simulator.step(np.array([0, 0, 0, 1.0]))
    assert simulator.proprio()[3] < proprio[3] - 0.2
