"""Meta-World through Gymnasium, as other libraries check it; and the suites through FlowBench's own contract test."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

pytest.importorskip("metaworld", reason="needs flowbench[metaworld]")
import flowbench
from flowbench.envs.metaworld.suites import MT50_TASKS
from flowbench.testing import check_suite

pytestmark = pytest.mark.usefixtures("opengl")

SMALL = {"image_size": (64, 48), "modalities": ("rgb", "depth", "segmentation", "calibration"), "profile": "fast"}


def test_gymnasiums_checker_accepts_a_meta_world_task():
    env = flowbench.make("metaworld11", "door-open", render_mode="rgb_array", cameras=("corner", "gripperPOV"), **SMALL)
    check_env(env)
    env.close()


def test_stable_baselines_checker_accepts_a_meta_world_task():
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = flowbench.make("metaworld11", "door-open", cameras=("corner2",), **SMALL)
    checker.check_env(env)
    env.close()


def test_gymnasium_makes_any_task_by_id():
    env = gymnasium.make("flowbench:FlowBench/metaworld-peg-insert-side-v0", cameras=("corner+yaw5",), **SMALL)
    observation, info = env.reset(seed=1)
    assert observation["corner+yaw5/rgb"].shape == (48, 64, 3)
    assert info["instruction"] == "peg insert side"
    observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
    assert observation["proprio"].shape == (4,) and not terminated and not truncated
    env.close()


@pytest.mark.parametrize("mode", ["rgb_array", "depth_array", "rgbd_tuple"])
def test_render_modes_give_the_first_camera(mode):
    env = flowbench.make("metaworld11", "hammer", render_mode=mode, cameras=("corner3",), **SMALL)
    observation, _ = env.reset(seed=0)
    images = env.render()
    rgb, depth_m = {"rgb_array": (images, None), "depth_array": (None, images)}.get(mode) or images
    if rgb is not None:
        np.testing.assert_array_equal(rgb, observation["corner3/rgb"])
    if depth_m is not None:
        np.testing.assert_array_equal(depth_m, observation["corner3/depth"])
    env.close()


def test_building_and_stepping_without_cameras_makes_no_opengl_context():
    env = flowbench.make("metaworld11", "door-open", cameras=(), modalities=())
    env.reset(seed=0)
    env.step(np.zeros(4))
    assert env.simulator._renderer._gl is None
    env.close()


def test_an_episode_is_truncated_at_the_horizon_and_not_before():
    env = flowbench.make("metaworld11", "door-open", cameras=(), modalities=())
    env.reset(seed=0)
    for step in range(1, 501):
        _, _, terminated, truncated, info = env.step(np.zeros(4))
        assert not terminated
        assert truncated == (step == 500)
    assert not info["is_success"]
    env.close()


def test_the_suite_keeps_the_contract():
    check_suite("metaworld11", tasks=("hammer",), cameras=("corner", "corner2"))


@pytest.mark.slow
@pytest.mark.parametrize("task", MT50_TASKS)
def test_every_task_is_built_reset_and_seen(task):
    env = flowbench.make("metaworld-mt50", task, cameras=("corner", "corner2"), **SMALL)
    assert env.simulator.views == env.suite.views
    observation, _ = env.reset(seed=0)
    for camera in ("corner", "corner2"):
        assert observation[f"{camera}/rgb"].std() > 10
        assert (observation[f"{camera}/depth"] > 0).mean() > 0.3
        assert len(np.unique(observation[f"{camera}/segmentation"])) > 8
    env.close()
