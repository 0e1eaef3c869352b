"""Errors a user can act on: one sentence that names the thing, the value, what is allowed and the next step.

Everything below is a `FlowBenchError`; the command line prints its message alone and exits with `exit_code`. Any other
exception is a defect of FlowBench or of a plug-in and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FlowBenchError(Exception):
    """Base of every error whose message is written for the user."""

    exit_code = 2


class UnknownName(FlowBenchError):
    """Raised when an agent, suite, task, camera, protocol or option value does not exist."""


class BadValue(FlowBenchError):
    """Raised when a value has the right name but the wrong form or range."""


class ShapeError(FlowBenchError):
    """Raised when an array has the wrong shape or dtype."""


class MissingExtra(FlowBenchError):
    """Raised when an optional dependency is needed and not installed."""


class CameraError(FlowBenchError):
    """Raised when a camera pose cannot be built, or shows nothing useful."""


class ActionError(FlowBenchError):
    """Raised when an agent returns something that is not a valid action."""


class AgentError(FlowBenchError):
    """Raised when an agent breaks the agent contract."""


class PrivilegeError(FlowBenchError):
    """Raised when an agent that did not declare `privileged` reaches for simulator state."""


class StaleObservation(FlowBenchError):
    """Raised when a lazy observation is read after the simulator moved on."""


class RenderingUnavailable(FlowBenchError):
    """Raised when no off-screen OpenGL implementation can be used."""


class SimulatorLost(FlowBenchError):
    """Raised when a simulator that runs in a process of its own has ended or does not answer."""


class StoreError(FlowBenchError):
    """Raised when a result folder cannot be read or written as asked."""


class DataError(FlowBenchError):
    """Raised when demonstrations cannot be read, written or made as asked."""


class PreflightError(FlowBenchError):
    """Raised when an evaluation would waste hours, before it starts."""


class RunFailed(FlowBenchError):
    """Raised when a run stops for a reason that is not the user's input."""

    exit_code = 1


def unknown_name(kind: str, value: str, allowed: Iterable[str], where: str = "", next_step: str = "") -> UnknownName:
    """Build the error for a name that does not exist, with the nearest one that does.

    Args:
        kind: What was named, e.g. `"task"`.
        value: What the user wrote.
        allowed: The names that exist.
        where: Where it was looked up, e.g. `"suite metaworld11"`; may be empty.
        next_step: A sentence that says how to list or add names; may be empty.
    """
    names = sorted(set(allowed))
    folded = {name.lower().replace("_", "-"): name for name in names}
    near = difflib.get_close_matches(value.lower().replace("_", "-"), folded, n=1, cutoff=0.5)
    owner = f"{where} has no {kind}" if where else f"There is no {kind}"
    message = f"{owner} {value!r}."
    if near:
        message += f" Did you mean {folded[near[0]]!r}?"
    if names and (not near or len(names) <= 12):
        message += " Available: " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") + "."
    if next_step:
        message += f" {next_step}"
    return UnknownName(message)


def missing_extra(feature: str, extra: str, cause: BaseException | str | None = None) -> MissingExtra:
    """Build the error for an optional dependency that is not installed, with the command that installs it."""
    reason = ""
    if isinstance(cause, ModuleNotFoundError):
        reason = f" (no module named {cause.name!r})"
    elif cause:
        reason = f" ({cause})"
    return MissingExtra(
        f"{feature} needs an extra that is not installed{reason}. Install it: pip install 'flowbench[{extra}]'"
    )
