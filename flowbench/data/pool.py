"""Demonstrations handed to worker processes, one simulator each: a simulator can abort its process, so none runs in the
one that reports.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

from flowbench.data.demonstration import DemoReader
from flowbench.errors import FlowBenchError, RunFailed
from flowbench.workers import TaskQueues, describe_exit, thread_limits


class Handler(Protocol):
    """What a worker does with a demonstration; made once per process."""

    def __call__(self, demo: int) -> Any:
        """Return the answer for one demonstration; it must be picklable."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class Crash(NamedTuple):
    """The answer for a demonstration whose worker died.

    Attributes:
        how: E.g. `was killed by SIGSEGV`.
    """

    how: str


class _Item(NamedTuple):
    """One demonstration, with the name of what its simulator is built for."""

    demo: int
    task: str


@dataclass
class _Worker:
    process: Any
    connection: Connection
    item: _Item | None = None

    def stop(self) -> None:
        self.connection.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def map_demos(
    make: Callable[[], Handler], reader: DemoReader, demos: Iterable[int], workers: int
) -> Iterator[tuple[int, Any]]:
    """Yield (demonstration, answer) as answers come in.

    A worker keeps its task, and with it its simulator, as long as there is something to do for it.

    Args:
        make: Makes the handler, in the worker; must be picklable.
        reader: The recording, for the tasks.
        demos: Indices of demonstrations.
        workers: Number of processes; 0 runs in this one.

    Raises:
        FlowBenchError: If a handler cannot be made.
        RunFailed: If one fails for a reason that is not the user's; with its traceback.
    """
    if workers == 0:
        handler = make()
        try:
            for demo in demos:
                yield demo, handler(demo)
        finally:
            handler.close()
        return
    items = [_Item(demo, f"{reader.demos[demo].suite}/{reader.demos[demo].task}") for demo in demos]
    queues = TaskQueues(items)
    pool: list[_Worker] = []
    try:
        while queues or pool:
            while queues and len(pool) < min(workers, len(items)):
                pool.append(_start(make))
                _send_next(pool[-1], queues)
            for connection in wait([worker.connection for worker in pool]):
                worker = next(worker for worker in pool if worker.connection is connection)
                demo = worker.item.demo
                try:
                    answer = connection.recv()
                except (EOFError, ConnectionError):
                    pool.remove(worker)
                    yield demo, Crash(describe_exit(worker.process))
                    continue
                if isinstance(answer, FlowBenchError):
                    raise answer
                yield demo, answer
                if not _send_next(worker, queues):
                    pool.remove(worker)
                    worker.stop()
    finally:
        for worker in pool:
            worker.process.kill()
            worker.stop()


def _start(make: Callable[[], Handler]) -> _Worker:
    # spawn: a forked OpenGL driver or thread pool does not survive.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_worker_main, args=(theirs, make), daemon=True)
    with thread_limits():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _send_next(worker: _Worker, queues: TaskQueues) -> bool:
    worker.item = queues.next(worker.item.task if worker.item else None) if queues else None
    if worker.item is None:
        return False
    # A worker that is already dead is noticed when its answer is waited for.
    with suppress(ConnectionError):
        worker.connection.send(worker.item.demo)
    return True


def _worker_main(connection: Connection, make: Callable[[], Handler]) -> None:
    # Ctrl-C reaches the whole process group; the parent decides what to do with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handler = None
    try:
        handler = make()
        while True:
            connection.send(handler(connection.recv()))
    except (EOFError, ConnectionError):
        pass  # The parent has no more, or is gone.
    except FlowBenchError as error:
        connection.send(error)
    except BaseException:
        connection.send(RunFailed(f"A worker failed:\n{traceback.format_exc()}"))
    finally:
        if handler is not None:
            handler.close()
