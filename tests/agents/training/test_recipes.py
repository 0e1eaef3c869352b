"""Every registered recipe keeps the contract, and a new one is one file."""

import re
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.training.loop import TrainOptions, train  # noqa: E402
from flowbench.agents.training.presets import load_settings, preset_names  # noqa: E402
from flowbench.agents.training.recipe import get_recipe, recipe_names  # noqa: E402
from flowbench.agents.training.sources import Sources  # noqa: E402
from flowbench.errors import BadValue, FlowBenchError, UnknownName  # noqa: E402
from flowbench.registry import get_suite, make_agent  # noqa: E402
from flowbench.testing import check_agent  # noqa: E402


def r3m_weights(folder):
    """Write a ResNet-18 as R3M's file holds it; its own weights may not be shipped."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    tensors = {f"module.convnet.{name}": value for name, value in resnet18().state_dict().items()}
    torch.save({"r3m": tensors}, folder / "model.pt")
    return folder / "model.pt"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_s_tiny_preset_trains_saves_loads_acts_and_keeps_the_agent_contract(name, toy_demos, tmp_path):
    recipe = get_recipe(name)
    sources = Sources((toy_demos,), get_suite("toy"), validation_fraction=0.5, cache=tmp_path / "frames")
    if not recipe.demonstrations(sources):
        pytest.skip(f"{name} does not learn from demonstrations; it has tests of its own")
    settings = load_settings(recipe, "tiny", "toy", steps=3, batch_size=4)
    if getattr(settings.config, "weights", "none") == "r3m":
        settings = replace(settings, config=replace(settings.config, weights_path=str(r3m_weights(tmp_path))))
    checkpoint = train(recipe, settings, sources, TrainOptions(tmp_path / "out", progress=False))
    assert checkpoint.recipe == name
    rows = (tmp_path / "out").glob("log*.csv")
    assert all(np.isfinite(float(row.read_text().splitlines()[-1].split(",")[1])) for row in rows)
    try:
        recipe.agent(checkpoint)
    except BadValue as reason:
        pytest.skip(f"{name} is no agent: {reason}")
    check_agent(lambda: recipe.agent(checkpoint), task="lift", camera="front", steps=2)


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("suite", ["toy", "metaworld11", "libero-object", "ithor12"])
def test_every_preset_can_be_built_for_every_suite(name, suite):
    recipe = get_recipe(name)
    assert {"tiny", "small", "paper"} <= set(preset_names(recipe))
    for preset in preset_names(recipe):
        settings = load_settings(recipe, preset, suite)
        assert settings.stages.keys() == set(recipe.stages(settings.config))


MINE = textwrap.dedent(
    '''
    """An agent that learns the mean action of two stages, in one file."""

    from dataclasses import dataclass
    from pathlib import Path

    import numpy as np
    import torch

    from flowbench.agent import Needs
    from flowbench.agents.training.checkpoint import Checkpoint, suite_facts
    from flowbench.agents.training.recipe import Recipe
    from flowbench.agents.training.windows import WindowedDemos


    @dataclass(frozen=True)
    class MeanConfig:
        start: float = 0.5


    class MeanRecipe(Recipe):
        name = "mean"
        config_class = MeanConfig
        presets = Path(__file__).with_suffix(".toml")

        def stages(self, config):
            return ("rough", "fine")

        def facts(self, config, sources):
            return suite_facts(sources, cameras=sources.suite.views)

        def data(self, config, facts, sources, split, stage):
            return WindowedDemos(sources.open(("actions",), split=split), {})

        def build(self, config, facts):
            model = torch.nn.ParameterDict()
            model["action"] = torch.nn.Parameter(torch.full((len(facts["action_labels"]),), config.start))
            model["kept"] = torch.nn.Parameter(torch.ones(1))
            return model

        def parameters(self, model, stage):
            return [model["action"]]

        def prepare(self, model, config, facts, stage):
            if stage == "fine":
                with torch.no_grad():
                    model["kept"] += 1

        def loss(self, model, batch, moment):
            error = model["action"] - batch["actions"][:, 0]
            return (error.abs() if moment.stage == "fine" else error.square()).mean(), {"stage_fine": torch.tensor(1.0)}

        def agent(self, checkpoint, device="cpu"):
            return MeanAgent(checkpoint)


    class MeanAgent:
        needs = Needs()

        def __init__(self, checkpoint, device="cpu"):
            self.action = Checkpoint.open(checkpoint, "mean").weights["action"].numpy()

        def reset(self, task, cameras, seed):
            pass

        def act(self, observation):
            return np.clip(self.action, -1, 1)
    '''
)
PRESETS = """
[tiny.training]
steps = 40
lr = 0.1
batch_size = 8
ema_decay = 0.0
weight_decay = 0.0
[tiny.stages.fine]
steps = 20
[small]
[paper]
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mean_agent.py").write_text(MINE)
    (tmp_path / "mean_agent.toml").write_text(PRESETS)
    return tmp_path / "mean_agent.py"


def test_an_agent_in_one_file_is_trained_stage_by_stage_and_evaluated(mine, toy_demos, tmp_path):
    recipe = get_recipe(f"{mine}:MeanRecipe")
    settings = load_settings(recipe, "tiny", "toy")
    assert [config.steps for config in settings.stages.values()] == [40, 20]
    sources = Sources((toy_demos,), get_suite("toy"), validation_fraction=0.5)
    checkpoint = train(recipe, settings, sources, TrainOptions(tmp_path / "out", progress=False))
    actions = sources.open(("actions",), split="train").statistics()["actions"].mean
    assert np.abs(checkpoint.weights["action"].numpy() - 0.5).max() > 0.1
    assert np.abs(checkpoint.weights["action"].numpy() - actions).max() < 0.5
    assert checkpoint.weights["kept"] == 2, "prepared once for the second stage, and not trained"
    assert (tmp_path / "out" / "log-rough.csv").exists()
    assert (tmp_path / "out" / "log-fine.csv").read_text().splitlines()[-1].startswith("20,")
    check_agent(lambda: recipe.agent(checkpoint))


def test_several_stages_are_resumed_in_the_stage_that_was_interrupted(mine, toy_demos, tmp_path, monkeypatch):
    recipe = get_recipe(f"{mine}:MeanRecipe")
    settings = load_settings(recipe, "tiny", "toy")
    sources = Sources((toy_demos,), get_suite("toy"), validation_fraction=0.5)
    whole = train(recipe, settings, sources, TrainOptions(tmp_path / "whole", progress=False))
    original = type(recipe).loss

    def breaking(self, model, batch, moment):
        if moment.training and (moment.stage, moment.step) == ("fine", 9):
            raise RuntimeError("power cut")
        return original(self, model, batch, moment)

    monkeypatch.setattr(type(recipe), "loss", breaking)
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe, settings, sources, TrainOptions(tmp_path / "cut", progress=False, save_every_s=0.0))
    monkeypatch.setattr(type(recipe), "loss", original)
    resumed = train(recipe, settings, sources, TrainOptions(tmp_path / "cut", progress=False))
    assert resumed.weights_sha256 == whole.weights_sha256
    for log in ("log-rough.csv", "log-fine.csv"):
        assert (tmp_path / "cut" / log).read_text() == (tmp_path / "whole" / log).read_text()


def test_the_example_of_the_documentation_trains_and_acts(toy_demos, tmp_path):
    page = Path(__file__).resolve().parents[3] / "docs" / "training.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "mine.toml").write_text("[tiny.training]\nsteps = 5\n")
    recipe = get_recipe(f"{tmp_path / 'mine.py'}:MyRecipe")
    sources = Sources((toy_demos,), get_suite("toy"))
    train(recipe, load_settings(recipe, "tiny", "toy"), sources, TrainOptions(tmp_path / "out", progress=False))
    check_agent(lambda: make_agent(f"{tmp_path / 'mine.py'}:MyAgent", {}, checkpoint=str(tmp_path / "out")))


@pytest.mark.parametrize(
    "name, error, text",
    [
        ("bcc", UnknownName, "There is no trainable agent 'bcc'. Did you mean 'bc'?"),
        ("nothing.py:Mine", BadValue, "Recipe file 'nothing.py' does not exist."),
        (
            "flowbench.camera:CameraPose",
            BadValue,
            "'flowbench.camera:CameraPose' is a type; expected a flowbench.agents.",
        ),
        ("flowbench.camera:Nothing", BadValue, "module 'flowbench.camera' has no attribute 'Nothing'"),
        ("no_such_module:X", BadValue, "could not be imported: no module named 'no_such_module'"),
    ],
)
def test_a_recipe_that_cannot_be_found_is_named(name, error, text):
    with pytest.raises(error) as raised:
        get_recipe(name)
    assert isinstance(raised.value, FlowBenchError)
    assert text in str(raised.value)
