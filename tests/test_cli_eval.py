"""The eval command's options: each mistake gets one sentence, the nearest name and the next step."""

import sys

import pytest

from flowbench.cli.parsing import parse_arguments, parse_indices, parse_size
from flowbench.errors import BadValue


def run(capsys, monkeypatch, *arguments):
    from flowbench.cli import main

    monkeypatch.setattr(sys, "argv", ["flowbench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["evl"], "There is no command 'evl'. Did you mean 'eval'?"),
        (["eval", "--agent", "randm", "--suite", "toy"], "There is no agent 'randm'. Did you mean 'random'?"),
        (
            ["eval", "--agent", "random", "--suite", "libero-10"],
            "There is no suite 'libero-10'. Did you mean 'libero10'?",
        ),
        (
            ["eval", "--agent", "random", "--suite", "toy", "--tasks", "psh"],
            "Suite toy has no task 'psh'. Did you mean 'push'?",
        ),
        (["eval", "--agent", "random", "--suite", "toy", "--cameras", "frnt"], "Did you mean 'front'?"),
        (
            ["eval", "--agent", "random", "--suite", "toy", "--protocol", "openvla"],
            "Suite toy has no protocol 'openvla'.",
        ),
        (["eval", "--agent", "random", "--suite", "toy", "--seeds", "4-0"], "--seeds '4-0' is not a list of numbers"),
        (["eval", "--agent", "random", "--suite", "toy", "--seeds", "1", "--episodes", "2"], "give one of the two"),
        (
            ["eval", "--agent", "random", "--suite", "toy", "--episodes", "0"],
            "--episodes is 0; give a whole number from 1",
        ),
        (["eval", "--agent", "random", "--suite", "toy", "--init-states", "0"], "stores no initial states"),
        (["eval", "--agent", "random", "--suite", "libero10", "--episodes", "51"], "stores 50 initial states per task"),
        (["eval", "--agent", "random", "--suite", "toy", "--image-size", "320"], "is not of the form WIDTHxHEIGHT"),
        (
            ["eval", "--agent", "random", "--suite", "toy", "--camera-sweep", "az=1"],
            "is not of the form <offset>=<start>",
        ),
        (["eval", "--agent", "random", "--suite", "toy", "--agent-args", "gain"], "is not key=value"),
        (
            ["eval", "--agent", "random", "--suite", "toy", "--agent-args", "gian=1"],
            "Agent random has no argument 'gian'",
        ),
        (
            ["eval", "--agent", "random", "--suite", "toy", "--checkpoint", "no/such"],
            "--checkpoint no/such does not exist",
        ),
        (["eval", "--agent", "random", "--suite", "toy", "--workers", "-1"], "--workers is -1"),
        (["eval", "--agent", "no.such.module:Agent", "--suite", "toy"], "could not be imported: no module named 'no'"),
        (["eval", "--agent", "missing.py:Agent", "--suite", "toy"], "Agent file 'missing.py' does not exist"),
        (["eval", "--agent", "random", "--suite", "toy", "--colour", "red"], "No such option"),
        (["eval", "--agent", "random", "--suite", "toy", "--render-profile", "slow"], "'slow' is not one of"),
        (["eval", "--suite", "toy"], "Missing option '--agent'"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert sentence in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_help_shows_examples(monkeypatch, capsys):
    code, output, _ = run(capsys, monkeypatch, "eval", "--help")
    assert code == 0
    assert "flowbench eval --agent scripted --suite toy" in output
    assert "--camera-sweep" in output


def test_indices_are_numbers_and_ranges():
    assert parse_indices("0-2,7,10-11", "--seeds") == (0, 1, 2, 7, 10, 11)
    with pytest.raises(BadValue, match="is empty"):
        parse_indices(" ", "--seeds")


def test_agent_arguments_are_json_where_they_can_be():
    parsed = parse_arguments("rule=robust,dwell=10,faithful=true,layers=[1,2],hold=None,ratio=.5")
    assert parsed == {"rule": "robust", "dwell": 10, "faithful": True, "layers": [1, 2], "hold": None, "ratio": ".5"}


def test_sizes_are_width_by_height():
    assert parse_size("320x240") == (320, 240)
    with pytest.raises(BadValue, match="WIDTHxHEIGHT"):
        parse_size("320,240")
