"""Checkpoints that come with FlowBench are small, whole, and say how they were made."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.training.checkpoint import Checkpoint, shipped_checkpoints  # noqa: E402
from flowbench.agents.training.recipe import get_recipe  # noqa: E402
from flowbench.flow.estimators import make_estimator  # noqa: E402
from flowbench.registry import get_suite  # noqa: E402

SHIPPED = shipped_checkpoints()
SHIP = Path(__file__).resolve().parents[3] / "tools" / "ship_checkpoint.py"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_checkpoint_is_small_and_whole_and_tells_how_it_was_trained(name):
    folder = SHIPPED[name]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12e6
    assert all(re.fullmatch(r"config.json|model.safetensors|training.json|log(-\w+)?.csv", path.name) for path in files)
    checkpoint = Checkpoint.open(name)
    assert checkpoint.weights
    if checkpoint.recipe == "flow":
        estimator = f"raft-{checkpoint.config['size']}"
        assert name.startswith(estimator)
        make_estimator(estimator, checkpoint=name)
    else:
        assert name == f"{checkpoint.recipe}-{checkpoint.facts['suite']}"
        assert get_suite(checkpoint.facts["suite"]).family == checkpoint.facts["family"]
        get_recipe(checkpoint.recipe).agent(checkpoint)
        assert checkpoint.training["demonstrations"] > 0
    assert {"data_sha256", "command", "versions", "seconds"} <= set(checkpoint.training)
    story = (folder / "training.json").read_text()
    assert not re.search(r'["= ,]/(?!/)', story), "no path of somebody's machine"


def test_shipped_checkpoints_are_named_by_agent_and_suite():
    # An empty list is fine in a source tree without large files; a wrong name is not.
    assert all((folder / "config.json").is_file() and "-" in name for name, folder in SHIPPED.items())


@pytest.mark.skipif(
    "visa-flow-calvin-abc-d" not in SHIPPED, reason="no checkpoint of several stages comes with this tree"
)
def test_a_checkpoint_of_two_stages_tells_the_steps_of_both_and_how_much_was_labelled():
    story = Checkpoint.open("visa-flow-calvin-abc-d").description
    assert "2500 + 1200 steps" in story and "1020 demonstrations, 10% of them with actions" in story


def test_a_checkpoint_is_shipped_in_half_precision_with_its_story_and_without_the_training_state(trained_toy, tmp_path):
    ran = subprocess.run(
        [sys.executable, str(SHIP), str(trained_toy), str(tmp_path / "bc-toy")], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "bc trained for toy" in ran.stdout
    trained, copy = Checkpoint.open(trained_toy), Checkpoint.open(tmp_path / "bc-toy")
    assert copy.weights_bytes < 0.6 * trained.weights_bytes
    assert copy.training == trained.training and copy.config == trained.config
    assert sorted(path.name for path in copy.folder.iterdir()) == [
        "config.json",
        "log.csv",
        "model.safetensors",
        "training.json",
    ]
    for name, value in copy.weights.items():
        torch.testing.assert_close(value.float(), trained.weights[name].float(), atol=1e-3, rtol=1e-3)
    get_recipe("bc").agent(copy)
