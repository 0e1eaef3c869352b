"""Checks of a whole recording, in worker processes: structure, checksums, and a replay of every demonstration.

A worker that dies is one problem of one demonstration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from flowbench.data.checks import structural_problems
from flowbench.data.demonstration import DemoInfo, DemoReader
from flowbench.data.pool import Crash, map_demos
from flowbench.data.readers import open_demos
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.replay import Replay, Replayer, why_not_replayable
from flowbench.errors import BadValue, FlowBenchError, unknown_name


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
    chosen = tuple(dict.fromkeys(find_demo(reader, name.strip()) for name in text.split(",") if name.strip()))
    if not chosen:
        raise BadValue(
            f"--demos {text!r} names no demonstration; give a number, or names such as {reader.demos[0].name}."
        )
    return chosen


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

    def __call__(self, demo: int) -> DemoVerdict:
        """Verify one demonstration."""
        info = self.reader.demos[demo]
        damaged = structural_problems(self.reader, demo)
        problems = damaged + (self.reader.checksum_problems(demo) if isinstance(self.reader, FlowBenchHdf5) else [])
        if not self.options.replay:
            reason = "--no-replay"
        elif damaged:
            # What is damaged is not worth executing.
            reason = "damaged contents"
        else:
            reason = why_not_replayable(info)
        if reason:
            return DemoVerdict(info.name, tuple(problems), not_replayed=reason)
        try:
            replay = self._replayer.replay(demo)
        except Exception as error:  # One demonstration that breaks a simulator must not end the check of the others.
            self._replayer.close()
            message = str(error).removesuffix(".")
            problems.append(message if isinstance(error, FlowBenchError) else f"{type(error).__name__}: {message}")
            return DemoVerdict(info.name, tuple(problems), not_replayed="refused by the simulator or unreadable")
        return _judge(info, replay, problems)

    def close(self) -> None:
        """Free the simulator and the file."""
        self._replayer.close()
        self.reader.close()


def _judge(info: DemoInfo, replay: Replay, problems: list[str]) -> DemoVerdict:
    problems, warnings = list(problems), list(replay.pictures)
    agrees = None if info.success is None else replay.success == info.success
    if agrees is False:
        words = {True: "success", False: "failure"}
        problems.append(f"its replay ends in {words[replay.success]}; stored is {words[bool(info.success)]}")
    if replay.difference is not None:
        (problems if replay.exact else warnings).append(str(replay.difference))
    return DemoVerdict(info.name, tuple(problems), tuple(warnings), replay, agrees)


def verify_demos(
    reader: DemoReader, demos: Iterable[int], options: VerifyOptions | None = None, workers: int = 1
) -> Iterator[DemoVerdict]:
    """Yield the verdict of every demonstration as it is reached.

    Args:
        reader: The recording; each worker opens it for itself.
        demos: Indices of demonstrations.
        options: What is verified.
        workers: Number of processes, one simulator each; 0 runs in this one.

    Raises:
        RunFailed: If a worker fails for a reason that lies in FlowBench; with its traceback.
    """
    make = partial(_make_verifier, reader.path, reader.format, options or VerifyOptions())
    for demo, answer in map_demos(make, reader, demos, workers):
        if isinstance(answer, Crash):
            problem = f"its worker process {answer.how} while verifying it"
            yield DemoVerdict(reader.demos[demo].name, (problem,), not_replayed="worker process died")
        else:
            yield answer


def _make_verifier(path: Path, format_name: str, options: VerifyOptions) -> DemoVerifier:
    return DemoVerifier(open_demos(path, format_name), options)
