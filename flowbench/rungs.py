"""What a ladder is made of: an evaluation of an agent with some of its parts made perfect.

Agents that have parts say so with a static method `ladder`; `flowbench.ladder` runs and compares what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowbench.errors import BadValue
from flowbench.manifest import content_hash
from flowbench.registry import agent_class
from flowbench.spec import AgentSpec, EvalSpec


@dataclass(frozen=True)
class Rung:
    """One evaluation of a ladder.

    Attributes:
        name: Its folder, unique in the ladder.
        group: Rungs of one group are compared with each other, e.g. one per rule; empty for rungs that belong to all.
        says: What is true in it, for people.
        agent: Registered name of the agent.
        arguments: Its constructor arguments.
        checkpoint: Its checkpoint; None if it has none.
        part: What is no longer perfect, against the rung before it in the group; None for a control.
    """

    name: str
    group: str
    says: str
    agent: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    part: str | None = None

    def spec(self, spec: EvalSpec) -> EvalSpec:
        """Return an evaluation with this rung's agent."""
        agent = AgentSpec(self.agent, dict(self.arguments), self.checkpoint, content_hash(self.agent, self.checkpoint))
        return replace(spec, agent=agent)


def rungs_of(agent: str, **options: Any) -> tuple[Rung, ...]:
    """Return the ladder of an agent: what its class answers in `ladder(**options)`.

    Raises:
        BadValue: If the agent has none.
        FlowBenchError: If it does not exist, or the options do not fit.
    """
    ladder = getattr(agent_class(agent), "ladder", None)
    if ladder is None:
        raise BadValue(
            f"Agent {agent} has no ladder: it does not say which of its parts can be made perfect. Agent avdc does; another can "
            "with a static method `ladder` (docs/ladder.md)."
        )
    return ladder(**options)
