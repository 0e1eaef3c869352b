"""What the loop computes, writes and says."""

import csv
import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.bc.recipe import BCRecipe  # noqa: E402
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError  # noqa: E402
from flowbench.agents.training.devices import checked_device  # noqa: E402
from flowbench.agents.training.loop import TrainOptions, ema_decay, learning_rate, make_optimiser, train  # noqa: E402
from flowbench.agents.training.presets import TrainConfig  # noqa: E402
from flowbench.agents.training.rollouts import RolloutPlan  # noqa: E402
from flowbench.agents.training.state import TrainingState  # noqa: E402
from flowbench.errors import BadValue, RunFailed  # noqa: E402
from flowbench.report.training_log import read_training_logs  # noqa: E402


def rows(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def changed(settings, **changes):
    return replace(settings, stages={"train": replace(settings.stages["train"], **changes)})


def test_the_learning_rate_rises_and_falls_with_the_steps_alone():
    config = TrainConfig(steps=110, warmup_steps=10, lr=1.0, final_lr=0.1)
    rates = [learning_rate(config, step) for step in range(1, 111)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[59] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in zip(rates[9:], rates[10:], strict=False))
    assert learning_rate(replace(config, schedule="constant"), 110) == 1.0


def test_the_average_has_a_short_memory_at_first():
    config = TrainConfig(ema_decay=0.99)
    assert ema_decay(config, 1) < 0.2
    assert ema_decay(config, 10_000) == 0.99
    assert ema_decay(TrainConfig(ema_decay=0.0), 50) == 0.0


def test_a_training_on_less_numbers_sentences_and_cameras_as_its_start_did(settings, sources, tmp_path):
    first = train(BCRecipe(), settings, sources, TrainOptions(tmp_path / "first", progress=False))
    assert len(first.facts["instructions"]) > 1
    options = TrainOptions(tmp_path / "second", progress=False, init_from=str(first.folder))
    second = train(BCRecipe(), settings, replace(sources, tasks=("reach",)), options)
    assert second.facts["instructions"] == first.facts["instructions"]
    assert second.facts["cameras"] == first.facts["cameras"]


def test_biases_and_norms_are_not_decayed():
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    groups = make_optimiser(network.parameters(), TrainConfig(weight_decay=0.5)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.5, 1), (0.0, 3)]


def test_the_checkpoint_holds_the_averaged_weights(train_toy, settings, sources, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "save", lambda self, folder: states.append(dict(self.tensors)))
    states = []
    checkpoint = train(BCRecipe(), settings, sources, TrainOptions(tmp_path / "out", progress=False, save_every_s=0.0))
    last = states[-2]  # the very last save of a finished training keeps nothing
    name = "head.linear.weight"
    torch.testing.assert_close(checkpoint.weights[name], last[f"averaged/{name}"], rtol=0, atol=0)
    assert not torch.equal(last[f"averaged/{name}"], last[f"model/{name}"])


def test_without_averaging_the_checkpoint_holds_the_last_weights(settings, sources, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "save", lambda self, folder: states.append(dict(self.tensors)))
    states = []
    options = TrainOptions(tmp_path / "out", progress=False, save_every_s=0.0)
    train(BCRecipe(), changed(settings, ema_decay=0.0), sources, options)
    name = "head.linear.weight"
    torch.testing.assert_close(states[-2][f"averaged/{name}"], states[-2][f"model/{name}"], rtol=0, atol=0)


def test_the_log_has_losses_and_validation_and_is_what_the_report_reads(train_toy, tmp_path):
    checkpoint = train_toy()
    log = rows(checkpoint.folder)
    assert [int(row["step"]) for row in log] == list(range(1, 31))
    assert list(log[0]) == ["step", "loss", "action_error", "grad_norm", "lr", "val_loss", "val_action_error"]
    assert log[-1]["val_loss"]
    assert not log[-2]["val_loss"]
    quantities = {curves.quantity for curves in read_training_logs([checkpoint.folder / "log.csv"])}
    assert {"loss", "val_loss", "lr"} <= quantities
    assert float(log[-1]["val_loss"]) == checkpoint.training["metrics"]["val_loss"]


def test_tensorboard_files_are_written(train_toy):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(train_toy().folder / "tensorboard"))
    events.Reload()
    assert {"loss", "val_loss", "steps_per_s"} <= set(events.Tags()["scalars"])


def test_validation_does_not_change_the_training(train_toy, settings, sources, tmp_path):
    often = train(
        BCRecipe(), changed(settings, validate_every=1), sources, TrainOptions(tmp_path / "often", progress=False)
    )
    assert often.weights_sha256 == train_toy().weights_sha256


def test_validation_demonstrations_are_not_trained_on(sources):
    train_names, held_out = (
        {info.name for info in sources.open(("actions",), split=split).infos} for split in ("train", "validation")
    )
    assert train_names
    assert held_out
    assert not train_names & held_out


def test_a_single_demonstration_is_trained_on_without_validation(settings, toy_demos, tmp_path, capsys):
    from flowbench.agents.training.sources import Sources
    from flowbench.registry import get_suite

    sources = Sources((toy_demos,), get_suite("toy"), tasks=("lift",), limit_per_task=1, validation_fraction=0.0)
    train(BCRecipe(), settings, sources, TrainOptions(tmp_path / "out"))
    assert "held out" not in capsys.readouterr().out
    assert "val_loss" not in rows(tmp_path / "out")[0]


def test_a_loss_that_is_not_finite_stops_the_training(settings, sources, tmp_path, monkeypatch):
    original = BCRecipe.loss

    def exploding(self, model, batch, moment):
        loss, logged = original(self, model, batch, moment)
        return loss * (float("nan") if moment.step == 5 else 1.0), logged

    monkeypatch.setattr(BCRecipe, "loss", exploding)
    with pytest.raises(RunFailed) as error:
        train(BCRecipe(), settings, sources, TrainOptions(tmp_path / "out", progress=False))
    assert str(error.value) == (
        "The loss is nan at step 5 of stage train. Lower the learning rate (--lr), or shorten gradients more "
        "(--set clip_norm=0.1)."
    )


def test_training_starts_from_the_weights_of_a_checkpoint(train_toy, settings, sources, tmp_path, capsys):
    first = train_toy("first")
    small = changed(settings, steps=1, lr=0.0, ema_decay=0.0)
    options = TrainOptions(tmp_path / "second", init_from=str(first.folder))
    second = train(BCRecipe(), small, sources, options)
    assert all(torch.equal(second.weights[name], value) for name, value in first.weights.items())
    assert (
        f"Started from {len(first.weights)} of {len(first.weights)} weights of {first.folder}."
        in capsys.readouterr().out
    )
    wider = replace(small, config=replace(small.config, chunk=8))
    train(BCRecipe(), wider, sources, replace(options, out=tmp_path / "third"))
    assert "these start afresh: head.linear.weight, head.linear.bias." in capsys.readouterr().out


def test_weights_of_another_agent_are_refused_as_a_start(train_toy, settings, sources, tmp_path):
    first = train_toy("first")
    path = first.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": "sof"}))
    with pytest.raises(CheckpointError, match="is of 'sof', not of 'bc'"):
        train_toy("second", init_from=str(first.folder))


def test_bf16_and_compilation_can_be_asked_for(settings, sources, tmp_path):
    checkpoint = train(
        BCRecipe(),
        changed(settings, precision="bf16", steps=5),
        sources,
        TrainOptions(tmp_path / "out", progress=False),
    )
    assert all(value.dtype == torch.float32 for value in checkpoint.weights.values())
    assert float(rows(checkpoint.folder)[-1]["loss"]) > 0


@pytest.mark.parametrize("in_hardware", [True, False])
def test_without_being_asked_a_cpu_computes_in_bf16_only_if_it_multiplies_it_in_hardware(
    in_hardware, settings, sources, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: in_hardware, raising=False)
    seen = []

    class Watched(BCRecipe):
        def loss(self, model, batch, moment):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().loss(model, batch, moment)

    settings = changed(settings, precision="auto", steps=1)
    train(Watched(), settings, sources, TrainOptions(tmp_path / "out", progress=False))
    assert set(seen) == {in_hardware}


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(BadValue, match=r"--device quantum cannot be used: .* Use --device cpu."):
        checked_device("quantum")
    if not torch.cuda.is_available():
        with pytest.raises(BadValue, match=r"--device cuda cannot be used: .* Use --device cpu."):
            checked_device("cuda")


# --- rollouts


def test_rollouts_run_beside_the_training_and_the_best_is_kept(train_toy, tmp_path):
    plan = RolloutPlan(
        20, "toy", "trained", ("--tasks", "lift", "--episodes", "1", "--workers", "0", "--max-steps", "4")
    )
    checkpoint = train_toy(rollouts=plan)
    out = checkpoint.folder
    successes = {row["step"]: row["success"] for row in rows(out) if row["success"]}
    assert successes == {"20": "0.0", "30": "0.0"}
    assert Checkpoint.open(out / "best").training["step"] == 20, "the first of equals"
    assert checkpoint.training["metrics"]["success"] == 0.0
    assert (out / "rollouts" / "step-30-run" / "episodes.jsonl").exists()
    assert checkpoint.weights_sha256 == train_toy("alone").weights_sha256, "rollouts change nothing"


def test_ctrl_c_does_not_wait_for_rollouts(settings, sources, tmp_path, monkeypatch):
    """The rollouts of step 10 are still running when those of step 20 are due, and the user has had enough."""
    import os
    import signal

    original = BCRecipe.loss

    def interrupting(self, model, batch, moment):
        if moment.step == 20 and moment.training:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, model, batch, moment)

    monkeypatch.setattr(BCRecipe, "loss", interrupting)
    plan = RolloutPlan(10, "toy", "trained", ("--tasks", "lift", "--seeds", "0-9999", "--workers", "0"))
    with pytest.raises(KeyboardInterrupt):
        train(BCRecipe(), settings, sources, TrainOptions(tmp_path / "out", progress=False, rollouts=plan))
    assert TrainingState.load(tmp_path / "out").step == 20


def test_rollouts_that_fail_are_said_and_the_training_goes_on(train_toy, capsys, tmp_path):
    checkpoint = train_toy(rollouts=RolloutPlan(30, "toy", "no-such-agent"), progress=True)
    assert checkpoint.training["finished"]
    log = tmp_path / "out" / "rollouts" / "log.txt"
    assert f"The rollouts of step 30 could not be carried out; see {log}." in capsys.readouterr().out
    assert "There is no agent 'no-such-agent'" in log.read_text()
