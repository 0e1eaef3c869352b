"""Many episodes: from a spec to a result folder, resumable at any moment."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flowbench.errors import BadValue
from flowbench.manifest import RunManifest, command_line
from flowbench.preflight import PreflightReport, preflight
from flowbench.recording import RecordFormat, RecordMode, check_formats
from flowbench.result import EpisodeResult
from flowbench.rollout import Rollout
from flowbench.runner import EpisodeRunner, RunOptions
from flowbench.spec import EpisodeSpec, EvalSpec
from flowbench.store import ResultStore, Run
from flowbench.workers import preflight_in_process, run_episodes

#: Tasks that the preflight tries; with `thorough` it tries all.
PREFLIGHT_TASKS = 4
#: Building a simulator, and a software-rendered frame per camera, per task.
PREFLIGHT_TIMEOUT_PER_TASK_S = 120.0
ERRORS_NAME = "errors.log"


@dataclass(frozen=True)
class EvalOptions:
    """How to run a spec; nothing here changes an outcome.

    Attributes:
        workers: Number of processes; 0 runs in this one, for debugging an agent.
        device: Device given to the agent.
        resume: Whether to continue a folder that holds the same spec.
        retry_errors: Whether to run episodes again whose last attempt was an error.
        record: Which episodes are recorded.
        record_formats: As what: `mp4` videos, `rrd` recordings for Rerun.
        episode_timeout_s: Seconds after which an episode counts as hung.
        progress: Whether to show a progress bar.
    """

    workers: int = 1
    device: str = "cpu"
    resume: bool = True
    retry_errors: bool = False
    record: RecordMode = "none"
    record_formats: tuple[RecordFormat, ...] = ("mp4",)
    episode_timeout_s: float | None = 3600.0
    progress: bool = True


def evaluate(spec: EvalSpec, folder: Path, options: EvalOptions | None = None) -> Run:
    """Run every episode of a spec that the folder does not hold yet.

    Scripts that call this must guard it with `if __name__ == "__main__":`, because worker processes import the script.

    Args:
        spec: What to evaluate.
        folder: Where the run is kept.
        options: How to run it.

    Returns:
        The run with all its results.

    Raises:
        FlowBenchError: If the spec is wrong, the folder holds another run, or the preflight fails.
        KeyboardInterrupt: Passed on; everything that had finished is stored.
    """
    options = options or EvalOptions()
    check_options(spec, options)
    folder = Path(folder)
    ResultStore.check(folder, spec, resume=options.resume)
    done = ResultStore.scan(folder).done(retry_errors=options.retry_errors)
    if any(episode.id not in done for episode in spec.episodes()):
        report = run_preflight(spec, options)
        for warning in report.warnings:
            print(f"Warning: {warning}", file=sys.stderr)
        manifest = RunManifest.collect(
            spec,
            command=command_line(),
            privileged=report.privileged,
            modalities=report.modalities,
            device=options.device,
            renderer=report.renderer,
        )
        with ResultStore.open(folder, manifest, resume=options.resume) as store:
            _run(spec, options, store, report.privileged)
    return ResultStore.read(folder)


def check_options(spec: EvalSpec, options: EvalOptions) -> None:
    """Check what can be checked without starting anything.

    Raises:
        FlowBenchError: In one sentence.
    """
    spec.check()
    if options.workers < 0:
        raise BadValue(f"--workers is {options.workers}; give 1 or more, or 0 to run in this process.")
    if options.record in ("failures", "all"):
        check_formats(options.record_formats)


def run_preflight(spec: EvalSpec, options: EvalOptions, *, thorough: bool = False) -> PreflightReport:
    """Start one episode of each task and camera (of at most `PREFLIGHT_TASKS` tasks unless `thorough`)."""
    episodes = _first_episodes(spec, None if thorough else PREFLIGHT_TASKS)
    run_options = RunOptions(options.device, options.record, options.record_formats)
    if options.workers == 0:
        runner = EpisodeRunner(spec, run_options)
        try:
            return preflight(runner, episodes)
        finally:
            runner.close()
    return preflight_in_process(spec, run_options, episodes, PREFLIGHT_TIMEOUT_PER_TASK_S * (1 + len(episodes)))


def _run(spec: EvalSpec, options: EvalOptions, store: ResultStore, privileged: bool) -> None:
    from flowbench.progress import EvalProgress

    done = store.completed.done(retry_errors=options.retry_errors)
    episodes = spec.episodes()
    pending = [episode for episode in episodes if episode.id not in done]
    run_options = RunOptions(options.device, options.record, options.record_formats, store.folder)
    before = [result for result in ResultStore.read(store.folder).results if result.id in done]
    with EvalProgress(len(episodes), before, enabled=options.progress) as progress:
        rollouts = run_episodes(
            spec,
            run_options,
            pending,
            options.workers,
            privileged=privileged,
            episode_timeout_s=options.episode_timeout_s,
        )
        for finished in rollouts:
            store.append(finished.result)
            if finished.traceback:
                _log_error(store.folder, finished)
            progress.add(finished.result)


def _first_episodes(spec: EvalSpec, limit: int | None) -> list[EpisodeSpec]:
    """Return the first episode of every task and camera, for at most `limit` tasks."""
    episodes = spec.episodes()
    tasks = list(dict.fromkeys(episode.task for episode in episodes))
    if limit is not None and len(tasks) > limit:
        # Spread over the suite: neighbours in a suite tend to share a scene.
        tasks = [tasks[index * len(tasks) // limit] for index in range(limit)]
    chosen: dict[tuple[str, str], EpisodeSpec] = {}
    for episode in episodes:
        if episode.task in tasks:
            chosen.setdefault((episode.task, episode.camera), episode)
    return list(chosen.values())


def _log_error(folder: Path, finished: Rollout) -> None:
    with (folder / ERRORS_NAME).open("a") as file:
        file.write(f"=== {finished.result.id}\n{finished.traceback}\n")


def count_errors(results: Iterable[EpisodeResult]) -> int:
    """Return how many episodes could not be carried out."""
    return sum(result.status == "error" for result in results)
