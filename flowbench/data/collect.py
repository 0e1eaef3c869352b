"""Demonstrations of many tasks into one file: attempts until enough are kept, resumable at any moment."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from flowbench.data.collect_spec import CollectSpec
from flowbench.data.demo_runner import DemoRunner
from flowbench.data.layout import DATA
from flowbench.data.parts import Parts, check_same, demonstration_path, parts_folder, what_is_kept
from flowbench.data.writer import merge
from flowbench.errors import BadValue, DataError, StoreError
from flowbench.manifest import RunManifest, command_line
from flowbench.preflight import PreflightReport, preflight
from flowbench.registry import get_suite
from flowbench.result import EpisodeResult
from flowbench.runner import RunOptions
from flowbench.spec import EpisodeSpec
from flowbench.suite import Suite
from flowbench.task import Scenario
from flowbench.workers import preflight_in_process, run_episodes

#: Tasks whose start is tried before a collection begins.
PREFLIGHT_TASKS = 4
#: Building a simulator, and a software-rendered frame per camera, per task.
PREFLIGHT_TIMEOUT_PER_TASK_S = 120.0


@dataclass(frozen=True)
class CollectOptions:
    """How to run a collection; nothing here changes what is collected.

    Attributes:
        workers: Number of processes; 0 runs in this one.
        device: Device given to the agent.
        episode_timeout_s: Seconds after which an attempt counts as hung, its rendering included.
        progress: Whether to show a progress bar.
    """

    workers: int = 1
    device: str = "cpu"
    episode_timeout_s: float | None = 3600.0
    progress: bool = True


class TaskCount(NamedTuple):
    """What came of one task.

    Attributes:
        kept: Demonstrations in the file.
        attempted: Episodes that were run.
        errors: Episodes that could not be carried out.
    """

    kept: int
    attempted: int
    errors: int


@dataclass(frozen=True)
class Collection:
    """A finished collection.

    Attributes:
        path: The file.
        spec: What was collected.
        steps: Steps of all demonstrations.
        tasks: What came of each task; empty if the file was already there.
        first_error: What went wrong in the first attempt that was an error; None if there was none.
    """

    path: Path
    spec: CollectSpec
    steps: int
    tasks: dict[str, TaskCount]
    first_error: str | None = None

    @property
    def already_complete(self) -> bool:
        """Whether the file was there before, and nothing was run."""
        return not self.tasks

    @property
    def minutes(self) -> float:
        """Simulated time of all demonstrations."""
        return self.steps / get_suite(self.spec.suite).control_hz / 60

    @property
    def short(self) -> list[str]:
        """Tasks with fewer demonstrations than asked for."""
        return [task for task, count in self.tasks.items() if count.kept < self.spec.demonstrations]


def collect(spec: CollectSpec, out: Path, options: CollectOptions | None = None) -> Collection:
    """Collect demonstrations into one HDF5 file.

    Scripts that call this must guard it with `if __name__ == "__main__":`, because worker processes import the script.

    Args:
        spec: What to collect.
        out: The file to make; it appears when it is complete. Until then everything lies in `<out>.parts/`.
        options: How to run it.

    Raises:
        FlowBenchError: If the spec is wrong, `out` holds something else, nothing could be kept, or the disk is full.
        KeyboardInterrupt: Passed on; everything that had finished is kept for the next call.
    """
    options, out = options or CollectOptions(), Path(out)
    suite = check_options(spec, options)
    if (steps := _steps_of_existing(out, spec)) is not None:
        return Collection(out, spec, steps, {})
    with Parts(out, spec) as parts:
        results = _run(spec, options, parts)
        tasks = {task: _count(spec, parts, task, results) for task in spec.tasks}
        first_error = next((result.error for result in results.values() if result.status == "error"), None)
        kept = [
            demonstration_path(parts.folder, episode)
            for task in spec.tasks
            for episode in _kept(spec, parts, task, results)
        ]
        if not kept:
            attempted = sum(count.attempted for count in tasks.values())
            reason = f" The first error: {first_error}." if first_error else ""
            raise DataError(
                f"None of {attempted} episodes of {spec.suite} by agent {spec.agent.name} is a demonstration, so nothing was "
                f"written to {out}.{reason} See how far it gets with flowbench eval, or keep failures with --keep-failures."
            )
        manifest = RunManifest.collect(spec, command=command_line(), privileged=False, device=options.device)
        provenance = {
            name: getattr(manifest, name) for name in ("command", "created", "versions", "commit", "dirty", "platform")
        }
        steps = merge(out, kept, spec, suite, provenance, what_is_kept(parts.folder))
        parts.remove()
    return Collection(out, spec, steps, tasks, first_error)


def check_options(spec: CollectSpec, options: CollectOptions) -> Suite:
    """Check what can be checked without starting anything, and return the suite.

    Raises:
        FlowBenchError: In one sentence.
    """
    suite = spec.check()
    if options.workers < 0:
        raise BadValue(f"--workers is {options.workers}; give 1 or more, or 0 to run in this process.")
    return suite


def run_preflight(spec: CollectSpec, options: CollectOptions, *, thorough: bool = False) -> PreflightReport:
    """Start the first attempt of each task (of at most `PREFLIGHT_TASKS` tasks unless `thorough`), with all cameras."""
    limit = len(spec.tasks) if thorough else PREFLIGHT_TASKS
    # Spread over the suite: neighbours in a suite tend to share a scene.
    chosen = dict.fromkeys(spec.tasks[index * len(spec.tasks) // limit] for index in range(limit))
    episodes = [spec.attempts(task)[0] for task in chosen]
    run_options = RunOptions(options.device)
    if options.workers == 0:
        runner = DemoRunner(spec, run_options)
        try:
            return preflight(runner, episodes)
        finally:
            runner.close()
    timeout_s = PREFLIGHT_TIMEOUT_PER_TASK_S * (1 + len(episodes)) * max(1, len(spec.cameras))
    return preflight_in_process(spec, run_options, episodes, timeout_s, runner_class=DemoRunner)


def next_attempts(spec: CollectSpec, parts: Parts, task: str, results: dict[str, EpisodeResult]) -> list[EpisodeSpec]:
    """Return the attempts of a task that are still missing: if all of them succeed, it has what it needs.

    The attempts that are made in the end are the first ones up to the last that was needed, whatever the number of workers
    and interruptions.
    """
    missing: list[EpisodeSpec] = []
    possible = 0
    for episode in spec.attempts(task):
        if possible == spec.demonstrations:
            break
        result = results.get(episode.scenario_id)
        if result is None:
            missing.append(episode)
        possible += result is None or parts.keeps(result)
    return missing


def _run(spec: CollectSpec, options: CollectOptions, parts: Parts) -> dict[str, EpisodeResult]:
    """Make every attempt that is missing, and return the results of all by scenario id."""
    results = parts.results()
    kept = sum(map(parts.keeps, results.values()))
    privileged: bool | None = None
    with _progress(spec, kept, options) as bar:
        while batch := [episode for task in spec.tasks for episode in next_attempts(spec, parts, task, results)]:
            if privileged is None:
                report = run_preflight(spec, options)
                privileged = report.privileged
                for warning in report.warnings:
                    print(f"Warning: {warning}", file=sys.stderr)
            by_scenario = {episode.scenario_id: episode for episode in batch}
            rollouts = run_episodes(
                spec,
                RunOptions(options.device, folder=parts.folder),
                batch,
                options.workers,
                privileged=privileged,
                episode_timeout_s=options.episode_timeout_s,
                runner_class=DemoRunner,
            )
            for finished in rollouts:
                result = finished.result
                scenario_id = f"{result.suite}/{result.task}/{_key(result)}"
                parts.record(by_scenario[scenario_id], result)
                results[scenario_id] = result
                bar.set_postfix_str(f"{len(results)} attempts", refresh=False)
                bar.update(parts.keeps(result))
    return results


def _key(result: EpisodeResult) -> str:
    return Scenario(result.seed, result.init_state).key


def _kept(spec: CollectSpec, parts: Parts, task: str, results: dict[str, EpisodeResult]) -> list[EpisodeSpec]:
    attempted = [episode for episode in spec.attempts(task) if episode.scenario_id in results]
    return [episode for episode in attempted if parts.keeps(results[episode.scenario_id])][: spec.demonstrations]


def _count(spec: CollectSpec, parts: Parts, task: str, results: dict[str, EpisodeResult]) -> TaskCount:
    own = [result for result in results.values() if result.task == task]
    errors = sum(result.status == "error" for result in own)
    return TaskCount(len(_kept(spec, parts, task, results)), len(own), errors)


def _progress(spec: CollectSpec, kept: int, options: CollectOptions) -> tqdm:
    return tqdm(
        total=spec.demonstrations * len(spec.tasks),
        initial=kept,
        unit="demo",
        disable=not options.progress,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
        file=sys.stderr,
    )


def _steps_of_existing(out: Path, spec: CollectSpec) -> int | None:
    """Return the steps of a file that already holds this collection; None if there is no file.

    Raises:
        DataError: If there is something else.
    """
    import h5py

    if out.is_dir():
        raise DataError(f"{out} is a folder; --out needs the name of a file, e.g. {out / 'demonstrations.h5'}.")
    if not out.exists():
        return None
    try:
        with h5py.File(out, "r") as file:
            attributes = dict(file[DATA].attrs)
        stored = CollectSpec.from_json(json.loads(attributes["spec"]))
    except (OSError, KeyError, ValueError, TypeError, StoreError) as error:
        raise DataError(
            f"{out} exists and is not a complete file of flowbench collect ({error}). Choose another --out, or delete it."
        ) from error
    check_same(stored, spec, out)
    # Killed after the file was in place and before its parts were removed.
    if parts_folder(out).is_dir():
        with Parts(out, spec) as parts:
            parts.remove()
    return int(attributes["total"])
