"""What a checkpoint holds, and every way in which one can be wrong."""

import json
import shutil
import sys

import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.bc.agent import BCAgent  # noqa: E402
from flowbench.agents.bc.model import BCConfig, BCNetwork  # noqa: E402
from flowbench.agents.training import checkpoint as module  # noqa: E402
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError  # noqa: E402
from flowbench.agents.training.trained import trained  # noqa: E402
from flowbench.errors import MissingExtra, UnknownName  # noqa: E402
from flowbench.manifest import content_hash  # noqa: E402
from flowbench.registry import get_suite, make, make_agent  # noqa: E402


@pytest.fixture
def folder(trained_toy, tmp_path):
    """A copy of a checkpoint that a test may damage."""
    return shutil.copytree(trained_toy, tmp_path / "ck")


@pytest.fixture
def edit(folder):
    """Return a function that changes the fields of a checkpoint's config.json."""

    def change(**fields):
        path = folder / "config.json"
        content = json.loads(path.read_text())
        for name, value in fields.items():
            content.pop(name) if value is None else content.update({name: value})
        path.write_text(json.dumps(content))

    return change


def message(folder, *recipes):
    """Return what opening a checkpoint and loading its network says."""
    with pytest.raises(CheckpointError) as error:
        opened = Checkpoint.open(folder, *recipes)
        opened.fill(BCNetwork(opened.config_as(BCConfig), opened.facts))
    return str(error.value)


def test_a_checkpoint_is_json_and_safetensors_and_tells_how_it_was_made(trained_toy, toy_demos):
    import hashlib

    assert {"config.json", "model.safetensors", "training.json", "log.csv", "state.safetensors"} <= {
        path.name for path in trained_toy.iterdir()
    }
    training = json.loads((trained_toy / "training.json").read_text())
    assert training["step"] == training["stages"]["train"]["steps"] == 5
    assert training["preset"] == "tiny"
    assert training["data_files"] == ["toy.h5"]
    file_hash = hashlib.sha256(toy_demos.read_bytes()).hexdigest()
    assert training["data_sha256"] == hashlib.sha256(file_hash.encode()).hexdigest()
    assert training["demonstrations"] == 2  # of four; one of each task is held out
    assert {"torch", "flowbench"} <= set(training["versions"])
    assert training["command"]
    assert {"loss", "val_loss"} <= set(training["metrics"])
    config = json.loads((trained_toy / "config.json").read_text())
    assert config["recipe"] == "bc"
    assert config["facts"]["cameras"] == ["front", "side"]
    assert config["facts"]["instructions"] == ["move the gripper to the red ball", "pick up the block and lift it"]
    assert config["weights_sha256"] == hashlib.sha256((trained_toy / "model.safetensors").read_bytes()).hexdigest()


def test_the_description_says_how_it_was_trained(trained_toy):
    assert Checkpoint.open(trained_toy).description == (
        f"bc trained for toy, preset tiny, 5 steps in 0 minutes, on 2 demonstrations ({trained_toy})"
    )


def test_a_folder_that_is_missing_or_something_else_is_named(tmp_path, folder):
    assert message(tmp_path / "nothing") == f"There is no checkpoint at {tmp_path / 'nothing'}: no such folder."
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    assert message(tmp_path / "other") == (
        f"{tmp_path / 'other'} is no checkpoint: it has no config.json (it holds notes.txt)."
    )
    assert message(folder / "config.json") == (
        f"{folder / 'config.json'} is a file; a checkpoint is a folder with config.json, model.safetensors and training.json."
    )


def test_a_missing_file_is_named(folder):
    (folder / "training.json").unlink()
    assert Checkpoint.open(folder).training == {}
    (folder / "model.safetensors").unlink()
    assert message(folder) == f"Checkpoint {folder} has no model.safetensors. Copy or download the whole folder."


def test_truncated_weights_are_named(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert message(folder) == (
        f"{path} is cut short: it has {len(whole) - 100} of {len(whole)} bytes. Copy or download it again."
    )


def test_weights_with_one_changed_bit_are_named(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "is damaged or of another training: its SHA-256 is " in message(folder)


def test_a_damaged_config_is_named(folder, edit):
    edit(facts=None)
    assert message(folder) == (
        f"{folder / 'config.json'} has no facts, so it is no checkpoint of FlowBench, or was edited."
    )
    edit(format=99)
    assert message(folder) == (
        f"{folder / 'config.json'} has format 99; this FlowBench reads formats up to 1. Update it: pip install -U flowbench"
    )
    (folder / "config.json").write_text("{")
    assert message(folder).startswith(f"{folder / 'config.json'} is not JSON (")
    (folder / "config.json").write_text("[]")
    assert message(folder) == f"{folder / 'config.json'} holds a list instead of an object. Copy or download it again."


def test_weights_that_do_not_fit_the_config_are_named(folder, edit):
    config = json.loads((folder / "config.json").read_text())["config"]
    edit(config=config | {"chunk": 5})
    assert "do not fit the network that its config.json describes: at head.linear" in message(folder)
    edit(config=config | {"colour": 5})
    assert message(folder).startswith(f"Checkpoint {folder} sets colour, which bc of this FlowBench does not know.")


def test_a_checkpoint_of_another_agent_is_named(folder, edit):
    edit(recipe="sof")
    with pytest.raises(CheckpointError) as error:
        BCAgent(str(folder))
    assert (
        str(error.value) == f"Checkpoint {folder} is of 'sof', not of 'bc' or 'bc-r3m'. Evaluate it with --agent sof."
    )


def test_another_simulator_is_named(trained_toy):
    task = get_suite("metaworld11").task("door-open")
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(trained_toy).check_task(task)
    assert str(error.value) == (
        f"Checkpoint {trained_toy} was trained for suite toy (toy), and metaworld11 runs in metaworld. Train one for it: "
        "flowbench train --agent bc --suite metaworld11 --data FILE"
    )


def test_another_action_width_is_named(folder, edit):
    facts = json.loads((folder / "config.json").read_text())["facts"]
    edit(facts=facts | {"action_labels": ["dx", "dy"]})
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(folder).check_task(get_suite("toy").tasks[0])
    assert str(error.value) == (
        f"Checkpoint {folder} gives 2 action components (dx, dy), and suite toy takes 4 (dx, dy, dz, gripper)."
    )


def test_an_unknown_camera_is_named_and_a_displaced_one_counts_as_its_base(trained_toy):
    checkpoint, task = Checkpoint.open(trained_toy), get_suite("toy").tasks[0]
    checkpoint.check_task(task, ["side+yaw15"])
    with pytest.raises(CheckpointError) as error:
        checkpoint.check_task(task, ["wrist"])
    assert str(error.value) == (
        f"Checkpoint {trained_toy} does not know camera 'wrist'; it was trained on front, side. Evaluate it there, or train "
        "one with that camera's images."
    )


def test_a_displaced_camera_is_given_its_base_s_identity(trained_toy):
    agent = BCAgent(str(trained_toy))
    seen = []
    for camera in ("front", "side+yaw15"):
        env = make("toy", "lift", cameras=(camera,), image_size=(32, 24), lazy=True)
        observation, _ = env.reset(seed=0)
        agent.reset(env.task, env.cameras, 0)
        assert agent.act(observation).shape == (2, 4)
        seen.append(agent._camera)
        env.close()
    assert seen == [0, 1]


def test_another_image_size_is_named(trained_toy):
    from flowbench.errors import ShapeError

    agent = BCAgent(str(trained_toy))
    env = make("toy", "lift", image_size=(64, 48), lazy=True)
    observation, _ = env.reset(seed=0)
    agent.reset(env.task, env.cameras, 0)
    with pytest.raises(ShapeError) as error:
        agent.act(observation)
    env.close()
    assert str(error.value) == (
        f"Checkpoint {trained_toy} was trained on frames of 32x24, and this one is 64x48. Leave out --image-size."
    )


def test_the_hash_of_a_checkpoint_is_that_of_what_the_agent_does(folder):
    before = content_hash("bc", str(folder))
    (folder / "log.csv").write_text("")
    (folder / "training.json").write_text("{}")
    assert content_hash("bc", str(folder)) == before
    (folder / "model.safetensors").write_bytes(b"other")
    assert content_hash("bc", str(folder)) != before


# --- names


def test_a_shipped_checkpoint_is_found_by_name_and_by_suite(folder, monkeypatch):
    monkeypatch.setattr(module, "shipped_checkpoints", lambda: {"bc-toy": folder})
    assert Checkpoint.open("bc-toy").folder == folder
    assert BCAgent.default_checkpoint("bc", "toy") == "bc-toy"
    assert BCAgent.default_checkpoint("bc", "metaworld11") is None
    with pytest.raises(UnknownName, match="There is no checkpoint 'bc-tyo'. Did you mean 'bc-toy'?"):
        Checkpoint.open("bc-tyo")


def test_eval_uses_the_shipped_checkpoint_and_says_so(folder, monkeypatch, tmp_path, capfd):
    from click.testing import CliRunner

    from flowbench.cli.eval import eval_

    monkeypatch.setattr(module, "shipped_checkpoints", lambda: {"bc-toy": folder})
    arguments = ["--agent", "bc", "--suite", "toy", "--limit", "1", "--workers", "0", "--out", str(tmp_path / "r")]
    ran = CliRunner().invoke(eval_, arguments, catch_exceptions=False)
    assert ran.exit_code == 0
    assert "Checkpoint: bc trained for toy, preset tiny, 5 steps in 0 minutes, on 2 demonstrations (" in ran.output
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert manifest["spec"]["agent"]["checkpoint"] == "bc-toy"
    assert manifest["spec"]["agent"]["content_sha256"] == content_hash("bc", str(folder))


def test_a_hub_name_is_downloaded_and_opened(folder, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **options: asked.append(name) or str(folder))
    assert Checkpoint.open("hf://someone/bc-toy").recipe == "bc"
    assert asked == ["someone/bc-toy"]


def test_a_download_that_fails_says_what_to_do_instead(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def offline(name, **options):
        raise OSError("network is unreachable\nlong traceback")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open("hf://someone/bc-toy")
    assert str(error.value) == (
        "Checkpoint hf://someone/bc-toy cannot be downloaded (OSError: network is unreachable). Without a network, copy its "
        "folder here and give its path."
    )
    with pytest.raises(CheckpointError, match="'hf://bc-toy' is not of the form hf://organisation/name."):
        Checkpoint.open("hf://bc-toy")


def test_a_missing_hub_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        MissingExtra, match=r"huggingface_hub, which is not installed. Install it: pip install huggingface_hub"
    ):
        Checkpoint.open("hf://someone/bc-toy")


# --- the agent of any checkpoint


def test_trained_makes_the_agent_of_a_checkpoint_and_loads_no_code_that_it_names(folder, edit):
    assert isinstance(trained(str(folder)), BCAgent)
    assert isinstance(make_agent("trained", {}, checkpoint=str(folder)), BCAgent)
    edit(recipe="os:system")
    with pytest.raises(UnknownName, match="There is no trainable agent 'os:system'"):
        trained(str(folder))
