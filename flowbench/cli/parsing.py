"""Text of options to values, with errors that show the right form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from flowbench.errors import BadValue
from flowbench.manifest import content_hash
from flowbench.registry import agent_class, wants_checkpoint
from flowbench.spec import AgentSpec


def parse_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_indices(text: str, option: str) -> tuple[int, ...]:
    """Read indices such as `0-4` or `0,3,10-12`.

    Raises:
        BadValue: If the text has another form.
    """
    indices: list[int] = []
    for part in parse_names(text):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise BadValue(f"{option} {text!r} is not a list of numbers and ranges such as 0-4 or 0,3,10-12.")
        indices.extend(range(first, last + 1))
    if not indices:
        raise BadValue(f"{option} is empty; give numbers and ranges such as 0-4 or 0,3,10-12.")
    return tuple(indices)


def parse_size(text: str) -> tuple[int, int]:
    """Read an image size such as `320x240` (width x height).

    Raises:
        BadValue: If the text has another form.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise BadValue(f"--image-size {text!r} is not of the form WIDTHxHEIGHT, e.g. 320x240.")
    return int(match[1]), int(match[2])


def parse_arguments(text: str) -> dict[str, Any]:
    """Read `key=value,key=value`; values are JSON where they can be (numbers, true, null, lists), else text.

    Raises:
        BadValue: If a part has no `=`.
    """
    arguments: dict[str, Any] = {}
    # A comma inside brackets or quotes belongs to a value.
    for part in re.findall(r"(?:[^,\[{\"]|\[[^\]]*\]|\{[^}]*\}|\"[^\"]*\")+", text):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise BadValue(
                f"--agent-args {text!r} has a part {part!r} that is not key=value. Write for example rule=robust,dwell=10."
            )
        try:
            arguments[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key.strip()] = {"True": True, "False": False, "None": None}.get(value.strip(), value.strip())
    return arguments


def agent_spec(options: Mapping[str, Any]) -> AgentSpec:
    """Return the agent that `--agent`, `--agent-args` and `--checkpoint` name.

    Without `--checkpoint`, an agent may have one that comes with it for the suite.

    Raises:
        FlowBenchError: If there is no such agent, or no such checkpoint.
    """
    name, arguments, checkpoint = options["agent"], parse_arguments(options["agent_args"]), options["checkpoint"]
    cls, suite = agent_class(name), options["suite"]
    default_for = getattr(cls, "default_checkpoint", None)
    if checkpoint is None and default_for is not None and "checkpoint" not in arguments:
        checkpoint = default_for(name, suite)
        if checkpoint is None and wants_checkpoint(cls):
            raise BadValue(
                f"Agent {name} needs a checkpoint, and none comes with it for suite {suite}. Give one with --checkpoint PATH, or "
                f"train one: flowbench train --agent {name} --suite {suite} --data FILE --preset small --out DIR"
            )
    return AgentSpec(
        name=name, arguments=arguments, checkpoint=checkpoint, content_sha256=content_hash(name, checkpoint)
    )


def describe_checkpoint(agent: AgentSpec) -> str:
    """Return one line about an agent's checkpoint and how it was trained; empty if the agent cannot tell."""
    describe = getattr(agent_class(agent.name), "describe_checkpoint", None)
    return f"Checkpoint: {describe(agent.checkpoint)}." if describe and agent.checkpoint else ""
