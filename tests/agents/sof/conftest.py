"""A small trained SOF."""

import pytest


@pytest.fixture(scope="session")
def sof(toy_demos, tmp_path_factory):
    """A checkpoint of all three stages, two steps each, that holds out one demonstration of each task."""
    pytest.importorskip("torch")
    pytest.importorskip("vector_quantize_pytorch")
    from flowbench.agents.sof.recipe import SofRecipe
    from flowbench.agents.training.loop import TrainOptions, train
    from flowbench.agents.training.presets import load_settings
    from flowbench.agents.training.sources import Sources
    from flowbench.registry import get_suite

    folder = tmp_path_factory.mktemp("sof")
    settings = load_settings(SofRecipe(), "tiny", "toy", steps=2, batch_size=4)
    sources = Sources((toy_demos,), get_suite("toy"), cache=folder / "frames")
    return train(SofRecipe(), settings, sources, TrainOptions(folder / "all", progress=False))
