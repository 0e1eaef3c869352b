"""LIBERO through Gymnasium, as other libraries check it."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

pytest.importorskip("libero", reason="needs flowbench[libero]")
pytestmark = pytest.mark.usefixtures("opengl")

TASK = "LIVING_ROOM_SCENE2_put_both_the_alphabet_soup_and_the_tomato_sauce_in_the_basket"


def make(**config):
    modalities = ("rgb", "depth", "segmentation", "calibration")
    config = {"image_size": (32, 32), "modalities": modalities, "profile": "fast"} | config
    return gymnasium.make(f"flowbench:FlowBench/libero10-{TASK}-v0", disable_env_checker=True, **config)


def test_gymnasiums_checker_accepts_a_libero_task():
    env = make(render_mode="rgb_array", cameras=("agentview",))
    check_env(env.unwrapped)
    env.close()


def test_stable_baselines_checker_accepts_a_libero_task():
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = make(cameras=("agentview",))
    checker.check_env(env.unwrapped)
    env.close()


def test_the_family_id_is_the_same_task_and_a_seed_gives_the_same_first_frame():
    env = gymnasium.make(f"flowbench:FlowBench/libero-{TASK}-v0", disable_env_checker=True, modalities="depth")
    first, info = env.reset(seed=53)
    assert info["scenario"] == "i003-s053"
    assert info["instruction"] == "put both the alphabet soup and the tomato sauce in the basket"
    env.reset(seed=54)
    again, _ = env.reset(seed=53)
    np.testing.assert_array_equal(first["agentview/depth"], again["agentview/depth"])
    env.close()
