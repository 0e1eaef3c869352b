"""From demonstrations to an episode, through the one training loop."""

import h5py
import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("diffusers")

from flowbench.agents.diffusion_policy.agent import DiffusionPolicyAgent
from flowbench.agents.diffusion_policy.recipe import DiffusionPolicyRecipe
from flowbench.agents.training.loop import TrainOptions, train
from flowbench.agents.training.presets import load_settings
from flowbench.agents.training.sources import Sources
from flowbench.env import EnvConfig, TaskEnv
from flowbench.registry import get_suite
from flowbench.testing import check_agent

TOY = get_suite("toy")


def trained(demos, out, *changes, tasks=(), limit=None, **training):
    settings = load_settings(DiffusionPolicyRecipe(), "tiny", "toy", changes, **training)
    sources = Sources((demos,), TOY, tasks, limit, validation_fraction=0.0, cache=out.parent / "frames")
    return train(DiffusionPolicyRecipe(), settings, sources, TrainOptions(out, progress=False))


def test_one_demonstration_is_learned_and_its_episode_succeeds(toy_demos, tmp_path):
    changes = ("image_size=[32, 24]", "vision_stages=2", "camera=front")
    checkpoint = trained(toy_demos, tmp_path / "dp", *changes, tasks=("reach",), limit=1, steps=150, batch_size=16)
    assert checkpoint.training["metrics"]["loss"] < 0.1
    agent = DiffusionPolicyAgent(checkpoint)
    with h5py.File(toy_demos) as file:
        demos = [file["data"][name].attrs for name in sorted(file["data"])]
        scenes = [(attrs["task"], int(attrs["seed"])) for attrs in demos if attrs["task"] == "reach"]
    results = []
    for task, seed in scenes:
        env = TaskEnv(
            TOY, TOY.task(task), TOY.rules(), EnvConfig(("front",), ("rgb",), agent.needs.image_size, lazy=True)
        )
        observation, _ = env.reset(seed=seed)
        agent.reset(env.task, env.cameras, 0)
        ended = False
        while not ended:
            observation, _, terminated, truncated, info = env.step(agent.act(observation))
            ended = terminated or truncated
        results.append(info["is_success"])
        env.close()
    # Of two recorded scenes one took part.
    assert any(results)


def test_two_cameras_and_proprioception_are_learned_from_and_seen(toy_demos, tmp_path):
    changes = (
        "image_size=[16, 12]",
        "vision_stages=1",
        "camera=front",
        'extra_cameras=["side"]',
        "proprio=true",
        "film=true",
    )
    checkpoint = trained(toy_demos, tmp_path / "dp", *changes, steps=2, batch_size=4)
    agent = DiffusionPolicyAgent(checkpoint)
    assert agent.needs.extra_cameras == ("side",)
    check_agent(lambda: DiffusionPolicyAgent(checkpoint), steps=3)


def test_every_camera_in_turn_is_learned_from_with_its_identity(toy_demos, tmp_path):
    checkpoint = trained(toy_demos, tmp_path / "dp", "image_size=[16, 12]", "vision_stages=1", steps=2, batch_size=4)
    assert checkpoint.facts["cameras"] == ["front", "side"]
    for camera in ("front", "side+yaw5"):
        check_agent(lambda: DiffusionPolicyAgent(checkpoint), camera=camera, steps=2)
