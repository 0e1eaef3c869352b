"""Worker processes: one simulator each, watched, and replaced when they die.

A simulator can abort the whole process, hang, or leave its OpenGL context in a state that no reset repairs, so episodes
never run in the process that keeps the results.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from flowbench.errors import FlowBenchError, RunFailed
from flowbench.preflight import PreflightReport, preflight
from flowbench.result import EpisodeResult
from flowbench.rollout import Rollout
from flowbench.runner import EpisodeRunner, RunOptions
from flowbench.spec import EpisodeSpec, EvalSpec

#: Numerical libraries get one thread in every worker unless the user says otherwise: how sums are split over threads
#: changes their last bits, and outcomes must not depend on the number of workers.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

#: A worker that has not built its agent after this many seconds is taken for hung.
START_TIMEOUT_S = 900.0


class TaskQueues:
    """Hands out episodes so that a worker keeps its task, and with it its simulator, as long as possible."""

    def __init__(self, episodes: Iterable[EpisodeSpec]) -> None:
        self._queues: dict[str, list[EpisodeSpec]] = {}
        for episode in episodes:
            self._queues.setdefault(episode.task, []).append(episode)
        for queue in self._queues.values():
            queue.reverse()
        self._users: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def next(self, current_task: str | None) -> EpisodeSpec | None:
        """Return the next episode for a worker that holds `current_task`'s simulator; None when nothing is left."""
        if current_task not in self._queues:
            if not self._queues:
                return None
            # The task that fewest workers are on; among those the longest, so that the end is not one long task.
            task = min(self._queues, key=lambda name: (self._users.get(name, 0), -len(self._queues[name])))
            if current_task is not None:
                self._users[current_task] = self._users.get(current_task, 1) - 1
            self._users[task] = self._users.get(task, 0) + 1
            current_task = task
        queue = self._queues[current_task]
        episode = queue.pop()
        if not queue:
            del self._queues[current_task]
        return episode


@dataclass
class _Worker:
    process: Any
    connection: Connection
    lifeline: Connection
    ready: bool = False
    episode: EpisodeSpec | None = None
    task: str | None = None
    since: float = 0.0

    def stop(self) -> None:
        self.connection.close()
        self.lifeline.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class WorkerPool:
    """Runs episodes in `count` processes."""

    def __init__(
        self,
        spec: EvalSpec,
        options: RunOptions,
        count: int,
        *,
        privileged: bool,
        episode_timeout_s: float | None,
        runner_class: type[EpisodeRunner] = EpisodeRunner,
    ) -> None:
        """Describe the pool; processes start with `run`.

        Args:
            spec: The evaluation.
            options: What does not change outcomes.
            count: Number of processes.
            privileged: Whether the agent is privileged; for results of episodes whose worker died.
            episode_timeout_s: Seconds after which an episode counts as hung; None waits forever.
            runner_class: Built as `runner_class(spec, options)` in every process; runs the episodes.
        """
        self.spec, self.options, self.count = spec, options, count
        self.privileged = privileged
        self.runner_class = runner_class
        self.episode_timeout_s = episode_timeout_s
        self._workers: list[_Worker] = []

    def run(self, episodes: Iterable[EpisodeSpec]) -> Iterator[Rollout]:
        """Yield every episode's rollout as it finishes.

        Raises:
            FlowBenchError: If a worker cannot build the agent or a simulator.
        """
        queues = TaskQueues(episodes)
        try:
            while queues or self._workers:
                while queues and len(self._workers) < self.count:
                    self._workers.append(_start_worker(self.spec, self.options, self.runner_class))
                yield from self._collect(queues)
        finally:
            self.close()

    def close(self) -> None:
        """Stop every worker, in the middle of an episode if need be."""
        for worker in self._workers:
            if worker.episode is not None:
                worker.process.kill()
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _collect(self, queues: TaskQueues) -> Iterator[Rollout]:
        for connection in wait([worker.connection for worker in self._workers], timeout=1.0):
            worker = next(worker for worker in self._workers if worker.connection is connection)
            try:
                message = connection.recv()
            except (EOFError, ConnectionResetError):
                yield from self._bury(worker, _death(worker))
                continue
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Rollout):
                worker.episode = None
                yield message
            worker.ready = True
            self._hand_out(worker, queues)
        yield from self._bury_hung()

    def _hand_out(self, worker: _Worker, queues: TaskQueues) -> None:
        episode = queues.next(worker.task)
        if episode is None:
            self._workers.remove(worker)
            worker.stop()
            return
        worker.episode, worker.task, worker.since = episode, episode.task, time.monotonic()
        # A worker that has died since its last message is found, with its episode, by the next read.
        with suppress(OSError):
            worker.connection.send(episode)

    def _bury_hung(self) -> Iterator[Rollout]:
        now = time.monotonic()
        for worker in list(self._workers):
            if not worker.ready and now - worker.since > START_TIMEOUT_S:
                raise RunFailed(
                    f"A worker did not start within {START_TIMEOUT_S:g} s; look at the agent's constructor."
                )
            limit = self.episode_timeout_s
            if worker.episode is not None and limit is not None and now - worker.since > limit:
                worker.process.kill()
                yield from self._bury(
                    worker, f"the episode took more than --episode-timeout {limit:g} s and was stopped"
                )

    def _bury(self, worker: _Worker, cause: str) -> Iterator[Rollout]:
        self._workers.remove(worker)
        worker.stop()
        if not worker.ready:
            raise RunFailed(f"A worker process ended before it could run an episode: {cause}.")
        if worker.episode is not None:
            yield Rollout(self._error_result(worker, cause), "")

    def _error_result(self, worker: _Worker, cause: str) -> EpisodeResult:
        episode = worker.episode
        return EpisodeResult.of(
            episode,
            protocol=self.spec.protocol,
            agent=self.spec.agent.name,
            privileged=self.privileged,
            status="error",
            steps=0,
            first_success=None,
            total_reward=0.0,
            seconds=round(time.monotonic() - worker.since, 4),
            agent_seconds=0.0,
            agent_calls=0,
            error=f"Agent {self.spec.agent.name}: {cause}",
        )


def run_episodes(
    spec: EvalSpec,
    options: RunOptions,
    episodes: list[EpisodeSpec],
    workers: int,
    *,
    privileged: bool,
    episode_timeout_s: float | None,
    runner_class: type[EpisodeRunner] = EpisodeRunner,
) -> Iterator[Rollout]:
    """Yield every episode's rollout as it finishes, from `workers` processes, or from this one if that is 0.

    The other arguments are those of `WorkerPool`.
    """
    if workers == 0:
        runner = runner_class(spec, options)
        try:
            yield from map(runner.run, episodes)
        finally:
            runner.close()
        return
    pool = WorkerPool(
        spec,
        options,
        min(workers, len(episodes)),
        privileged=privileged,
        episode_timeout_s=episode_timeout_s,
        runner_class=runner_class,
    )
    yield from pool.run(episodes)


def preflight_in_process(
    spec: EvalSpec,
    options: RunOptions,
    episodes: list[EpisodeSpec],
    timeout_s: float,
    runner_class: type[EpisodeRunner] = EpisodeRunner,
) -> PreflightReport:
    """Run the preflight in a process of its own.

    Args:
        spec: The evaluation.
        options: What does not change outcomes.
        episodes: The episodes to try, one per task.
        timeout_s: Seconds after which the preflight counts as hung.
        runner_class: As `WorkerPool` takes it.

    Raises:
        FlowBenchError: What the preflight found.
        RunFailed: If the process dies or hangs.
    """
    worker = _start_worker(spec, options, runner_class)
    try:
        sent = False
        deadline = time.monotonic() + timeout_s
        while True:
            if not wait([worker.connection], timeout=max(0.0, deadline - time.monotonic())):
                worker.process.kill()
                raise RunFailed(
                    f"The preflight did not finish within {timeout_s:g} s. Run flowbench doctor to see whether rendering works."
                )
            try:
                message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                raise RunFailed(f"The preflight failed: {_death(worker)}. Run flowbench doctor.") from None
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, PreflightReport):
                return message
            if not sent:
                worker.connection.send(episodes)
                sent = True
    finally:
        worker.stop()


def _start_worker(spec: EvalSpec, options: RunOptions, runner_class: type[EpisodeRunner]) -> _Worker:
    # spawn: a forked OpenGL driver or thread pool does not survive.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    lifeline_end, lifeline = context.Pipe(duplex=False)
    process = context.Process(
        target=_worker_main, args=(theirs, lifeline_end, spec, options, runner_class), daemon=True
    )
    with thread_limits():
        process.start()
    theirs.close()
    lifeline_end.close()
    return _Worker(process, ours, lifeline, since=time.monotonic())


@contextmanager
def thread_limits() -> Iterator[None]:
    """Let processes that are started inside have one thread per numerical library, unless the user says otherwise."""
    added = [name for name in _THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _worker_main(
    connection: Connection,
    lifeline: Connection,
    spec: EvalSpec,
    options: RunOptions,
    runner_class: type[EpisodeRunner],
) -> None:
    # Ctrl-C reaches the whole process group; the parent decides what to do with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, args=(lifeline,), daemon=True).start()
    runner = None
    try:
        runner = runner_class(spec, options)
        connection.send("ready")
        while True:
            request = connection.recv()
            if isinstance(request, EpisodeSpec):
                connection.send(runner.run(request))
            else:
                connection.send(preflight(runner, request))
    except (EOFError, ConnectionError):
        pass  # The parent is gone.
    except FlowBenchError as error:
        connection.send(error)
    except BaseException:
        connection.send(RunFailed(f"A worker failed outside an episode:\n{traceback.format_exc()}"))
    finally:
        if runner is not None:
            runner.close()


def _exit_with_parent(lifeline: Connection) -> None:
    """Wait until the parent is gone, then leave at once, in the middle of an episode if need be."""
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        # Also reached when the pool closes the pipe: give the regular end a moment.
        time.sleep(5)
        os._exit(1)


def _death(worker: _Worker) -> str:
    return f"its worker process {describe_exit(worker.process)}"


def describe_exit(process: Any) -> str:
    """Return how a process ended, e.g. `was killed by SIGSEGV`; it must be about to end."""
    process.join(timeout=5)
    code = process.exitcode
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
