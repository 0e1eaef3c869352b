"""Learned agents are trained for actions that are choices, and keep the contract."""

import pytest

pytest.importorskip("ai2thor")
pytest.importorskip("torch")
# Here and not in the test: with an OpenGL context in the process, the import ends it (both bring an LLVM).
pytest.importorskip("diffusers")

from flowbench.agents.training.loop import TrainOptions, train
from flowbench.agents.training.presets import load_settings
from flowbench.agents.training.recipe import get_recipe
from flowbench.agents.training.sources import Sources
from flowbench.registry import get_suite, make_agent
from flowbench.testing import check_agent

SUITE = "ithor12-standin"
SMALLEST = ("channels=8", "head_width=8", "text_width=8", "text_latents=2")


@pytest.mark.parametrize("name", ["bc", "avdc", "unipi"])
def test_a_trained_agent_keeps_the_contract(name, walks, tmp_path):
    sources = Sources((walks,), get_suite(SUITE), validation_fraction=0.0, cache=tmp_path / "frames")
    changes = () if name == "bc" else SMALLEST
    settings = load_settings(get_recipe(name), "tiny", SUITE, changes, steps=2, batch_size=4)
    checkpoint = train(get_recipe(name), settings, sources, TrainOptions(tmp_path / name, progress=False))
    arguments = {} if name == "bc" else {"plan_cache": False}
    check_agent(
        lambda: make_agent(name, arguments, checkpoint=str(checkpoint.folder)), suite=SUITE, task="Toaster", steps=2
    )
