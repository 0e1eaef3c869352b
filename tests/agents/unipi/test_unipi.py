"""UniPi learns when a picture is reached, and follows imagined pictures as AVDC's agent does."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import flowbench  # noqa: E402
from flowbench.agents.training.checkpoint import CheckpointError  # noqa: E402
from flowbench.agents.training.loop import TrainOptions, train  # noqa: E402
from flowbench.agents.training.presets import load_settings  # noqa: E402
from flowbench.agents.training.sources import Sources  # noqa: E402
from flowbench.agents.unipi.agent import UniPiAgent  # noqa: E402
from flowbench.agents.unipi.model import InverseDynamics, UniPiConfig  # noqa: E402
from flowbench.agents.unipi.recipe import UniPiRecipe  # noqa: E402
from flowbench.agents.video_diffusion.planner import VideoDiffusionPlanner  # noqa: E402
from flowbench.agents.video_diffusion.recipe import AvdcRecipe  # noqa: E402
from flowbench.errors import BadValue, DataError, UnknownName  # noqa: E402
from flowbench.registry import get_suite, make_agent  # noqa: E402
from flowbench.testing import check_agent  # noqa: E402

TOY = get_suite("toy")
SMALLEST = ("channels=8", "head_width=8", "text_width=8", "text_latents=2")


def trained(recipe, demos, folder, *changes):
    settings = load_settings(recipe, "tiny", "toy", (*SMALLEST, *changes), steps=3, batch_size=4)
    sources = Sources((demos,), TOY, validation_fraction=0.0, cache=folder / "frames")
    return train(recipe, settings, sources, TrainOptions(folder / recipe.name, progress=False))


@pytest.fixture(scope="session")
def unipi(toy_demos, tmp_path_factory):
    return trained(UniPiRecipe(), toy_demos, tmp_path_factory.mktemp("unipi"))


def make(unipi, **arguments):
    return UniPiAgent(unipi, **({"plan_cache": False} | arguments))


class Episode:
    """An episode of the toy, whose agent is told when a picture is reached instead of finding out."""

    def __init__(self, agent, reached):
        env = flowbench.make(
            "toy",
            "lift",
            modalities=agent.needs.modalities,
            image_size=agent.needs.image_size,
            lazy=True,
            privileged=agent.needs.privileged,
        )
        self.agent, self.env = agent, env
        self.observation, _ = env.reset(seed=0)
        agent.reset(env.unwrapped.task, env.unwrapped.cameras, 7)
        #: Numbers of the pictures that were pursued, in the plan of their time.
        self.wanted = []

        def ask(seen, wanted):
            same = [np.array_equal(picture, wanted[0]) for picture in agent._pictures]
            self.wanted.append(same.index(True))
            return np.zeros((len(seen), 4)), np.full(len(seen), reached)

        agent._ask = ask

    def act(self, times):
        for _ in range(times):
            self.agent.act(self.observation)
        return self.wanted


# --- what is learned


def test_pairs_are_the_present_and_the_next_picture_of_a_clip_and_reached_is_where_they_meet(toy_demos, tmp_path):
    recipe = UniPiRecipe()
    config = load_settings(recipe, "tiny", "toy", (*SMALLEST, "reached_within=0")).config
    sources = Sources((toy_demos,), TOY, validation_fraction=0.0, cache=tmp_path)
    pairs = recipe.data(config, recipe.facts(config, sources), sources, "train", "inverse")
    numbers = np.random.default_rng(0).integers(len(pairs), size=400)
    demos, steps = pairs.places(numbers)
    lengths = np.array([info.steps for info in pairs.dataset.infos])[demos]
    present, wanted = steps.T
    assert (present >= 0).all() and (wanted >= present).all() and (wanted < lengths).all()
    # Three pictures to come, so none is farther than a third of the demonstration.
    assert (wanted - present).max() <= np.ceil(lengths.max() / 3)
    assert (wanted == lengths - 1).any()
    batch = pairs.batch(numbers)
    assert torch.equal(batch["reached"].bool(), torch.from_numpy(present == wanted))
    same = (batch["camera/rgb"][:, 0] == batch["camera/rgb"][:, 1]).flatten(1).all(dim=1)
    assert same[batch["reached"].bool()].all() and not same.all()
    origin = pairs.dataset.origins[demos[5]]
    action = origin.reader.read(origin.demo, "actions", slice(int(present[5]), int(present[5]) + 1))
    assert np.allclose(batch["actions"][5].numpy(), action)


def test_a_picture_counts_as_reached_a_few_steps_before_it(toy_demos, tmp_path):
    recipe = UniPiRecipe()
    config = load_settings(recipe, "tiny", "toy", (*SMALLEST, "reached_within=2")).config
    sources = Sources((toy_demos,), TOY, validation_fraction=0.0, cache=tmp_path)
    pairs = recipe.data(config, recipe.facts(config, sources), sources, "train", "inverse")
    numbers = np.arange(0, len(pairs), 7)
    present, wanted = pairs.places(numbers)[1].T
    assert np.array_equal(pairs.batch(numbers)["reached"].numpy() > 0, wanted - present <= 2)


def test_the_inverse_dynamics_learns_the_actions_of_one_demonstration_and_what_is_reached(toy_demos, tmp_path):
    changes = ("inverse_size=[24, 24]", "reached_within=0", "frames=3")
    recipe = UniPiRecipe()
    video = trained(AvdcRecipe(), toy_demos, tmp_path, "frames=3")
    settings = load_settings(
        recipe, "tiny", "toy", (*SMALLEST, *changes, f"video_checkpoint={video.folder}"), steps=120, batch_size=32
    )
    sources = Sources((toy_demos,), TOY, ("reach",), 1, validation_fraction=0.0, cache=tmp_path / "frames")
    metrics = train(recipe, settings, sources, TrainOptions(tmp_path / "id", progress=False)).training["metrics"]
    assert metrics["action_error"] < 0.15
    # Always saying no would be right in 58 % of the pairs.
    assert metrics["reached_correct"] > 0.65


def test_the_camera_matters_to_the_inverse_dynamics():
    facts = {
        "cameras": ["front", "side"], "action_low": [-1.0] * 4, "action_high": [1.0] * 4,
        "actions": {"mean": [0.0] * 4, "std": [1.0] * 4},
    }  # fmt: skip
    torch.manual_seed(0)
    network = InverseDynamics(UniPiConfig(inverse_size=(32, 32), inverse_width_factor=0.25), facts).eval()
    picture = torch.rand(1, 3, 8, 8).expand(2, -1, -1, -1)
    raw, _ = network(picture, picture, torch.tensor([0, 1]))
    assert not torch.allclose(raw[0], raw[1])
    assert network.actions(torch.full((1, 4), 9.0)).tolist() == [[1.0] * 4]


def test_a_trained_video_model_is_taken_as_it_is(toy_demos, tmp_path):
    video = trained(AvdcRecipe(), toy_demos, tmp_path, "frames=3", "crop=[24, 24]")
    # The settings of the video model are those of its checkpoint, whatever is asked for here.
    checkpoint = trained(UniPiRecipe(), toy_demos, tmp_path, f"video_checkpoint={video.folder}", "frames=6")
    assert list(checkpoint.training["stages"]) == ["inverse"]
    assert checkpoint.facts["video"]["frames"] == 3
    for name, value in video.weights.items():
        assert torch.equal(value, checkpoint.weights[f"video.{name}"])
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    imagined = [VideoDiffusionPlanner(made).imagine(frame, "lift the cube", 0) for made in (video, checkpoint)]
    assert np.array_equal(*imagined)


def alone(stage, demos, folder, *, init_from=None, action_paths=None, tasks=()):
    settings = load_settings(UniPiRecipe(), "tiny", "toy", SMALLEST, steps=3, batch_size=4)
    settings = replace(settings, stages={stage: settings.stages[stage]})
    cache = folder / "frames"
    given = Sources((demos,), TOY, tasks, validation_fraction=0.0, cache=cache, action_paths=action_paths)
    return train(UniPiRecipe(), settings, given, TrainOptions(folder / stage, progress=False, init_from=init_from))


def test_the_inverse_dynamics_alone_stands_on_a_video_model_that_learned_without_actions(toy_demos, tmp_path):
    before = alone("video", toy_demos, tmp_path, action_paths=())
    after = alone("inverse", toy_demos, tmp_path, init_from=str(before.folder), tasks=("lift",))
    assert after.facts["instructions"] == before.facts["instructions"] and len(before.facts["instructions"]) > 1
    assert after.facts["actions"] != before.facts["actions"]
    changed = {name.split(".")[0] for name, value in before.weights.items() if not value.equal(after.weights[name])}
    assert changed == {"inverse"}


def test_a_video_model_alone_leaves_the_inverse_dynamics_its_actions_and_cameras(unipi):
    other = unipi.facts | {"actions": "others", "cameras": unipi.facts["cameras"][:1], "instructions": ["juggle"]}
    kept = UniPiRecipe().carried_facts(UniPiConfig(), other, unipi.facts, ["video"])
    assert kept == unipi.facts | {"instructions": ["juggle"]}
    with pytest.raises(
        DataError, match="have the sentence 'juggle', which the video model of --init-from was not trained"
    ):
        UniPiRecipe().carried_facts(UniPiConfig(), other, unipi.facts, ["inverse"])
    with pytest.raises(
        DataError, match="have the camera 'top', which the inverse dynamics of --init-from was not trained"
    ):
        UniPiRecipe().carried_facts(UniPiConfig(), other | {"cameras": ["top"]}, unipi.facts, ["video"])


def test_videos_without_actions_are_refused_before_the_video_model_is_trained(toy_demos, tmp_path):
    settings = load_settings(UniPiRecipe(), "tiny", "toy", SMALLEST, steps=3, batch_size=4)
    videos = Sources((toy_demos,), TOY, validation_fraction=0.0, cache=tmp_path / "frames", action_paths=())
    with pytest.raises(DataError, match="There are no actions to learn from"):
        train(UniPiRecipe(), settings, videos, TrainOptions(tmp_path / "out", progress=False))
    assert not list((tmp_path / "out").glob("log*.csv"))


def test_a_video_model_that_does_not_fit_is_refused(toy_demos, tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no checkpoint at .*nowhere"):
        trained(UniPiRecipe(), toy_demos, tmp_path, f"video_checkpoint={tmp_path}/nowhere")
    with pytest.raises(BadValue, match="UniPi follows pictures, and content is flow"):
        UniPiConfig(content="flow")


# --- what is done with it


def test_it_keeps_the_agent_contract_in_every_mode(unipi):
    check_agent(lambda: make(unipi), task="lift", camera="front", steps=2)
    check_agent(lambda: make(unipi, mode="open-loop"), task="lift", camera="side", steps=2)


def test_as_in_avdc_the_first_picture_to_reach_is_the_present_one(unipi):
    assert Episode(make(unipi), reached=True).act(3) == [0, 1, 2]
    assert Episode(make(unipi, faithful=False), reached=True).act(3) == [1, 2, 3]


def test_after_the_last_picture_it_plans_again_six_plans_in_all_and_then_holds_the_last(unipi):
    episode = Episode(make(unipi), reached=True)
    episode.act(4)
    assert episode.agent.episode_metrics()["plans"] == 2
    episode.act(5 * 4)
    assert episode.agent.episode_metrics()["plans"] == 6
    assert episode.act(5)[-1] == 3
    metrics = episode.agent.episode_metrics()
    assert (metrics["plans"], metrics["replans"], metrics["model_calls"]) == (6, 5, 6 * 5)


def test_as_in_avdc_a_picture_that_is_never_reached_is_pursued_for_ever(unipi):
    assert Episode(make(unipi), reached=False).act(40) == [0] * 40
    patience = int(np.ceil(3 * unipi.facts["steps_per_picture"]))
    patient = Episode(make(unipi, faithful=False), reached=False).act(3 * patience)
    assert patient == [1] * patience + [2] * patience + [3] * patience


def test_open_loop_works_every_action_out_from_one_plan_and_then_stands_still(unipi):
    agent = make(unipi, mode="open-loop")
    episode = Episode(agent, reached=False)
    chunk = agent.act(episode.observation)
    assert chunk.shape == (3 * max(1, round(unipi.facts["steps_per_picture"])), 4)
    assert len(episode.wanted) == 1
    rest = agent.act(episode.observation)
    assert rest.shape == (4,) and not rest[:3].any() and rest[3] == chunk[-1, 3]
    assert agent.episode_metrics()["plans"] == 1


def test_another_planner_can_take_the_video_model_s_place(unipi):
    agent = make_agent("unipi", {"planner": "oracle", "plan_cache": False}, checkpoint=str(unipi.folder))
    assert agent.needs.privileged
    episode = Episode(agent, reached=True)
    episode.act(1)
    assert episode.agent._pictures.shape == (8, 16, 16, 3)


def test_plans_are_recorded_when_asked_for(unipi):
    agent = make(unipi)
    agent.record_plans = True
    Episode(agent, reached=True).act(5)
    assert [plan.step for plan in agent.recorded_plans()] == [0, 4]
    assert agent.recorded_plans()[1].frames.shape == (4, 16, 16, 3)


def test_names_and_cameras_that_do_not_exist_are_refused(unipi):
    with pytest.raises(UnknownName, match="open-loop"):
        make(unipi, mode="openloop")
    with pytest.raises(BadValue, match="max_replans is -1"):
        make(unipi, max_replans=-1)
    with pytest.raises(CheckpointError, match="does not know camera 'top'"):
        make(unipi).reset(TOY.tasks[0], {"top": None}, 0)
