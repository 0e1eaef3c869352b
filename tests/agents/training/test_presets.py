"""Presets are data, and what does not exist in them is named."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.bc.recipe import BCRecipe  # noqa: E402
from flowbench.agents.training.presets import TrainConfig, load_settings, preset_names  # noqa: E402
from flowbench.agents.training.recipe import get_recipe, recipe_names  # noqa: E402
from flowbench.errors import BadValue, UnknownName  # noqa: E402

TEXT = """
[tiny]
about = "for tests"
[tiny.model]
chunk = 4
hidden = [8, 9]
[tiny.training]
lr = 1
steps = 10
[tiny.stages.train]
batch_size = 3
[tiny.suites."libero*".model]
chunk = 16
[tiny.suites."libero*".training]
steps = 20
[small]
"""


class Preset(BCRecipe):
    def __init__(self, path: Path, text: str) -> None:
        path.write_text(text)
        self.presets = path


@pytest.fixture
def recipe(tmp_path):
    return Preset(tmp_path / "presets.toml", TEXT)


def test_a_preset_stands_on_the_defaults_and_a_suite_s_part_on_the_preset(recipe):
    settings = load_settings(recipe, "tiny", "toy")
    assert (settings.config.chunk, settings.config.hidden, settings.config.execute) == (4, (8, 9), 1)
    stage = settings.stages["train"]
    assert (stage.lr, stage.steps, stage.batch_size, stage.schedule) == (1.0, 10, 3, "cosine")
    assert isinstance(stage.lr, float)
    other = load_settings(recipe, "tiny", "libero-object")
    assert (other.config.chunk, other.stages["train"].steps) == (16, 20)
    assert load_settings(recipe, "small", None).stages["train"] == TrainConfig()


def test_the_user_s_changes_come_last_and_go_where_the_name_belongs(recipe):
    changes = ["chunk=5", "head=gmm", "train.lr=0.25", "clip_norm=0", "crop=[20, 10]"]
    settings = load_settings(recipe, "tiny", "libero-object", changes, steps=7, batch_size=None)
    assert (settings.config.chunk, settings.config.head, settings.config.crop) == (5, "gmm", (20, 10))
    stage = settings.stages["train"]
    assert (stage.lr, stage.clip_norm, stage.steps, stage.batch_size) == (0.25, 0.0, 7, 3)


@pytest.mark.parametrize(
    "preset, changes, error, text",
    [
        ("smal", [], UnknownName, "Agent bc has no preset 'smal'. Did you mean 'small'?"),
        ("tiny", ["chunks=5"], UnknownName, "Agent bc has no setting 'chunks'. Did you mean 'chunk'?"),
        ("tiny", ["polish.lr=1"], UnknownName, "Agent bc has no stage 'polish'. Available: train."),
        ("tiny", ["train.chunk=1"], UnknownName, "Stage train of bc has no setting 'chunk'."),
        ("tiny", ["chunk"], BadValue, "--set 'chunk' is not of the form name=value, e.g. --set chunk=8."),
        ("tiny", ["chunk=many"], BadValue, "chunk is 'many' in preset tiny of bc; expected int, e.g. 1."),
        ("tiny", ["proprio=1"], BadValue, "proprio is 1 in preset tiny of bc; expected bool, e.g. False."),
        ("tiny", ["ema_decay=1"], BadValue, "ema_decay is 1.0; it is at least 0 and below 1."),
        ("tiny", ["schedule=cosin"], UnknownName, "TrainConfig has no schedule 'cosin'. Did you mean 'cosine'?"),
        ("tiny", ["steps=0"], BadValue, "steps is 0; it is at least 1."),
    ],
)
def test_what_does_not_exist_is_named(recipe, preset, changes, error, text):
    with pytest.raises(error) as raised:
        load_settings(recipe, preset, "toy", changes)
    assert text in str(raised.value)


def test_mistakes_in_the_file_are_named(tmp_path):
    recipe = Preset(tmp_path / "presets.toml", "[tiny.modle]\nchunk = 1\n")
    with pytest.raises(UnknownName, match="Preset tiny in .*presets.toml has no table 'modle'. Did you mean 'model'?"):
        load_settings(recipe, "tiny", "toy")
    recipe = Preset(tmp_path / "presets.toml", "[tiny.model]\nchunck = 1\n")
    with pytest.raises(UnknownName, match="Preset tiny of bc has no setting 'chunck'. Did you mean 'chunk'?"):
        load_settings(recipe, "tiny", "toy")


@pytest.mark.parametrize("name", recipe_names())
def test_no_preset_makes_a_machine_emulate_bf16(name):
    recipe = get_recipe(name)
    for preset in preset_names(recipe):
        for suite in (None, "metaworld11", "libero10", "ithor12"):
            stages = load_settings(recipe, preset, suite).stages
            assert {stage.precision for stage in stages.values()} <= {"auto", "fp32"}, (preset, suite)
