"""Lazy observations: nothing is rendered that nobody reads, and nothing is read that is no longer there."""

from collections import Counter

import numpy as np
import pytest

import flowbench
from flowbench.errors import FlowBenchError, PrivilegeError, StaleObservation, UnknownName

ALL = ("rgb", "depth", "segmentation", "calibration")
REST = np.array([0.0, 0.0, 0.0, -1.0], dtype=np.float32)


@pytest.fixture
def env():
    return make()


def make(**config):
    config = {"cameras": ("front", "wrist"), "modalities": ALL, "lazy": True} | config
    return flowbench.make("toy", "push", **config)


def count_renders(env) -> Counter:
    """Count the render passes of an environment's simulator by (view, modalities)."""
    counts, render = Counter(), env.simulator.render

    def counting(name, camera, modalities):
        counts[name, tuple(sorted(modalities))] += 1
        return render(name, camera, modalities)

    env.simulator.render = counting
    return counts


def test_nothing_is_rendered_until_it_is_read(env):
    counts = count_renders(env)
    observation, _ = env.reset(seed=0)
    for _ in range(5):
        observation, *_ = env.step(REST)
    assert "front/rgb" in observation and "nowhere/rgb" not in observation
    assert len(observation) == len(list(observation)) == 11
    assert observation.proprio.shape == (4,)
    assert observation.camera_params("wrist").width == 128
    assert observation["front/intrinsic_cv"].shape == (3, 3)
    assert not counts
    observation.rgb()
    assert sum(counts.values()) == 1


def test_rgb_and_depth_come_from_one_pass_and_ids_from_another(env):
    counts = count_renders(env)
    observation, _ = env.reset(seed=0)
    observation.depth_m()
    observation.rgb()
    observation.rgb()
    assert counts == {("front", ("depth", "rgb")): 1}
    observation.segmentation()
    assert counts == {("front", ("depth", "rgb")): 1, ("front", ("segmentation",)): 1}
    observation.depth_m("wrist")
    assert counts["wrist", ("depth", "rgb")] == 1


def test_depth_alone_is_rendered_alone_when_only_depth_was_declared():
    env = make(modalities=("depth",))
    counts = count_renders(env)
    observation, _ = env.reset(seed=0)
    observation.depth_m()
    assert counts == {("front", ("depth",)): 1}


def test_what_was_read_once_stays_readable(env):
    observation, _ = env.reset(seed=0)
    rgb = observation.rgb()
    env.step(REST)
    assert observation.rgb() is rgb


def test_reading_after_the_simulator_moved_on_says_what_to_do(env):
    observation, _ = env.reset(seed=0)
    env.step(REST)
    expected = (
        "'front/rgb' of step 0 was first read after the simulator had moved on. Read it inside `act`, before returning "
        "the action."
    )
    with pytest.raises(StaleObservation) as caught:
        observation.rgb()
    assert str(caught.value) == expected
    with pytest.raises(StaleObservation, match="'wrist/calibration' of step 0"):
        observation.camera_params("wrist")


@pytest.mark.parametrize("move_on", ["reset", "set_state", "close"])
def test_every_way_to_move_on_expires_the_observation(env, move_on):
    observation, _ = env.reset(seed=0)
    state = env.get_state()
    {"reset": env.reset, "set_state": lambda: env.set_state(state), "close": env.close}[move_on]()
    with pytest.raises(StaleObservation):
        observation.proprio  # noqa: B018 - reading is the test


def test_an_action_that_is_refused_does_not_expire_the_observation(env):
    observation, _ = env.reset(seed=0)
    with pytest.raises(FlowBenchError):
        env.step(np.full(4, 2.0))
    assert observation.rgb().shape == (96, 128, 3)


def test_a_key_that_does_not_exist_names_the_nearest_one():
    env = make(cameras=("front",), modalities=("rgb",))
    observation, _ = env.reset(seed=0)
    expected = (
        "This observation has no key 'front/rbg'. Did you mean 'front/rgb'? Available: front/rgb, proprio. Cameras come "
        "from --cameras; modalities from the agent's `needs`."
    )
    with pytest.raises(UnknownName) as caught:
        observation["front/rbg"]
    assert str(caught.value) == expected
    assert observation.get("front/rbg") is None
    with pytest.raises(KeyError):
        observation["front/depth"]


def test_an_unknown_camera_is_named(env):
    observation, _ = env.reset(seed=0)
    with pytest.raises(UnknownName, match="This observation has no camera 'side'"):
        observation.camera_params("side")


def test_the_simulator_is_only_for_privileged_agents(env):
    observation, _ = env.reset(seed=0)
    expected = (
        "This agent reads the simulator's state but did not declare it. Set `needs = Needs(privileged=True)`; tables then "
        "mark it as privileged."
    )
    with pytest.raises(PrivilegeError) as caught:
        observation.simulator  # noqa: B018
    assert str(caught.value) == expected
    privileged = make(privileged=True)
    observation, _ = privileged.reset(seed=0)
    assert observation.simulator is privileged.simulator


def test_the_first_camera_is_the_episode_s(env):
    observation, _ = env.reset(seed=0)
    assert observation.camera == "front"
    assert observation.instruction == "push the block onto the green disc"
    assert np.array_equal(observation.rgb(), observation["front/rgb"])
    assert observation.step == 0
    assert env.step(REST)[0].step == 1


def test_an_observation_without_cameras_is_proprioception():
    observation, _ = make(cameras=()).reset(seed=0)
    assert list(observation) == ["proprio"]
    assert observation.camera == ""


def test_a_lazy_and_a_plain_observation_hold_the_same_arrays():
    lazy, _ = make().reset(seed=4)
    plain, _ = make(lazy=False).reset(seed=4)
    assert type(plain) is dict
    assert set(plain) == set(lazy)
    for key, value in plain.items():
        assert np.array_equal(lazy[key], value), key
        assert lazy[key].dtype == value.dtype
