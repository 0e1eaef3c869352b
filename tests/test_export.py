"""Exports: every number as it was stored, in the names that other programs read."""

import csv
import io
import json
import os
import subprocess
import sys
from datetime import datetime

import pandas as pd
import pytest
from click.testing import CliRunner

from flowbench.cli.export import export
from flowbench.errors import BadValue, MissingExtra, StoreError
from flowbench.export import episode_frame, episode_rows, lm_eval_results, write_lm_eval
from flowbench.recording import video_path
from flowbench.stats import wilson_interval
from flowbench.store import ResultStore


def outcome(episode):
    """reach succeeds; push succeeds on seed 0, breaks on seed 4, and its seed 3 is missing from the side."""
    if episode.task == "reach":
        return "success"
    if (episode.scenario.seed, episode.camera) == (3, "side+yaw10"):
        return None
    return {0: "success", 4: "error"}.get(episode.scenario.seed, "failure")


@pytest.fixture
def run(write_run):
    return ResultStore.read(write_run("r1", outcome, cameras=("front", "side+yaw10")))


# --- One row per episode ------------------------------------------------------------------------------------------


def test_a_row_holds_what_pairs_and_what_happened(run):
    rows = {row["episode_id"]: row for row in episode_rows(run)}
    assert len(rows) == len(run.results)
    row = rows["toy/push@side+yaw10/s004"]
    assert row == {
        "eval_id": run.manifest.spec.digest,
        "suite": "toy",
        "task": "push",
        "instruction": "push the block onto the green disc",
        "scenario_key": "s004",
        "scenario_id": "toy/push/s004",
        "episode_id": "toy/push@side+yaw10/s004",
        "seed": 4,
        "init_state_id": None,
        "camera": "side",
        "camera_pose_id": "side+yaw10",
        "protocol": "default",
        "agent": "random",
        "privileged": False,
        "status": "error",
        "success": None,
        "steps": 12,
        "first_success_step": None,
        "return": 1.5,
        "infer_s": 0.01,
        "infer_calls": 12,
        "wall_s": 0.1,
        "failure_reason": "it broke",
        "video": None,
    }
    assert rows["toy/reach@front/s000"]["success"] is True
    assert rows["toy/push@front/s001"]["success"] is False


def test_rows_come_in_the_order_of_the_spec_however_the_run_finished(write_run):
    folder = write_run("r1")
    path = folder / "episodes.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    run = ResultStore.read(folder)
    ids = [row["episode_id"] for row in episode_rows(run)]
    assert ids == [episode.id for episode in run.manifest.spec.episodes()]
    assert ids != [result.id for result in run.results]


def test_a_recorded_episode_names_its_video(run):
    path = video_path(run.folder, "toy/reach@front/s000")
    path.parent.mkdir()
    path.write_bytes(b"")
    videos = {row["episode_id"]: row["video"] for row in episode_rows(run)}
    assert run.folder / videos.pop("toy/reach@front/s000") == path
    assert set(videos.values()) == {None}


def test_a_run_of_a_suite_that_is_not_installed_can_be_exported(write_run):
    rows = episode_rows(ResultStore.read(write_run("r1", suite="someone-elses")))
    assert {row["instruction"] for row in rows} == {None}


def test_column_types_do_not_depend_on_what_is_missing(write_run, run):
    clean = ResultStore.read(write_run("r2"))
    assert dict(episode_frame(run).dtypes) == dict(episode_frame(clean).dtypes)


def test_csv_is_read_back(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(export, ["r1", "--format", "csv", "--out", "new/r1.csv"])
    assert ran.exit_code == 0, ran.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "new" / "r1.csv").read_text())))
    assert [row["episode_id"] for row in rows] == [row["episode_id"] for row in episode_rows(run)]
    assert float(rows[0]["return"]) == 1.5
    assert {row["success"] for row in rows if row["status"] == "error"} == {""}
    assert "Warning: r1 is not finished: 1 episodes have no result yet." in ran.output


def test_parquet_is_read_back_with_types_and_manifest(run, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(export, ["r1", "--format", "parquet"])
    assert ran.exit_code == 0, ran.output
    path = tmp_path / "results" / "runs" / "exports" / "r1.parquet"
    frame = pd.read_parquet(path)
    pd.testing.assert_frame_equal(frame, episode_frame(run))
    assert frame["success"].isna().sum() == 2
    manifest = json.loads(parquet.read_schema(path).metadata[b"flowbench"])
    assert manifest["spec_digest"] == run.manifest.spec.digest


# --- lm-eval ------------------------------------------------------------------------------------------------------


def test_lm_eval_results_are_those_of_the_tables(run):
    data = lm_eval_results(run)
    push = data["results"]["toy/push"]
    assert (push["n"], push["n_success"], push["n_error"], push["n_missing"]) == (7, 2, 2, 1)
    assert push["success_rate,none"] == pytest.approx((1 / 4 + 1 / 3) / 2), "the mean of its two cameras"
    reach = data["results"]["toy/reach"]
    assert reach["success_rate_ci95,none"] == pytest.approx(list(wilson_interval(5, 5)))
    assert data["groups"]["toy"] == data["results"]["toy"]
    assert data["group_subtasks"] == {"toy": ["toy/reach", "toy/push"]}
    assert data["n-samples"]["toy/push"] == {"original": 10, "effective": 7}
    assert data["higher_is_better"]["toy"] == {"success_rate": True}
    assert data["versions"] == {"toy": 1, "toy/reach": 1, "toy/push": 1}
    assert data["model_name"] == "random"
    assert data["config"]["spec"] == run.manifest.spec.to_json()


def test_the_standard_error_is_lm_evals(write_run):
    folder = write_run(
        "r1", lambda e: "success" if e.scenario.seed < 2 else "failure", tasks=("push",), cameras=("front",)
    )
    entry = lm_eval_results(ResultStore.read(folder))["results"]["toy"]
    outcomes = pd.Series([1, 1, 0, 0, 0])
    assert entry["success_rate_stderr,none"] == pytest.approx(outcomes.sem())


def test_a_rate_of_nothing_is_null(write_run):
    entry = lm_eval_results(ResultStore.read(write_run("r1", lambda e: "error")))["results"]["toy"]
    assert entry["success_rate,none"] is None and entry["success_rate_stderr,none"] is None
    json.dumps(entry, allow_nan=False)


def test_task_hashes_are_equal_for_equal_episodes_of_any_agent(write_run):
    first, same, other = (
        lm_eval_results(ResultStore.read(folder))["task_hashes"]
        for folder in (write_run("a"), write_run("b", agent="zero"), write_run("c", seeds=(0, 1)))
    )
    assert first == same
    assert not set(first.values()) & set(other.values())


def test_a_folder_gets_results_and_samples_as_lm_eval_names_them(run, tmp_path):
    written = write_lm_eval(run, tmp_path / "out")
    moment = datetime.fromisoformat(run.manifest.created).strftime("%Y-%m-%dT%H-%M-%S.%f")
    assert [path.name for path in written] == [
        f"samples_toy__reach_{moment}.jsonl",
        f"samples_toy__push_{moment}.jsonl",
        f"results_{moment}.json",
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in written}, (
        "nothing half-written"
    )
    samples = [json.loads(line) for line in written[1].read_text().splitlines()]
    assert [sample["doc_id"] for sample in samples] == list(range(9))
    assert {sample["task"] for sample in samples} == {"push"}
    assert json.loads(written[2].read_text())["results"] == lm_eval_results(run)["results"]


def test_a_json_file_gets_the_results_alone(run, tmp_path):
    assert write_lm_eval(run, tmp_path / "r.json") == [tmp_path / "r.json"]
    assert json.loads((tmp_path / "r.json").read_text())["groups"]["toy"]["n"] == 17


# --- Weights & Biases ---------------------------------------------------------------------------------------------


def test_wandb_keeps_an_offline_run(write_run, tmp_path):
    pytest.importorskip("wandb", reason="needs pip install 'flowbench[wandb]'")
    write_run("r1")
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    command = [sys.executable, "-m", "flowbench", "export", "r1", "--format", "wandb", "--out", "w"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    (file,) = (tmp_path / "w").rglob("*.wandb")
    assert b"toy/push/success_rate" in file.read_bytes()


# --- Mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module, format_, sentence",
    [
        ("pyarrow", "parquet", "Export to Parquet needs an extra that is not installed (no module named 'pyarrow'). "),
        (
            "wandb",
            "wandb",
            "Export to Weights & Biases needs an extra that is not installed (no module named 'wandb'). ",
        ),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(run, monkeypatch, module, format_, sentence):
    import builtins

    real = builtins.__import__

    def without(name, *rest, **named):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    ran = CliRunner().invoke(export, [str(run.folder), "--format", format_])
    assert isinstance(ran.exception, MissingExtra)
    assert str(ran.exception) == f"{sentence}Install it: pip install 'flowbench[{format_}]'"


def test_bad_input_is_refused_in_one_sentence(write_run, tmp_path, monkeypatch):
    write_run("empty", lambda e: None)
    write_run("r1")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(export, ["nowhere", "--format", "csv"])
    assert isinstance(ran.exception, StoreError)
    ran = CliRunner().invoke(export, ["empty", "--format", "csv"])
    assert str(ran.exception).startswith(
        "empty holds a run without a finished episode. Go on with it by its own command"
    )
    ran = CliRunner().invoke(export, ["r1", "--format", "csv", "--out", "empty"])
    assert isinstance(ran.exception, BadValue)
    assert str(ran.exception) == "--out empty is a folder; give the name of a file."
    ran = CliRunner().invoke(export, ["r1", "--format", "csv", "--out", "r1/manifest.json/x.csv"])
    assert "--out r1/manifest.json/x.csv cannot be written: " in str(ran.exception)
    ran = CliRunner().invoke(export, ["r1", "--format", "xlsx"])
    assert (ran.exit_code, "'xlsx' is not one of" in ran.output) == (2, True)
