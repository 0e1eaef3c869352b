"""Checks of a whole recording, in worker processes: structure, checksums, and a replay of every demonstration.

A simulator can abort its process, so none runs in the one that reports; a worker that dies is one problem of one
demonstration.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from flowbench.data.checks import structural_problems
from flowbench.data.demonstration import DemoInfo, DemoReader
from flowbench.data.readers import open_demos
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.replay import Replay, Replayer, why_not_replayable
from flowbench.errors import BadValue, FlowBenchError, RunFailed, unknown_name
from flowbench.workers import TaskQueues, thread_limits


@dataclass(frozen=True)
class VerifyOptions:
    """What is verified.

    Attributes:
        replay: Whether actions are executed again.
        pictures: Whether one stored moment of each demonstration is rendered again.
    """

    replay: bool = True
    pictures: bool = True


class DemoVerdict(NamedTuple):
    """What was found out about one demonstration.

    Attributes:
        name: Its name.
        problems: One sentence for everything that does not hold.
        warnings: What may differ without being wrong, e.g. pixels of another GPU.
        replay: The replay, if there was one.
        agrees: Whether the replay ended as stored; None without a replay or a stored outcome.
        not_replayed: Why there was no replay; empty if there was one.
    """

    name: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    replay: Replay | None = None
    agrees: bool | None = None
    not_replayed: str = ""


def choose_demos(reader: DemoReader, text: str | None) -> tuple[int, ...]:
    """Read `--demos`: a number of demonstrations, evenly spaced, or names.

    Raises:
        UnknownName: If there is no demonstration of that name.
        BadValue: If the number is not positive, or the recording is empty.
    """
    if not reader.demos:
        raise BadValue(f"{reader.path} holds no demonstrations.")
    number = len(reader.demos)
    if text is None:
        return tuple(range(number))
    names = {info.name: index for index, info in enumerate(reader.demos)}
    # A name may be a number, in folders that count.
    if text.isdigit() and text not in names:
        count = int(text)
        if count < 1:
            raise BadValue(f"--demos {text} verifies nothing; give a number from 1, or names.")
        # Spread over the file, and so over its tasks.
        count = min(count, number)
        return tuple(dict.fromkeys(round(place * (number - 1) / max(1, count - 1)) for place in range(count)))
    return tuple(dict.fromkeys(find_demo(reader, name.strip()) for name in text.split(",") if name.strip()))


def find_demo(reader: DemoReader, name: str) -> int:
    """Return the index of a demonstration.

    Raises:
        UnknownName: With the nearest name.
    """
    names = {info.name: index for index, info in enumerate(reader.demos)}
    if name not in names:
        step = f"List tasks and counts: flowbench data info {reader.path}"
        raise unknown_name("demonstration", name, names, str(reader.path), step)
    return names[name]


def verify_file(reader: DemoReader) -> list[str]:
    """Return one sentence for everything that does not hold of the file as a whole."""
    problems = []
    attributes = getattr(reader, "attributes", None) or {}
    counts = {"num_demos": len(reader.demos), "total": sum(info.steps for info in reader.demos)}
    for name, counted in counts.items():
        if name in attributes and attributes[name] != counted:
            problems.append(f"the file says {name} = {attributes[name]}, and there are {counted}")
    return problems


class DemoVerifier:
    """Verifies demonstrations one by one, in the process that it lives in."""

    def __init__(self, reader: DemoReader, options: VerifyOptions) -> None:
        self.reader, self.options = reader, options
        self._replayer = Replayer(reader, pictures=options.pictures)

    def verify(self, demo: int) -> DemoVerdict:
        """Verify one demonstration."""
        info = self.reader.demos[demo]
        problems = structural_problems(self.reader, demo)
        if isinstance(self.reader, FlowBenchHdf5):
            problems += self.reader.checksum_problems(demo)
        reason = why_not_replayable(info)
        if not self.options.replay:
            reason = "replay is switched off"
        if reason or problems:
            # What is damaged is not worth executing.
            return DemoVerdict(info.name, tuple(problems), not_replayed=reason or "its contents are damaged")
        try:
            replay = self._replayer.replay(demo)
        except FlowBenchError as error:
            self._replayer.close()
            problem = str(error).removesuffix(".")
            return DemoVerdict(info.name, (problem,), not_replayed="its replay was refused")
        return _judge(info, replay)

    def close(self) -> None:
        """Free the simulator and the file."""
        self._replayer.close()
        self.reader.close()


def _judge(info: DemoInfo, replay: Replay) -> DemoVerdict:
    problems, warnings = [], list(replay.pictures)
    agrees = None if info.success is None else replay.success == info.success
    if agrees is False:
        words = {True: "success", False: "failure"}
        problems.append(f"its replay ends in {words[replay.success]}; stored is {words[bool(info.success)]}")
    if replay.difference is not None:
        (problems if replay.exact else warnings).append(str(replay.difference))
    return DemoVerdict(info.name, tuple(problems), tuple(warnings), replay, agrees)


class _Item(NamedTuple):
    """One demonstration, with the name of what its simulator is built for."""

    demo: int
    task: str


@dataclass
class _Worker:
    process: Any
    connection: Connection
    item: _Item | None = None
    task: str | None = None

    def stop(self) -> None:
        self.connection.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def verify_demos(
    reader: DemoReader, demos: Iterable[int], options: VerifyOptions | None = None, workers: int = 1
) -> Iterator[DemoVerdict]:
    """Yield the verdict of every demonstration as it is reached.

    Args:
        reader: The recording; each worker opens it for itself.
        demos: Indices of demonstrations.
        options: What is verified.
        workers: Number of processes, one simulator each.

    Raises:
        RunFailed: If a worker fails for a reason that lies in FlowBench; with its traceback.
    """
    items = []
    for demo in demos:
        info = reader.demos[demo]
        items.append(_Item(demo, f"{info.suite}/{info.task}"))
    queues = TaskQueues(items)
    pool: list[_Worker] = []
    try:
        while queues or pool:
            while queues and len(pool) < min(workers, len(items)):
                worker = _start(reader, options or VerifyOptions())
                pool.append(worker)
                _send_next(worker, queues)
            for connection in wait([worker.connection for worker in pool]):
                worker = next(worker for worker in pool if worker.connection is connection)
                try:
                    answer = connection.recv()
                except (EOFError, ConnectionError):
                    pool.remove(worker)
                    worker.process.join(timeout=5)
                    yield _crashed(reader, worker)
                    continue
                if isinstance(answer, FlowBenchError):
                    raise answer
                yield answer
                if not _send_next(worker, queues):
                    pool.remove(worker)
                    worker.stop()
    finally:
        for worker in pool:
            worker.process.kill()
            worker.stop()


def _start(reader: DemoReader, options: VerifyOptions) -> _Worker:
    # spawn: a forked OpenGL driver or thread pool does not survive.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_worker_main, args=(theirs, reader.path, reader.format, options), daemon=True)
    with thread_limits():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _send_next(worker: _Worker, queues: TaskQueues) -> bool:
    worker.item = queues.next(worker.task) if queues else None
    if worker.item is None:
        return False
    worker.task = worker.item.task
    # A worker that is already dead is noticed when its answer is waited for.
    with suppress(ConnectionError):
        worker.connection.send(worker.item.demo)
    return True


def _crashed(reader: DemoReader, worker: _Worker) -> DemoVerdict:
    code = worker.process.exitcode
    how = f"ended with exit code {code}"
    if code is not None and code < 0:
        with suppress(ValueError):
            how = f"was killed by {signal.Signals(-code).name}"
        how += " (out of memory?)" if -code == signal.SIGKILL else ""
    problem = f"its worker process {how} while verifying it"
    return DemoVerdict(reader.demos[worker.item.demo].name, (problem,), not_replayed="its worker process died")


def _worker_main(connection: Connection, path: Path, format_name: str, options: VerifyOptions) -> None:
    # Ctrl-C reaches the whole process group; the parent decides what to do with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    verifier = None
    try:
        verifier = DemoVerifier(open_demos(path, format_name), options)
        while True:
            connection.send(verifier.verify(connection.recv()))
    except (EOFError, ConnectionError):
        pass  # The parent has no more, or is gone.
    except FlowBenchError as error:
        connection.send(error)
    except BaseException:
        connection.send(RunFailed(f"A worker failed:\n{traceback.format_exc()}"))
    finally:
        if verifier is not None:
            verifier.close()
