"""A training that is interrupted, in whatever way, goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from filelock import FileLock  # noqa: E402

from flowbench.agents.bc.recipe import BCRecipe  # noqa: E402
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError  # noqa: E402
from flowbench.agents.training.loop import LOCK, TrainOptions, train  # noqa: E402
from flowbench.agents.training.presets import load_settings  # noqa: E402
from flowbench.agents.training.state import STATE, DataOrder, TrainingState  # noqa: E402
from flowbench.errors import BadValue  # noqa: E402

#: Two steps make a row of the log.
STEPS = 200
#: Saves after every step.
SCRIPT = """
import sys
from pathlib import Path
from flowbench.agents.bc.recipe import BCRecipe
from flowbench.agents.training.loop import TrainOptions, train
from flowbench.agents.training.presets import load_settings
from flowbench.agents.training.sources import Sources
from flowbench.registry import get_suite

data, out, cache, steps, *changes = sys.argv[1:]
settings = load_settings(BCRecipe(), "tiny", "toy", changes, steps=int(steps), batch_size=8)
sources = Sources((Path(data),), get_suite("toy"), validation_fraction=0.5, cache=Path(cache))
train(BCRecipe(), settings, sources, TrainOptions(Path(out), progress=False, save_every_s=0.0))
"""

REPLACE_AGAIN_AND_AGAIN = """
import itertools, os, sys

for step in itertools.cycle("12"):
    os.link(os.path.join(step, sys.argv[1]), "next")
    os.replace("next", sys.argv[1])
"""


@pytest.fixture
def long_settings(smallest):
    return load_settings(BCRecipe(), "tiny", "toy", smallest, steps=STEPS, batch_size=8)


@pytest.fixture
def running(toy_demos, sources, smallest, tmp_path):
    """A training in a process of its own that has saved a few steps."""
    out = tmp_path / "interrupted"
    command = [sys.executable, "-c", SCRIPT, str(toy_demos), str(out), str(sources.cache), str(STEPS), *smallest]
    # With as many threads as here: sums in another order are other numbers.
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    try:
        while process.poll() is None and time.monotonic() < deadline:
            state = TrainingState.load(out)
            if state is not None and state.step >= 7:
                break
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[1].decode()
        yield process, out
    finally:
        process.kill()
        process.communicate()


def test_kill_9_and_resume_give_the_same_curve_and_weights(running, sources, tmp_path, long_settings):
    process, out = running
    process.kill()
    process.wait()
    assert 7 <= TrainingState.load(out).step < STEPS
    resumed = train(BCRecipe(), long_settings, sources, TrainOptions(out, progress=False))
    whole = train(BCRecipe(), long_settings, sources, TrainOptions(tmp_path / "whole", progress=False))
    assert (out / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.training["step"] == STEPS
    assert resumed.training["finished"]


def test_a_scheduler_s_sigterm_saves_and_leaves_a_usable_checkpoint(running):
    process, out = running
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=120)[1].decode()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    state = TrainingState.load(out)
    assert 7 <= state.step < STEPS
    checkpoint = Checkpoint.open(out)
    assert checkpoint.training["step"] == state.step
    assert not checkpoint.training["finished"]
    assert checkpoint.weights.keys() == state.part("averaged/").keys()


def test_a_state_can_be_read_while_a_training_replaces_it(tmp_path):
    for step in (1, 2):
        (tmp_path / f"{step}").mkdir()
        TrainingState({}, step=step, tensors={"weights": torch.full((5000 * step,), step)}).save(tmp_path / f"{step}")
    replacing = subprocess.Popen([sys.executable, "-c", REPLACE_AGAIN_AND_AGAIN, STATE], cwd=tmp_path)
    try:
        steps, deadline = [], time.monotonic() + 120
        while (steps.count(1) < 1000 or steps.count(2) < 1000) and time.monotonic() < deadline:
            if (state := TrainingState.load(tmp_path)) is not None:
                assert state.tensors["weights"].shape == (5000 * state.step,)
                steps.append(state.step)
    finally:
        replacing.kill()
        replacing.wait()
    assert set(steps) == {1, 2}


def test_ctrl_c_in_the_middle_of_a_row_of_the_log_loses_nothing(sources, long_settings, tmp_path, monkeypatch):
    def run(out):
        return train(BCRecipe(), long_settings, sources, TrainOptions(tmp_path / out, progress=False))

    whole, original = run("whole"), BCRecipe.loss

    def interrupting(self, model, batch, moment):
        if moment.step == 11:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, model, batch, moment)

    monkeypatch.setattr(BCRecipe, "loss", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    state = TrainingState.load(tmp_path / "cut")
    assert state.step == 11
    assert state.part("sums/")
    monkeypatch.setattr(BCRecipe, "loss", original)
    resumed = run("cut")
    assert resumed.weights_sha256 == whole.weights_sha256
    assert (tmp_path / "cut" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()


def test_the_time_limit_stops_and_a_longer_one_goes_on(train_toy, tmp_path):
    whole = train_toy("whole")
    short = train_toy("cut", time_limit_s=1e-9)
    assert not short.training["finished"]
    assert short.training["step"] < 30
    assert train_toy("cut").weights_sha256 == whole.weights_sha256


def test_a_finished_training_is_not_trained_again(train_toy, tmp_path):
    first = train_toy()
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert train_toy().weights_sha256 == first.weights_sha256
    assert {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before


def test_another_training_in_the_same_folder_is_refused(train_toy, settings, sources, tmp_path):
    train_toy()
    longer = replace(settings, stages={"train": replace(settings.stages["train"], lr=0.5)})
    with pytest.raises(BadValue) as refused:
        train(BCRecipe(), longer, sources, TrainOptions(tmp_path / "out", progress=False))
    assert str(refused.value) == (
        f"--out {tmp_path / 'out'} holds another training: lr is 0.002 there and 0.5 here. Name another folder."
    )
    with pytest.raises(BadValue, match="seed is 0 there and 1 here"):
        train_toy(seed=1)
    with pytest.raises(BadValue, match="already holds a training. Leave out --no-resume, or name another folder."):
        train_toy(resume=False)


def test_two_processes_do_not_train_in_one_folder(train_toy, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / LOCK), pytest.raises(BadValue) as refused:
        train_toy()
    assert str(refused.value) == (
        f"Another process is training in --out {tmp_path / 'out'}. Wait for it, or name another folder."
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(BadValue, match=r"--out .*file cannot be written: File exists."):
        train_toy("file")


def test_a_training_that_goes_on_knows_what_it_knew_and_does_not_ask_again(train_toy, tmp_path, monkeypatch):
    train_toy("cut", time_limit_s=1e-9)
    monkeypatch.setattr(BCRecipe, "facts", lambda *_: pytest.fail("asked again"))
    assert train_toy("cut").training["finished"]


def test_a_damaged_state_is_named(train_toy, tmp_path):
    train_toy("cut", time_limit_s=1e-9)
    path = tmp_path / "cut" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"state.safetensors cannot be read .* Start it again in another folder."):
        train_toy("cut")


def test_a_torn_last_line_of_the_log_is_dropped(train_toy, tmp_path):
    whole = train_toy("whole")
    train_toy("cut", time_limit_s=1e-9)
    with (tmp_path / "cut" / "log.csv").open("a") as file:
        file.write("29,0.1,0.")
    train_toy("cut")
    assert (tmp_path / "cut" / "log.csv").read_text() == (whole.folder / "log.csv").read_text()


def test_every_epoch_has_every_sample_once_whatever_the_batch_size():
    order = DataOrder(10, 4, 0, "train")
    drawn = [int(index) for step in range(1, 6) for index in order.indices(step)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    assert list(DataOrder(10, 4, 0, "train").indices(4)) == drawn[12:16]
    assert list(DataOrder(3, 8, 0, "train").indices(1)) != list(DataOrder(3, 8, 1, "train").indices(1))


def test_the_seed_changes_the_training_and_nothing_else_does(train_toy):
    first = train_toy("a")
    torch.manual_seed(1234)
    assert train_toy("b").weights_sha256 == first.weights_sha256
    assert train_toy("c", seed=1).weights_sha256 != first.weights_sha256


def test_the_caller_s_generator_is_left_alone(train_toy):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_toy()
    assert torch.rand(1) == expected


def test_the_state_of_a_finished_training_is_small(trained_toy):
    assert (trained_toy / "state.safetensors").stat().st_size < 20_000
    assert json.loads((trained_toy / "training.json").read_text())["finished"]
