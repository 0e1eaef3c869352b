"""A run for other programs: lm-eval's results file, one row per episode as CSV or Parquet, or a Weights & Biases run.

Names of fields follow lm-evaluation-harness where it has one, so that what reads its files reads ours. Nothing is computed
that the tables do not show.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowbench.atomic import write_atomically, write_text_atomically
from flowbench.errors import BadValue, FlowBenchError, missing_extra
from flowbench.recording import video_path
from flowbench.registry import get_suite
from flowbench.result import EpisodeResult
from flowbench.store import Run
from flowbench.tables import RunSummary, Score, count_errors, score_of
from flowbench.task import Scenario

if TYPE_CHECKING:
    import pandas as pd

METRIC = "success_rate"


def episode_rows(run: Run) -> list[dict[str, Any]]:
    """Return one flat row per stored episode, in the order of the spec.

    `success` is None for an error, which is neither a success nor a failure.
    """
    instructions = _instructions(run.manifest.spec.suite)
    order = {episode.id: index for index, episode in enumerate(run.manifest.spec.episodes())}
    results = sorted(run.results, key=lambda result: order.get(result.id, len(order)))
    return [_episode_row(run, result, instructions) for result in results]


def _episode_row(run: Run, result: EpisodeResult, instructions: Mapping[str, str]) -> dict[str, Any]:
    scenario = Scenario(result.seed, result.init_state).key
    video = video_path(run.folder, result.id)
    return {
        "eval_id": run.manifest.spec.digest,
        "suite": result.suite,
        "task": result.task,
        "instruction": instructions.get(result.task),
        "scenario_key": scenario,
        "scenario_id": f"{result.suite}/{result.task}/{scenario}",
        "episode_id": result.id,
        "seed": result.seed,
        "init_state_id": result.init_state,
        "camera": result.camera.partition("+")[0],
        "camera_pose_id": result.camera,
        "protocol": result.protocol,
        "agent": result.agent,
        "privileged": result.privileged,
        "status": result.status,
        "success": None if result.status == "error" else result.status == "success",
        "steps": result.steps,
        "first_success_step": result.first_success,
        "return": result.total_reward,
        "infer_s": result.agent_seconds,
        "infer_calls": result.agent_calls,
        "wall_s": result.seconds,
        "failure_reason": result.error,
        **{f"metric_{name}": value for name, value in result.metrics.items()},
        "video": str(video.relative_to(run.folder)) if video.is_file() else None,
    }


def _instructions(suite: str) -> dict[str, str]:
    """Return the instruction of each task, as far as the suite is known here."""
    try:
        return {task.name: task.instruction for task in get_suite(suite).tasks}
    except (FlowBenchError, ImportError):
        return {}


def episode_frame(run: Run) -> pd.DataFrame:
    """Return `episode_rows` as a table whose column types do not depend on which values happen to be missing."""
    import pandas as pd

    types = {
        **dict.fromkeys(("seed", "init_state_id", "steps", "first_success_step", "infer_calls"), "Int64"),
        **dict.fromkeys(("privileged", "success"), "boolean"),
        **dict.fromkeys(("return", "infer_s", "wall_s"), "Float64"),
    }
    frame = pd.DataFrame(episode_rows(run))
    # What agents counted themselves; a run without such an agent has no such column.
    types |= {name: "Float64" for name in frame.columns if name.startswith("metric_")}
    return frame.astype({name: types.get(name, "string") for name in frame.columns})


# --- lm-evaluation-harness ----------------------------------------------------------------------------------------


def lm_eval_results(run: Run) -> dict[str, Any]:
    """Return a run as lm-evaluation-harness writes its `results_*.json`: the suite is a group, its tasks are tasks."""
    manifest, spec = run.manifest, run.manifest.spec
    cells = count_errors(RunSummary.from_results(manifest, run.results).cells, "exclude")
    scores: dict[str, Score | None] = {spec.suite: score_of(cells)}
    for task in dict.fromkeys(cells.index.get_level_values("task")):
        scores[f"{spec.suite}/{task}"] = score_of(cells[cells.index.get_level_values("task") == task])
    names = list(scores)
    results = {name: _lm_eval_entry(name, score) for name, score in scores.items() if score}
    configs = {
        name: {"task": name, "protocol": spec.protocol, "cameras": list(spec.cameras), "max_steps": spec.max_steps}
        for name in names[1:]
    }
    return {
        "schema_version": 1,
        "results": results,
        "groups": {spec.suite: results[spec.suite]},
        "group_subtasks": {spec.suite: names[1:]},
        "configs": configs,
        "versions": dict.fromkeys(names, spec.suite_version),
        "n-shot": dict.fromkeys(names[1:], 0),
        "higher_is_better": {name: {METRIC: True} for name in names},
        "n-samples": {name: _sample_counts(score) for name, score in scores.items() if score},
        "config": {
            "agent": spec.agent.name,
            "agent_args": dict(spec.agent.arguments),
            "checkpoint": spec.agent.checkpoint,
            "content_sha256": spec.agent.content_sha256,
            "device": manifest.device,
            "limit": spec.limit,
            "spec": spec.to_json(),
        },
        "git_hash": manifest.commit,
        "date": datetime.fromisoformat(manifest.created).timestamp(),
        "pretty_env_info": "\n".join(
            f"{key}: {value}" for key, value in {**manifest.platform, **manifest.renderer, **manifest.versions}.items()
        ),
        "task_hashes": _task_hashes(run),
        "model_source": "flowbench",
        "model_name": spec.agent.name,
        "model_name_sanitized": _file_name(spec.agent.name),
        "command": manifest.command,
        "privileged": manifest.privileged,
        "total_evaluation_time_seconds": str(sum(result.seconds for result in run.results)),
    }


def _lm_eval_entry(name: str, score: Score) -> dict[str, Any]:
    """Return one entry; the standard error is lm-eval's for a mean of 0 and 1, sqrt(p (1 - p) / (n - 1))."""
    known = not math.isnan(score.rate)
    stderr = math.sqrt(score.rate * (1 - score.rate) / (score.n - 1)) if known and score.n > 1 else None
    return {
        "alias": name,
        f"{METRIC},none": score.rate if known else None,
        f"{METRIC}_stderr,none": stderr,
        f"{METRIC}_ci95,none": [score.low, score.high] if known else None,
        "n": score.n,
        "n_success": score.successes,
        "n_error": score.errors,
        "n_missing": score.missing,
    }


def _task_hashes(run: Run) -> dict[str, str]:
    """Return a hash of each task's episode ids: equal hashes mean that the same episodes were asked for."""
    ids: dict[str, list[str]] = {}
    for episode in run.manifest.spec.episodes():
        ids.setdefault(f"{episode.suite}/{episode.task}", []).append(episode.id)
    return {name: hashlib.sha256("\n".join(sorted(members)).encode()).hexdigest() for name, members in ids.items()}


def _sample_counts(score: Score) -> dict[str, int]:
    return {"original": score.n + score.errors + score.missing, "effective": score.n}


# --- Files --------------------------------------------------------------------------------------------------------


def write_lm_eval(run: Run, out: Path) -> list[Path]:
    """Write a `.json` file with the results, or a folder with lm-eval's results file and a samples file per task.

    Returns:
        What was written.

    Raises:
        BadValue: If it cannot be written.
    """
    text = json.dumps(lm_eval_results(run), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if out.suffix == ".json" and not out.is_dir():
        write_text_atomically(out, text)
        return [out]
    moment = datetime.fromisoformat(run.manifest.created).strftime("%Y-%m-%dT%H-%M-%S.%f")
    written = []
    by_task: dict[str, list[str]] = {}
    for row in episode_rows(run):
        sample = {"doc_id": len(by_task.setdefault(row["task"], [])), **row}
        by_task[row["task"]].append(json.dumps(sample, ensure_ascii=False) + "\n")
    for task, lines in by_task.items():
        name = _file_name(f"{run.manifest.spec.suite}/{task}")
        written.append(out / f"samples_{name}_{moment}.jsonl")
        write_text_atomically(written[-1], "".join(lines))
    # Last, so that a results file means that its samples are there.
    written.append(out / f"results_{moment}.json")
    write_text_atomically(written[-1], text)
    return written


def write_csv(run: Run, out: Path) -> list[Path]:
    """Write one line per episode; what does not exist is empty.

    Raises:
        BadValue: If it cannot be written.
    """
    frame = episode_frame(run)
    write_atomically(out, lambda path: frame.to_csv(path, index=False, lineterminator="\n"))
    return [out]


def write_parquet(run: Run, out: Path) -> list[Path]:
    """Write one row per episode, and the manifest as the file's metadata under `flowbench`.

    Raises:
        MissingExtra: If pyarrow is not installed.
        BadValue: If it cannot be written.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("Export to Parquet", "parquet", error) from error

    table = pyarrow.Table.from_pandas(episode_frame(run), preserve_index=False)
    manifest = json.dumps(run.manifest.to_json()).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"flowbench": manifest})
    write_atomically(out, lambda path: pyarrow.parquet.write_table(table, path))
    return [out]


#: Format name on the command line -> (writer, extension of the default file; empty for a folder).
FILE_FORMATS: dict[str, tuple[Callable[[Run, Path], list[Path]], str]] = {
    "lm-eval-json": (write_lm_eval, ""),
    "csv": (write_csv, ".csv"),
    "parquet": (write_parquet, ".parquet"),
}


# --- Weights & Biases ---------------------------------------------------------------------------------------------


def log_to_wandb(run: Run, project: str, folder: Path) -> str:
    """Log a run's spec, rates and episodes to Weights & Biases; `WANDB_MODE=offline` keeps it on this machine.

    Args:
        run: The run.
        project: Name of the project.
        folder: Where wandb keeps its files.

    Returns:
        Where it can be found.

    Raises:
        MissingExtra: If wandb is not installed.
        BadValue: If wandb refuses.
    """
    try:
        import wandb
    except ImportError as error:
        raise missing_extra("Export to Weights & Biases", "wandb", error) from error
    if not hasattr(wandb, "init"):
        # A folder called wandb, which its own offline runs leave behind, imports as an empty package.
        raise missing_extra("Export to Weights & Biases", "wandb", "what is imported is a folder of that name")

    folder.mkdir(parents=True, exist_ok=True)
    try:
        logged = wandb.init(
            project=project,
            name=run.folder.resolve().name,
            config={"spec": run.manifest.spec.to_json(), "manifest": run.manifest.to_json()},
            dir=str(folder),
        )
    except wandb.Error as error:
        raise BadValue(
            f"wandb could not start a run ({error}). Log in with `wandb login`, or keep it on this machine: WANDB_MODE=offline"
        ) from error
    try:
        for name, entry in lm_eval_results(run)["results"].items():
            logged.summary.update(
                {f"{name}/{key.partition(',')[0]}": value for key, value in entry.items() if key != "alias"}
            )
        rows = episode_rows(run)
        columns = list(rows[0])
        logged.log({"episodes": wandb.Table(columns=columns, data=[[row[name] for name in columns] for row in rows])})
    finally:
        logged.finish()
    return logged.url or str(Path(logged.dir).parent)


def _file_name(name: str) -> str:
    """Return a name that can be part of a file's name."""
    return re.sub(r"[^\w.-]+", "__", name).strip("_")
