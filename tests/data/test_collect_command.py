"""The command line of `flowbench collect`: what its options mean and what it prints."""

import h5py
import pytest
from click.testing import CliRunner

from flowbench.cli.collect import build_spec, collect
from flowbench.data.collect_spec import CollectSpec
from flowbench.errors import BadValue, FlowBenchError
from flowbench.task import Scenario


def spec_of(*arguments) -> CollectSpec:
    """Return the collection that a command line asks for."""
    context = collect.make_context("collect", ["--out", "d.h5", *arguments])
    return build_spec(context.params)


def invoke(*arguments):
    result = CliRunner().invoke(collect, list(arguments))
    if isinstance(result.exception, FlowBenchError):
        raise result.exception
    assert result.exception is None, result.exception
    return result


def test_training_starts_are_never_evaluation_scenarios():
    for suite in ("toy", "metaworld11", "libero10"):
        spec = spec_of("--suite", suite, "--episodes", "3")
        assert (spec.demonstrations, spec.max_attempts) == (3, 15)
        assert spec.scenarios == tuple(Scenario(seed) for seed in range(10_000, 10_015))


def test_starts_can_be_named():
    spec = spec_of("--suite", "toy", "--seeds", "3-6")
    assert (spec.scenarios, spec.demonstrations) == (tuple(Scenario(seed) for seed in range(3, 7)), 4)
    spec = spec_of("--suite", "libero-goal", "--init-states", "0,7")
    assert spec.scenarios == (Scenario(10_000, 0), Scenario(10_000, 7))
    spec = spec_of("--suite", "libero-goal", "--init-states", "0-1", "--seeds", "0", "--episodes", "1")
    assert (spec.scenarios, spec.demonstrations, spec.max_attempts) == ((Scenario(0, 0), Scenario(0, 1)), 1, 2)
    with pytest.raises(BadValue, match="Suite toy stores no initial states; choose starts with --seeds"):
        spec_of("--suite", "toy", "--init-states", "0")


def test_a_spec_survives_json_with_its_seeds_as_ranges():
    spec = spec_of("--suite", "toy", "--episodes", "400", "--cameras", "none", "--modalities", "none")
    assert spec.to_json()["seeds"] == "10000-11999"
    assert CollectSpec.from_json(spec.to_json()) == spec
    assert spec.cameras == spec.modalities == ()


def test_cameras_are_swept_as_in_an_evaluation():
    spec = spec_of("--suite", "toy", "--cameras", "front,side", "--camera-sweep", "yaw=-5:5:5")
    assert spec.cameras == ("front+yaw-5", "front", "front+yaw5", "side+yaw-5", "side", "side+yaw5")


def test_the_summary_counts_per_task_and_gives_the_size_per_minute(tmp_path):
    path = tmp_path / "d.h5"
    arguments = (
        "--suite",
        "toy",
        "--tasks",
        "reach,lift",
        "--episodes",
        "1",
        "--workers",
        "0",
        "--image-size",
        "32x24",
    )
    result = invoke(*arguments, "--out", str(path))
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["task", "kept", "attempted"]
    assert lines[1].split() == ["reach", "1", "1"]
    with h5py.File(path) as file:
        steps = int(file["data"].attrs["total"])
    megabytes = path.stat().st_size / 1e6
    assert f"{steps} steps, {steps / 1200:.2f} minutes at 20 Hz; {megabytes:.1f} MB" in result.stdout
    assert f"{megabytes / (steps / 1200):.1f} MB per minute of demonstration" in result.stdout
    assert "is already complete; nothing was run." in invoke(*arguments, "--out", str(path)).stdout


def test_tasks_that_stay_short_are_warned_about(tmp_path):
    arguments = ("--suite", "toy", "--tasks", "reach,push", "--seeds", "0-1", "--max-steps", "10", "--workers", "0")
    result = invoke(*arguments, "--modalities", "none", "--quiet", "--out", str(tmp_path / "d.h5"))
    assert result.stdout == ""
    assert "Warning: fewer than 2 demonstrations of: push (0). Raise --max-attempts" in result.stderr


def test_a_dry_run_says_what_the_cameras_show_and_writes_nothing(tmp_path):
    result = invoke("--suite", "toy", "--workers", "0", "--dry-run", "--out", str(tmp_path / "d.h5"))
    assert "Camera front: depth " in result.stdout
    assert "3 tasks x 10 demonstrations, first start toy/reach@front/s10000" in result.stdout
    assert list(tmp_path.iterdir()) == []
