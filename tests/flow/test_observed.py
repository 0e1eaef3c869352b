"""Flow as an observation: to the frame before, in every image view, at no cost to who does not read it."""

from dataclasses import replace

import numpy as np
import pytest

import flowbench
from flowbench.env import EnvConfig, TaskEnv
from flowbench.envs.toy.suite import TOY
from flowbench.errors import BadValue
from flowbench.flow.exact import exact_flow
from flowbench.flow.snapshot import take_snapshot

FORWARD = np.array([0.0, 1.0, 0.0, 0.0], np.float32)


def make(**config):
    return flowbench.make("toy", "push", **({"cameras": ("front", "wrist"), "modalities": ("flow",)} | config))


@pytest.mark.parametrize("image_view", ["geometric", "policy"])
@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_observed_flow_goes_from_this_frame_to_the_one_before(camera, image_view):
    mirrored = replace(TOY, policy_view_mirrored=True)
    env = TaskEnv(
        mirrored, TOY.task("push"), TOY.rules(), EnvConfig((camera,), ("flow", "depth"), image_view=image_view)
    )
    env.reset(seed=1)
    before = take_snapshot(env, camera)
    observation = env.step(FORWARD)[0]
    now = take_snapshot(env, camera)
    np.testing.assert_array_equal(observation[f"{camera}/flow"], exact_flow(now, before).flow_px)
    assert np.abs(observation[f"{camera}/flow"]).max() > 1
    np.testing.assert_array_equal(observation[f"{camera}/depth"], now.depth_m)


def test_flow_is_declared_and_zero_at_the_start():
    env = make()
    observation, _ = env.reset(seed=0)
    assert observation["front/flow"].shape == (96, 128, 2) and observation["front/flow"].dtype == np.float32
    assert not np.any(observation["front/flow"])
    assert env.observation_space.contains(observation)
    observation = env.step(FORWARD)[0]
    assert env.observation_space.contains(observation) and np.any(observation["front/flow"])
    assert not np.any(env.set_state(env.get_state())["front/flow"]), "nobody knows what was before a restored state"
    env.step(FORWARD)
    assert not np.any(env.reset(seed=1)[0]["wrist/flow"])


def test_a_camera_added_on_the_way_has_no_frame_before():
    env = make(lazy=True)
    env.reset(seed=0)
    env.step(FORWARD)
    env.set_cameras(("side",))
    observation = env.step(FORWARD)[0]
    assert np.any(observation["side/flow"])
    env.set_cameras(("front",))
    with pytest.raises(flowbench.FlowBenchError):
        observation["side/depth"]
    assert not np.any(dict(env._observe())["front/flow"])


def test_flow_that_nobody_reads_renders_nothing(monkeypatch):
    env = make(lazy=True)
    env.reset(seed=0)
    looked = []
    monkeypatch.setattr(env.simulator, "render", lambda *arguments: looked.append(arguments))
    for _ in range(3):
        env.step(FORWARD)
    assert looked == []


def test_a_suite_without_bodies_refuses_flow_at_once(monkeypatch):
    from flowbench.envs.toy.simulator import ToySimulator

    monkeypatch.delattr(ToySimulator, "body_poses")
    env = make()
    with pytest.raises(
        BadValue, match="ToySimulator does not tell the poses of its bodies, so exact flow cannot be computed"
    ):
        env.reset(seed=0)
