"""Small trainings: behaviour cloning on the toy suite, a few milliseconds per step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from flowbench.agents.bc.recipe import BCRecipe
from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.loop import TrainOptions, train
from flowbench.agents.training.presets import Settings, load_settings
from flowbench.agents.training.sources import Sources
from flowbench.registry import get_suite

SMALLEST = ("image_size=[16, 12]", "vision_stages=1", "vision_output=8", "hidden=[16]", "shift_px=1", "dropout=0.1")


@pytest.fixture
def smallest() -> tuple[str, ...]:
    """What `--set` makes of the tiny preset so that a step takes milliseconds."""
    return SMALLEST


@pytest.fixture
def settings() -> Settings:
    """A preset whose steps take milliseconds, with dropout and augmentation, so that randomness matters."""
    return load_settings(BCRecipe(), "tiny", "toy", SMALLEST, steps=30, batch_size=8)


@pytest.fixture
def sources(toy_demos, tmp_path) -> Sources:
    """The toy demonstrations."""
    return Sources((toy_demos,), get_suite("toy"), validation_fraction=0.5, cache=tmp_path / "frames")


@pytest.fixture
def train_toy(settings, sources, tmp_path) -> Callable[..., Checkpoint]:
    """Return a function that trains into a folder below `tmp_path`; keywords change the options."""

    def run(out: str = "out", **changes) -> Checkpoint:
        options = TrainOptions(tmp_path / out, progress=False)
        return train(BCRecipe(), settings, sources, replace(options, **changes))

    return run


@pytest.fixture(scope="session")
def trained_toy(toy_demos, tmp_path_factory) -> Path:
    """The folder of a finished training; not to be changed."""
    out = tmp_path_factory.mktemp("trained") / "bc-toy"
    sources = Sources((toy_demos,), get_suite("toy"), cache=out.parent / "frames")
    settings = load_settings(BCRecipe(), "tiny", "toy", SMALLEST, steps=5, batch_size=8)
    train(BCRecipe(), settings, sources, TrainOptions(out, progress=False))
    return out
