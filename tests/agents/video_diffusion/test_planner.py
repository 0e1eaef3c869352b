"""From videos without actions to a planner that AVDC uses."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")

import flowbench  # noqa: E402
from flowbench.agents.planning import make_planner  # noqa: E402
from flowbench.agents.planning.plan import Planner  # noqa: E402
from flowbench.agents.training.checkpoint import CheckpointError  # noqa: E402
from flowbench.agents.training.loop import TrainOptions, train  # noqa: E402
from flowbench.agents.training.presets import load_settings  # noqa: E402
from flowbench.agents.training.sources import Sources  # noqa: E402
from flowbench.agents.video_diffusion.clips import spaced_steps  # noqa: E402
from flowbench.agents.video_diffusion.planner import VideoDiffusionPlanner  # noqa: E402
from flowbench.agents.video_diffusion.recipe import AvdcRecipe, open_clips  # noqa: E402
from flowbench.cli import cli  # noqa: E402
from flowbench.errors import BadValue  # noqa: E402
from flowbench.registry import get_suite, make_agent  # noqa: E402

TOY = get_suite("toy")
SMALLEST = ("channels=8", "head_width=8", "text_width=8", "text_latents=2", "crop=[24, 24]")


def sources(path, cache):
    return Sources((path,), TOY, validation_fraction=0.5, cache=cache)


def trained(preset, demos, folder):
    settings = load_settings(AvdcRecipe(), preset, "toy", SMALLEST, steps=3, batch_size=4)
    return train(
        AvdcRecipe(), settings, sources(demos, folder / "frames"), TrainOptions(folder / preset, progress=False)
    )


@pytest.fixture(scope="session")
def video(toy_demos, tmp_path_factory):
    return trained("tiny", toy_demos, tmp_path_factory.mktemp("avdc"))


@pytest.fixture(scope="session")
def flow(toy_demos, tmp_path_factory):
    return trained("flow-tiny", toy_demos, tmp_path_factory.mktemp("avdc-flow"))


def looked(planner, task="lift", seed=0):
    env = flowbench.make(
        "toy", task, modalities=planner.needs.modalities, image_size=planner.needs.image_size, lazy=True
    )
    observation, _ = env.reset(seed=seed)
    planner.reset(env.unwrapped.task)
    return env, observation


# --- clips


def test_a_clip_goes_to_the_last_frame_in_even_steps_as_avdc_spaces_it():
    found = spaced_steps(np.array([0, 3, 9]), np.array([70, 13, 9]), 8)
    assert found.tolist() == [
        [0, 10, 20, 30, 40, 50, 60, 70],
        [3 + int(i * 10 / 7) for i in range(7)] + [13],
        [9] * 8,
    ]


def test_every_video_is_as_likely_and_every_start_and_each_camera_is_a_video(toy_demos, tmp_path):
    settings = load_settings(AvdcRecipe(), "tiny", "toy", SMALLEST)
    opened = sources(toy_demos, tmp_path)
    facts = AvdcRecipe().facts(settings.config, opened)
    clips = open_clips(settings.config, facts, opened, "train")
    steps = np.array([info.steps for info in clips.dataset.infos])
    assert len(steps) == 4  # of four demonstrations two are held out; two cameras
    assert facts["cameras"] == ["front", "side"]
    demos, starts = clips.places(np.arange(len(clips)))
    assert set(np.bincount(demos)) == {steps.max()}
    for demo, count in enumerate(steps):
        assert set(starts[demos == demo]) == set(range(count))
    batch = clips.batch(np.array([0, len(clips) - 1]))
    assert batch["camera/rgb"].shape == (2, 4, 16, 16, 3)
    assert torch.equal(batch["camera/rgb"][1, 0], batch["camera/rgb"][1, -1])  # begins at the end


def test_flow_to_learn_is_that_of_the_clip_s_own_frames(toy_demos, tmp_path):
    settings = load_settings(AvdcRecipe(), "flow-tiny", "toy", SMALLEST)
    opened = sources(toy_demos, tmp_path)
    clips = open_clips(settings.config, AvdcRecipe().facts(settings.config, opened), opened, "train")
    batch = clips.batch(np.array([0, len(clips) - 1]))
    assert batch["flow_px"].shape == (2, 3, 2, 16, 16)
    assert batch["flow_px"][0].abs().max() > 0.5
    assert batch["flow_px"][1].abs().max() < 0.1


def test_videos_without_actions_are_enough(toy_demos, tmp_path):
    import h5py

    path = tmp_path / "videos.h5"
    path.write_bytes(toy_demos.read_bytes())
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            del demo["actions"]
    checkpoint = trained("tiny", path, tmp_path)
    assert checkpoint.training["metrics"]["loss"] > 0
    assert "val_loss" in checkpoint.training["metrics"]


# --- planners


def test_a_plan_is_what_is_seen_and_what_may_follow_and_repeats_with_its_seed(video):
    planner = VideoDiffusionPlanner(video)
    assert isinstance(planner, Planner)
    env, observation = looked(planner)
    plan, again, other = (planner.plan(observation, seed) for seed in (5, 5, 6))
    camera = observation.camera_params()
    assert plan.frames.shape == (4, 16, 16, 3)
    assert plan.window == ((camera.width - 24) // 2, (camera.height - 24) // 2, 24, 24)
    assert np.array_equal(plan.frames[0], planner.config.fit(observation.rgb()))
    assert np.array_equal(plan.frames, again.frames)
    assert not np.array_equal(plan.frames, other.frames)
    assert plan.model_calls == 5 and plan.seconds > 0
    guided = VideoDiffusionPlanner(video, steps=2, guidance=1.0)
    guided.reset(env.unwrapped.task)
    assert guided.plan(observation, 5).model_calls == 4
    env.close()


def test_whatever_decides_a_plan_is_part_of_its_identity(video):
    identities = [
        VideoDiffusionPlanner(video, **arguments).identity
        for arguments in (
            {},
            {"steps": 100},
            {"guidance": 0.5},
            {"clip": False},
            {"precision": "bf16"},
            {"precision": "fp32"},
        )
    ]
    assert (
        len({json.dumps(dict(identity), sort_keys=True) for identity in identities}) == 5
    )  # auto is one of the last two


def test_a_flow_planner_imagines_flow_and_no_frames(flow):
    planner = make_planner("flow-diffusion", checkpoint=str(flow.folder))
    env, observation = looked(planner)
    plan = planner.plan(observation, 0)
    assert plan.frames is None
    assert plan.flow_px.shape == (3, 16, 16, 2)
    # Within the range that the network knows: a flow of one frame's width.
    assert 0 < np.abs(plan.flow_px).max() <= 16.001
    env.close()


def test_a_checkpoint_of_the_other_kind_names_the_planner_to_use(video, flow):
    with pytest.raises(
        BadValue, match="imagines changes, which planner flow-diffusion does not. Use planner=video-diffusion"
    ):
        make_planner("flow-diffusion", checkpoint=str(video.folder))
    with pytest.raises(BadValue, match=r"imagines flow.*Use planner=flow-diffusion \(variant=flow of agent avdc\)"):
        make_planner("video-diffusion", checkpoint=str(flow.folder))
    with pytest.raises(BadValue, match="steps of a diffusion planner is 300"):
        make_planner("video-diffusion", {"steps": 300}, checkpoint=str(video.folder))


def test_a_task_of_another_simulator_is_refused(video):
    with pytest.raises(CheckpointError, match="trained for suite toy"):
        VideoDiffusionPlanner(video).reset(get_suite("metaworld11").tasks[0])


@pytest.mark.parametrize("kind", ["video", "flow"])
def test_avdc_acts_on_imagined_plans_and_the_next_run_finds_them(kind, request, tmp_path):
    checkpoint = request.getfixturevalue(kind)
    arguments = {"plan_cache": str(tmp_path / "plans"), "variant": "flow" if kind == "flow" else "full"}
    calls = []
    for _ in range(2):
        agent = make_agent("avdc", arguments, checkpoint=str(checkpoint.folder))
        env = flowbench.make(
            "toy", "lift", modalities=agent.needs.modalities, image_size=agent.needs.image_size, lazy=True
        )
        observation, _ = env.reset(seed=0)
        agent.reset(env.unwrapped.task, env.unwrapped.cameras, 3)
        assert agent.act(observation).shape == (4,)
        calls.append(agent.episode_metrics()["model_calls"])
        env.close()
    assert calls == [5, 0]


# --- beside what happened


@pytest.mark.parametrize(("kind", "measure"), [("video", "PSNR"), ("flow", "end-point error")])
def test_imagined_clips_are_shown_and_measured_beside_what_happened(kind, measure, request, toy_demos, tmp_path):
    from PIL import Image

    checkpoint = request.getfixturevalue(kind)
    command = [
        "diagnose",
        "plans",
        "--checkpoint",
        str(checkpoint.folder),
        "--data",
        str(toy_demos),
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert measure in result.output
    rows = json.loads((tmp_path / "plans.json").read_text())["tasks"]
    assert [row["task"] for row in rows] == ["reach", "lift", "overall"]
    assert rows[-1]["clips"] == 2 and rows[-1]["moving_still"] > 0
    picture = np.asarray(Image.open(tmp_path / "plans.png").convert("RGB"))
    assert picture.shape[1] > 4 * 96
    assert len(np.unique(picture)) > 50
    assert (tmp_path / "plans.md").read_text().startswith("<!-- ")


def test_imagining_exactly_what_happened_costs_nothing_and_nothing_moving_costs_what_moved():
    from flowbench.agents.video_diffusion.imagined import ImaginedClip

    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[1:, 1, 1] = 100
    perfect = ImaginedClip("push", "front", 0, frames, frames[1:]).numbers()
    assert perfect == {
        "pixels": 32, "moving": 2, "squares": 0, "squares_still": 2 * 100**2, "moving_error": 0, "moving_error_still": 200,
    }  # fmt: skip


def test_starts_outside_a_video_and_unknown_tasks_are_refused(video, toy_demos, tmp_path):
    command = ["diagnose", "plans", "--checkpoint", str(video.folder), "--data", str(toy_demos), "--out", str(tmp_path)]
    for more, text in (
        (["--start", "1"], "start is 1.0; it is a share"),
        (["--tasks", "fly"], "--tasks fly names none"),
    ):
        result = CliRunner().invoke(cli, [*command, *more])
        assert result.exit_code != 0
        assert text in result.output + str(result.exception)
