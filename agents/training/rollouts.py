"""Trying an agent in its suite while it is trained, in a process of its own, and keeping the best.

A simulator may crash, leak or hang, and must not share a process with hours of training; `flowbench eval` is run as a user
would run it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flowbench.errors import FlowBenchError
from flowbench.store import ResultStore

ROLLOUTS, BEST = "rollouts", "best"


@dataclass(frozen=True)
class RolloutPlan:
    """When to try the agent, and where.

    Attributes:
        every: Steps between two trials; the last step is always tried.
        suite: Name of the suite.
        agent: How `flowbench eval --agent` finds the agent.
        arguments: Further options of `flowbench eval`, e.g. `("--episodes", "2")`.
    """

    every: int
    suite: str
    agent: str
    arguments: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What a trial found.

    Attributes:
        step: Step of the weights.
        folder: Checkpoint of the weights.
        success: Share of successful episodes; None if the trial could not be carried out.
        remark: Why not.
    """

    step: int
    folder: Path
    success: float | None
    remark: str = ""


class Rollouts:
    """At most one trial at a time, beside the training."""

    def __init__(self, plan: RolloutPlan, out: Path) -> None:
        self._plan, self._out = plan, out
        self._process: subprocess.Popen[bytes] | None = None
        self._step = 0

    def due(self, step: int) -> bool:
        """Return whether a trial belongs to this step."""
        return step % self._plan.every == 0

    def folder(self, step: int) -> Path:
        """Return where the checkpoint of a step's trial lies."""
        return self._out / ROLLOUTS / f"step-{step}"

    def start(self, step: int, checkpoint: Path) -> None:
        """Start a trial."""
        run = self._run(step)
        # A trial that an interruption cut short is not continued with other weights.
        shutil.rmtree(run, ignore_errors=True)
        command = [sys.executable, "-m", "flowbench", "eval", "--quiet", "--max-errors", "1000000"]
        command += ["--agent", self._plan.agent, "--checkpoint", str(checkpoint), "--suite", self._plan.suite]
        command += ["--out", str(run), *self._plan.arguments]
        with (self._out / ROLLOUTS / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._step = step

    @property
    def running(self) -> bool:
        """Whether a trial is under way."""
        return self._process is not None and self._process.poll() is None

    def outcome(self) -> Outcome | None:
        """Return what the last trial found, once; None if there is none, or it is still running."""
        if self._process is None or self.running:
            return None
        code, self._process = self._process.returncode, None
        step, folder = self._step, self.folder(self._step)
        try:
            results = ResultStore.read(self._run(step)).results if code == 0 else ()
        except FlowBenchError:
            results = ()
        carried_out = [result for result in results if result.status != "error"]
        if not carried_out:
            log = self._out / ROLLOUTS / "log.txt"
            return Outcome(step, folder, None, f"The rollouts of step {step} could not be carried out; see {log}.")
        return Outcome(step, folder, sum(result.status == "success" for result in carried_out) / len(carried_out))

    def keep_best(self, outcome: Outcome) -> None:
        """Make a trial's checkpoint the best one."""
        best = self._out / BEST
        fresh = best.with_name(f".{BEST}-{outcome.step}")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(outcome.folder, fresh)
        shutil.rmtree(best, ignore_errors=True)
        fresh.rename(best)

    def stop(self) -> None:
        """End a trial that is still running."""
        if self.running:
            self._process.terminate()
            self._process.wait()

    def _run(self, step: int) -> Path:
        return self._out / ROLLOUTS / f"step-{step}-run"
