"""Planners: from what is seen now and a sentence, to what is going to happen. Chosen by name, made by anyone.

A planner is any class with `needs`, `identity`, `reset` and `plan` (`flowbench.agents.planning.plan.Planner`), registered
under the entry-point group `flowbench.planners`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flowbench.agents.planning.plan import Plan, Planner, Window
from flowbench.errors import BadValue, missing_extra, unknown_name
from flowbench.registry import entries_of

PLANNER_GROUP = "flowbench.planners"

__all__ = ["PLANNER_GROUP", "Plan", "Planner", "Window", "make_planner", "planner_names"]


def planner_names() -> list[str]:
    """Return the names of every installed planner, without importing one."""
    return list(entries_of(PLANNER_GROUP))


def make_planner(
    name: str, arguments: Mapping[str, Any] | None = None, *, device: str = "cpu", checkpoint: str | None = None
) -> Planner:
    """Build a planner.

    Args:
        name: A registered name, e.g. `"oracle"`.
        arguments: Constructor arguments.
        device: Passed on if the constructor has a parameter of that name.
        checkpoint: Likewise.

    Raises:
        UnknownName: With the nearest name of a planner or argument.
        BadValue: If a checkpoint is missing, or given to a planner that has none.
        MissingExtra: If what the planner needs is not installed.
    """
    entries = entries_of(PLANNER_GROUP)
    if name not in entries:
        raise unknown_name("planner", name, entries)
    try:
        cls = entries[name].load()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flowbench"):
            raise
        raise missing_extra(f"Planner {name}", "agents", error) from error
    parameters = inspect.signature(cls).parameters
    given = dict(arguments or {})
    for argument in given:
        if argument not in parameters:
            step = "Arguments come from --agent-args planner_args={...}."
            raise unknown_name("argument", argument, parameters, f"Planner {name}", step)
    if checkpoint is not None:
        if "checkpoint" not in parameters:
            raise BadValue(f"Planner {name} takes no checkpoint, but --checkpoint {checkpoint} was given.")
        given["checkpoint"] = checkpoint
    elif "checkpoint" in parameters and parameters["checkpoint"].default is inspect.Parameter.empty:
        raise BadValue(f"Planner {name} needs a checkpoint. Give it with --checkpoint PATH.")
    if "device" in parameters:
        given.setdefault("device", device)
    try:
        return cls(**given)
    except TypeError as error:
        raise BadValue(f"Planner {name} could not be built from {given}: {error}.") from error
