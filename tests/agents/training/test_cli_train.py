"""`flowbench train` as a user types it."""

import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

from flowbench.agents.training import command  # noqa: E402
from flowbench.agents.training.checkpoint import Checkpoint  # noqa: E402
from flowbench.cli import cli  # noqa: E402
from flowbench.errors import FlowBenchError  # noqa: E402


@pytest.fixture
def flowbench(tmp_path, monkeypatch):
    """Return a function that runs a command line and returns (exit code, output or error message)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWBENCH_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        if isinstance(result.exception, FlowBenchError):
            return result.exception.exit_code, str(result.exception)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def tiny(toy_demos, smallest):
    """Arguments of a training that takes a moment."""
    changes = [part for change in smallest for part in ("--set", change)]
    return [
        "train",
        "--agent",
        "bc",
        "--suite",
        "toy",
        "--data",
        toy_demos,
        "--preset",
        "tiny",
        "--steps",
        "4",
        *changes,
    ]


def test_training_ends_with_the_command_that_evaluates_it(flowbench, tiny, tmp_path):
    code, text = flowbench(*tiny, "--out", "b", "--threads", torch.get_num_threads())
    assert code == 0
    assert "Checkpoint: bc trained for toy, preset tiny, 4 steps in 0 minutes, on 2 demonstrations (b); loss " in text
    (last,) = [line for line in text.splitlines() if line.startswith("Next: ")]
    assert last == "Next: flowbench eval --agent bc --checkpoint b --suite toy"
    code, text = flowbench(*last.split()[2:], "--limit", "1", "--workers", "0", "--out", "r")
    assert code == 0
    assert "bc: success % [95 %]" in text
    assert list((tmp_path / "cache" / "frames").iterdir())
    code, text = flowbench(*tiny, "--out", "b")
    assert "b is already trained; nothing was done." in text


def test_what_is_trained_may_be_the_first_argument(flowbench, tiny):
    code, _ = flowbench("train", "bc", *tiny[3:], "--out", "b", "--quiet")
    assert code == 0
    assert Checkpoint.open("b").training["step"] == 4


def test_options_reach_the_training(flowbench, tiny):
    more = [
        "--seed",
        3,
        "--batch-size",
        5,
        "--lr",
        0.01,
        "--limit-demos",
        1,
        "--validation",
        0,
        "--label-fraction",
        0.5,
    ]
    code, text = flowbench(*tiny, "--out", "b", "--cache", "none", *more)
    assert code == 0, text
    training = Checkpoint.open("b").training
    stage = training["stages"]["train"]
    assert (training["seed"], stage["batch_size"], stage["lr"], stage["steps"]) == (3, 5, 0.01, 4)
    assert (training["limit_per_task"], training["validation_fraction"], training["label_fraction"]) == (1, 0.0, 0.5)


def test_show_prints_the_settings_and_trains_nothing(flowbench, tmp_path):
    code, text = flowbench("train", "--agent", "bc", "--suite", "metaworld11", "--preset", "paper", "--show")
    assert code == 0
    assert "bc, preset paper (presets: tiny, small, paper)" in text
    assert "  crop = [128, 128]" in text
    assert "  text = clip" in text
    assert "stage train\n  steps = 100000" in text
    assert not list(tmp_path.iterdir())


def test_the_default_cache_is_in_the_user_s_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("FLOWBENCH_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command._cache_folder(None) == tmp_path / ".cache" / "flowbench" / "frames"
    assert command._cache_folder("none") is None
    assert command._cache_folder("x").name == "x"


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["train"], "Name one thing to train with --agent NAME. Available: "),
        (["train", "--agent", "bc", "sof"], "Name one thing to train with --agent NAME."),
        (["train", "--agent", "bcc"], "There is no trainable agent 'bcc'. Did you mean 'bc'?"),
        (["train", "--agent", "bc", "--suite", "toyy"], "There is no suite 'toyy'. Did you mean 'toy'?"),
        (["train", "--agent", "bc", "--preset", "smal"], "Agent bc has no preset 'smal'. Did you mean 'small'?"),
        (["train", "--agent", "bc"], "Name a folder for the training with --out DIR."),
        (
            ["train", "--agent", "bc", "--suite", "toy", "--out", "b"],
            "There is no data to learn from. Give it with --data FILE[,FILE...]",
        ),
        (
            ["train", "--agent", "bc", "--data", "no.h5", "--out", "b"],
            "There is nothing at no.h5, which --data names: no such file or folder.",
        ),
        (
            ["train", "--agent", "bc", "--out", "b", "--eval-every", "5"],
            "--eval-every N takes a whole number from 1, and a",
        ),
    ],
)
def test_mistakes_are_named(flowbench, arguments, text):
    code, message = flowbench(*arguments)
    assert code == 2
    assert text in message


def test_a_training_without_a_suite_says_what_an_agent_needs(flowbench, toy_demos):
    code, message = flowbench("train", "--agent", "bc", "--data", toy_demos, "--out", "b")
    assert code == 2
    assert message == "An agent is trained for a suite. Name it with --suite NAME (flowbench list suites)."


def test_evaluating_without_a_checkpoint_says_how_to_give_one(flowbench):
    code, message = flowbench("eval", "--agent", "bc", "--suite", "toy", "--limit", "1", "--workers", "0")
    assert code == 2
    assert message == (
        "Agent bc needs a checkpoint, and none comes with it for suite toy. Give one with --checkpoint PATH, or train one: "
        "flowbench train --agent bc --suite toy --data FILE --preset small --out DIR"
    )


def test_evaluating_a_checkpoint_elsewhere_says_what_is_wrong_before_it_starts(flowbench, trained_toy):
    code, message = flowbench(
        "eval", "--agent", "bc", "--checkpoint", trained_toy, "--suite", "toy", "--cameras", "wrist"
    )
    assert code == 2
    assert "does not know camera 'wrist'; it was trained on front, side." in message


def test_train_is_listed_with_the_other_commands(flowbench):
    assert "Train an agent on demonstrations." in flowbench("--help")[1]
    code, text = flowbench("train", "--help")
    assert code == 0
    assert "flowbench train --agent bc --suite toy --data toy.h5 --preset tiny --out bc-toy" in text
