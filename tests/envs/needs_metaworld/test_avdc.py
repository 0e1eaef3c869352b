"""AVDC's protocol: its fork's initial states in its order of draws, its success rule, its mirrored images."""

import numpy as np
import pytest

pytest.importorskip("metaworld", reason="needs flowbench[metaworld]")
from flowbench.envs.metaworld.suites import AVDC_TASKS
from flowbench.registry import make
from flowbench.task import Scenario

HAND_NOISE_M = {"basketball": (0.15, -0.1, 0.1), "assembly": (0.3, 0.0, 0.2)}


def drawn_by_the_fork(simulator, task, seed):
    """Draw what the fork's constructor and its one reset draw, in that order: (hand noise, object vector)."""
    rng = np.random.RandomState(seed)
    xy, z_low, z_high = HAND_NOISE_M.get(task, (0.3, 0.0, 0.1))
    noise = np.append(rng.uniform(-xy, xy, 2), rng.uniform(z_low, z_high))
    if task == "assembly":
        rng.uniform(-0.1, 0.1, 2)
    space = simulator._env._random_reset_space
    low, high = (bound.astype(np.float32).astype(np.float64) for bound in (space.low, space.high))
    too_near = {"basketball": (slice(3, 5), 0.15), "shelf-place": (slice(3, 5), 0.1), "assembly": (slice(3, 5), 0.1)}
    while True:
        vector = rng.uniform(low, high)
        if task not in too_near:
            return noise, vector
        goal, distance = too_near[task]
        if np.linalg.norm(vector[:2] - vector[goal]) >= distance:
            return noise, vector


@pytest.mark.parametrize("task", AVDC_TASKS)
def test_hand_and_object_are_drawn_in_the_forks_order(simulators, task):
    stock, fork = simulators(task), simulators(task, protocol="avdc")
    stock.reset(Scenario(0))
    base = stock._env.hand_init_pos
    for seed in (0, 11):
        fork.reset(Scenario(seed))
        noise, vector = drawn_by_the_fork(fork, task, seed)
        np.testing.assert_array_equal(fork._env.hand_init_pos, base + noise)
        np.testing.assert_array_equal(fork._env._last_rand_vec, vector)
        # The hand is drawn there for 50 steps; at the edge of the arm's reach it stays behind.
        assert np.linalg.norm(fork.raw_observation()[:3] - (base + noise)) < 0.1


def test_the_ball_may_lie_outside_upstreams_box(simulators):
    fork = simulators("basketball", protocol="avdc")
    balls = []
    for seed in range(12):
        fork.reset(Scenario(seed))
        balls.append(fork.raw_observation()[4:6].copy())
    balls = np.array(balls)
    outside = (np.abs(balls[:, 0]) > 0.105) | (balls[:, 1] < 0.595) | (balls[:, 1] > 0.705)
    assert outside.sum() >= 6
    assert np.all(np.abs(balls[:, 0]) < 0.31) and np.all((balls[:, 1] > 0.39) & (balls[:, 1] < 0.81))


def test_the_forks_states_do_not_leak_into_the_stock_protocol(simulators):
    fork = simulators("basketball", protocol="avdc")
    fork.reset(Scenario(3))
    first = fork.raw_observation().copy()
    for seed in (5, 3):
        fork.reset(Scenario(seed))
    np.testing.assert_array_equal(fork.raw_observation(), first)
    stock = simulators("basketball")
    stock.reset(Scenario(3))
    assert not np.allclose(stock.raw_observation(), first)


@pytest.mark.parametrize("view", ["corner", "corner2", "corner3"])
def test_images_are_avdcs_mirror_images_and_the_calibration_follows(opengl, view):
    everything = ("rgb", "depth", "segmentation", "calibration")
    upright = make("metaworld11", "hammer", cameras=view, modalities=everything)
    avdc = make("metaworld11", "hammer", protocol="avdc", cameras=view, modalities=everything)
    seen, _ = upright.reset(seed=2)
    observation, _ = avdc.reset(seed=2)
    # The fork starts elsewhere: show both the same state.
    observation = avdc.set_state(upright.get_state())
    for key in ("rgb", "depth", "segmentation"):
        np.testing.assert_array_equal(observation[f"{view}/{key}"], seen[f"{view}/{key}"][:, ::-1])
    assert observation[f"{view}/intrinsic_cv"][0, 0] < 0
    assert avdc.cameras[view].mirrored and not upright.cameras[view].mirrored
    pixels = np.array([[40.0, 150.0], [160.0, 120.0], [250.0, 200.0]])
    depth_m = np.array([observation[f"{view}/depth"][int(row), int(column)] for column, row in pixels])
    depth_m[depth_m == 0] = 1.0
    points = avdc.cameras[view].unproject(pixels, depth_m)
    np.testing.assert_allclose(avdc.cameras[view].project(points).pixels, pixels, atol=1e-6)
    mirrored_pixels = pixels * [-1, 1] + [319, 0]
    np.testing.assert_allclose(upright.cameras[view].project(points).pixels, mirrored_pixels, atol=1e-6)
    upright.close()
    avdc.close()


def test_an_episode_goes_on_until_ten_steps_have_succeeded():
    from flowbench.agents.scripted import ScriptedAgent

    env = make("metaworld11", "door-open", protocol="avdc", cameras=(), modalities=(), lazy=True, privileged=True)
    agent = ScriptedAgent()
    observation, info = env.reset(seed=0)
    agent.reset(env.task, {}, 0)
    successes, terminated = 0, False
    while not terminated:
        observation, _, terminated, truncated, info = env.step(agent.act(observation))
        assert not truncated
        successes += info["success_now"]
    assert successes == 10
    assert info["is_success"]
    env.close()
