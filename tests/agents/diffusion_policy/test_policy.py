import json
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("diffusers")

from flowbench.agents.diffusion_policy.agent import DiffusionPolicyAgent  # noqa: E402
from flowbench.agents.diffusion_policy.model import (  # noqa: E402
    ActionRange,
    DiffusionPolicyConfig,
    DiffusionPolicyNetwork,
)
from flowbench.agents.diffusion_policy.recipe import DiffusionPolicyRecipe  # noqa: E402
from flowbench.agents.training.checkpoint import Checkpoint, write_checkpoint  # noqa: E402
from flowbench.agents.training.presets import load_settings, preset_names  # noqa: E402
from flowbench.errors import BadValue, FlowBenchError, UnknownName  # noqa: E402
from flowbench.registry import get_suite  # noqa: E402
from flowbench.task import ActionSpec  # noqa: E402
from flowbench.testing import check_agent  # noqa: E402

SMALL = {
    "image_size": (32, 24),
    "width_factor": 0.25,
    "vision_stages": 2,
    "vision_output": 8,
    "pool": "spatial-softmax",
    "widths": (16, 32),
    "step_width": 16,
    "chunk": 8,
    "execute": 4,
}
SPEC = get_suite("toy").tasks[0].action_spec
FACTS = {
    "suite": "toy",
    "family": "toy",
    "action_convention": SPEC.convention,
    "action_labels": list(SPEC.labels),
    "action_low": list(SPEC.low),
    "action_high": list(SPEC.high),
    "cameras": ["front", "side"],
    "tasks": ["reach"],
    "image_size": [64, 48],
    "image_view": "geometric",
    "instructions": [get_suite("toy").task("reach").instruction],
    "actions": {"mean": [0.0] * 4, "std": [1.0] * 4, "min": [-1.0, -0.5, -1.0, 0.3], "max": [1.0, 0.5, 0.0, 0.3]},
    "proprio": {"mean": [0.0] * 4, "std": [1.0] * 4, "min": [-1.0] * 4, "max": [1.0] * 4},
}


def network(**changes):
    torch.manual_seed(0)
    return DiffusionPolicyNetwork(DiffusionPolicyConfig(**SMALL | changes), FACTS)


def batch(count=4, chunk=8, history=2):
    generator = torch.Generator().manual_seed(0)
    return {
        "camera/rgb": torch.randint(256, (count, history, 24, 32, 3), dtype=torch.uint8, generator=generator),
        "actions": torch.rand(count, chunk, 4, generator=generator) * 2 - 1,
        "actions_is_pad": torch.zeros(count, chunk, dtype=torch.bool),
        "proprio": torch.rand(count, 1, 4, generator=generator),
        "sentence": torch.zeros(count, dtype=torch.long),
        "camera": torch.arange(count) % 2,
    }


@pytest.fixture
def checkpoint(tmp_path):
    config = DiffusionPolicyConfig(**SMALL)
    weights = network().state_dict()
    training = {"preset": "tiny", "step": 1, "seconds": 1.0, "versions": {}}
    return write_checkpoint(tmp_path / "dp", DiffusionPolicyRecipe(), config, FACTS, weights, training)


def test_actions_are_mapped_to_minus_one_to_one_by_the_range_of_the_data():
    scale = ActionRange([-1.0, -0.5, 0.0], [1.0, 0.5, 0.2])
    low, high = torch.tensor([-1.0, -0.5, 0.0]), torch.tensor([1.0, 0.5, 0.2])
    torch.testing.assert_close(scale.normalise(torch.stack([low, high])), torch.tensor([[-1.0] * 3, [1.0] * 3]))
    actions = low + torch.rand(5, 3) * (high - low)
    torch.testing.assert_close(scale.restore(scale.normalise(actions)), actions)
    assert scale.normalise(high + 1).tolist() == [1.0] * 3


def test_it_departs_from_avdcs_normalisation_which_leaves_the_range_of_its_sampler():
    """AVDC's wrapper maps actions as if they were images in [0, 1]: -1 becomes -3, outside of what is clamped to [-1, 1]."""
    theirs = torch.tensor([-1.0, 0.0, 1.0]) * 2 - 1
    assert theirs.tolist() == [-3.0, -1.0, 1.0]
    ours = ActionRange([-1.0], [1.0]).normalise(torch.tensor([[-1.0], [0.0], [1.0]]))
    assert ours.flatten().tolist() == [-1.0, 0.0, 1.0]


def test_a_component_that_never_changes_is_given_back():
    scale = ActionRange([0.3], [0.3])
    assert scale.normalise(torch.tensor([[0.3]])).item() == 0
    assert scale.restore(torch.tensor([[0.0]])).item() == pytest.approx(0.3)
    assert abs(scale.restore(torch.tensor([[1.0]])).item() - 0.3) <= 0.01 + 1e-6


def test_the_published_network_has_the_published_condition():
    """512 of the sentence and 512 of each of two frames; the camera's identity is ours."""
    settings = load_settings(DiffusionPolicyRecipe(), "paper", "metaworld11", ["perceiver=false", "text_width=512"])
    config = settings.config
    assert (config.chunk, config.execute, config.history) == (16, 8, 2)
    assert (config.widths, config.kernel, config.train_steps, config.sample_steps) == ((256, 512, 1024), 3, 100, 10)
    assert (config.text, config.norm, config.pool) == ("clip", "group", "spatial-softmax")
    built = DiffusionPolicyNetwork(config, FACTS)
    assert built.observed_width - config.camera_width == 512 + 2 * 512
    training = settings.stages["train"]
    assert (training.steps, training.batch_size, training.lr, training.schedule) == (100_000, 32, 1e-4, "constant")


def test_every_preset_builds():
    recipe = DiffusionPolicyRecipe()
    assert preset_names(recipe) == ["tiny", "small", "paper"]
    for suite in ("toy", "metaworld11", "libero-object"):
        for preset in ("tiny", "small"):
            config = load_settings(recipe, preset, suite).config
            assert config.chunk % 2 ** (len(config.widths) - 1) == 0
    small = load_settings(recipe, "small", "libero-object").config
    assert small.camera == "agentview" and small.extra_cameras and small.proprio


@pytest.mark.parametrize(
    "changes", [{}, {"proprio": True}, {"target": "epsilon"}, {"min_snr": 0.0}, {"perceiver": True}]
)
def test_the_loss_falls_when_one_batch_is_learned(changes):
    if changes.get("perceiver"):
        changes = changes | {"text_width": 16}
    model, samples = network(**changes), batch()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(15):
        loss = model.loss(samples, True, torch.Generator().manual_seed(step % 3))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def test_the_loss_is_a_function_of_its_generator():
    model, samples = network(shift_px=2, brightness=0.3), batch()
    first, again, other = (model.loss(samples, True, torch.Generator().manual_seed(s)).item() for s in (1, 1, 2))
    assert first == again != other


def test_drawn_actions_are_within_the_range_of_the_data():
    model = network().eval()
    condition = model.observe(*model.inputs(batch(), False, torch.Generator()))
    drawn = model.draw(condition, torch.randn(4, 8, 4), 10).detach()
    assert drawn.shape == (4, 8, 4)
    low, high = drawn.amin((0, 1)), drawn.amax((0, 1))
    assert (low >= torch.tensor([-1.0, -0.5, -1.0, 0.28])).all() and (high <= torch.tensor([1.0, 0.5, 0.0, 0.32])).all()


def test_other_frames_sentences_and_cameras_give_another_condition():
    model, samples = network(), batch(2)
    samples["camera"][:] = 0
    before = model.observe(*model.inputs(samples, False, torch.Generator()))
    moved = model.observe(*model.inputs(samples | {"camera": torch.tensor([0, 1])}, False, torch.Generator()))
    torch.testing.assert_close(before[0], moved[0])
    assert not torch.allclose(before[1], moved[1])
    flipped = model.observe(
        *model.inputs(samples | {"camera/rgb": samples["camera/rgb"].flip(1)}, False, torch.Generator())
    )
    assert not torch.allclose(before, flipped)
    assert not torch.allclose(model.embed(FACTS["instructions"]), model.embed(["something else entirely"]))


def test_the_agent_keeps_the_contract(checkpoint):
    check_agent(lambda: DiffusionPolicyAgent(str(checkpoint.folder)), steps=3)


class Watched(dict):
    """An observation that remembers when its images were read."""

    instruction, camera = FACTS["instructions"][0], "front"

    def __init__(self):
        super().__init__()
        self.reads = 0

    def rgb(self, camera=None):
        self.reads += 1
        return np.zeros((48, 64, 3), np.uint8)


def test_it_looks_only_at_the_steps_that_the_next_plan_needs(checkpoint):
    agent = DiffusionPolicyAgent(str(checkpoint.folder))
    agent.reset(get_suite("toy").task("reach"), {"front": None}, 0)
    reads = []
    for _ in range(13):
        observation = Watched()
        agent.act(observation)
        reads.append(observation.reads)
    # Plans at steps 0, 4, 8 and 12, each from that step's frame and the one before.
    assert reads == [1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]


def test_two_frames_of_successive_steps_are_seen_in_order(checkpoint, monkeypatch):
    agent = DiffusionPolicyAgent(str(checkpoint.folder))
    agent.reset(get_suite("toy").task("reach"), {"front": None}, 0)
    seen = []
    monkeypatch.setattr(agent._model, "draw", lambda *_: torch.zeros(1, 8, 4))
    monkeypatch.setattr(
        agent._model,
        "observe",
        lambda images, *_: seen.append([float(f.mean()) for f in images[0][0]]) or torch.zeros(1, 3),
    )
    for step in range(5):
        frame = np.full((48, 64, 3), 10 * step, np.uint8)
        agent.act(SimpleNamespace(rgb=lambda camera=None, frame=frame: frame))
    assert np.round(np.array(seen) * 255).tolist() == [[0, 0], [30, 40]]


def test_the_seed_decides_the_draw(checkpoint):
    agent = DiffusionPolicyAgent(str(checkpoint.folder))
    actions = []
    for seed in (1, 1, 2):
        agent.reset(get_suite("toy").task("reach"), {"front": None}, seed)
        actions.append(agent.act(Watched()))
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])


def test_more_or_fewer_actions_can_be_executed(checkpoint):
    agent = DiffusionPolicyAgent(str(checkpoint.folder), execute=8, sample_steps=2)
    agent.reset(get_suite("toy").task("reach"), {"front": None}, 0)
    first = Watched()
    agent.act(first)
    assert len(agent._planned) == 7
    with pytest.raises(BadValue, match="execute is 9; with this checkpoint it is from 1 to 8"):
        DiffusionPolicyAgent(str(checkpoint.folder), execute=9)
    with pytest.raises(BadValue, match="sample_steps is 101; with this checkpoint it is from 1 to 100"):
        DiffusionPolicyAgent(str(checkpoint.folder), sample_steps=101)


@pytest.mark.parametrize(
    "changes, error, sentence",
    [
        ({"target": "x0"}, UnknownName, "A diffusion policy has no target 'x0'"),
        ({"chunk": 9}, BadValue, "chunk is 9; a U-Net of 2 widths takes a multiple of 2"),
        ({"execute": 20}, BadValue, "execute is 20; it is from 1 to chunk, which is 8"),
        ({"sample_steps": 0}, BadValue, "sample_steps is 0; it is from 1 to train_steps, which is 100"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        DiffusionPolicyConfig(**SMALL | changes)


def test_another_suite_and_another_camera_are_refused(checkpoint):
    agent = DiffusionPolicyAgent(str(checkpoint.folder))
    with pytest.raises(FlowBenchError, match="does not know camera 'wrist'; it was trained on front, side"):
        agent.reset(get_suite("toy").task("reach"), {"wrist": None}, 0)
    with pytest.raises(FlowBenchError, match="was trained for suite toy"):
        agent.reset(get_suite("metaworld11").tasks[0], {"front": None}, 0)


def test_the_checkpoint_is_the_range_and_the_weights(checkpoint):
    content = json.loads((checkpoint.folder / "config.json").read_text())
    assert content["recipe"] == "diffusion-policy"
    assert content["facts"]["actions"]["max"] == [1.0, 0.5, 0.0, 0.3]
    opened = Checkpoint.open(checkpoint.folder)
    assert not [name for name in opened.weights if name.startswith("range.")]


def test_a_suite_whose_actions_are_choices_is_refused():
    task = SimpleNamespace(action_spec=ActionSpec.choice("rooms", ("ahead", "left")))
    sources = SimpleNamespace(suite=SimpleNamespace(name="rooms", tasks=(task,)))
    with pytest.raises(
        BadValue, match="An action of suite rooms is one of ahead, left; .* --agent bc --set head=discrete"
    ):
        DiffusionPolicyRecipe().facts(DiffusionPolicyConfig(), sources)
