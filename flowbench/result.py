"""What one episode came to: the line that the store keeps and the tables count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from flowbench.spec import EpisodeSpec

Status = Literal["success", "failure", "error"]
STATUSES: tuple[Status, ...] = ("success", "failure", "error")


class ChainLink(NamedTuple):
    """One instruction of a chain that was given.

    Attributes:
        task: Its name.
        success: Whether it was carried out.
        steps: Agent steps that were taken for it.
    """

    task: str
    success: bool
    steps: int


class Outcome(NamedTuple):
    """The part of a result that must be equal whenever the same episode is run again."""

    id: str
    status: Status
    steps: int
    first_success: int | None
    total_reward: float


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode.

    Attributes:
        id: Id of the episode.
        suite: Name of the suite.
        task: Name of the task.
        camera: Text of the camera pose.
        seed: Scenario seed.
        init_state: Index of the stored initial state; None where there is none.
        protocol: Name of the protocol.
        agent: Name of the agent.
        privileged: Whether the agent read simulator state.
        status: `success`, `failure`, or `error` when the episode could not be carried out.
        steps: Agent steps taken.
        first_success: Step of the first success, counted from 1; None if there was none.
        total_reward: Sum of the simulator's rewards.
        seconds: Wall time of the episode, reset included.
        agent_seconds: Wall time spent in the agent's `reset` and `act`.
        agent_calls: Number of times the agent was asked for actions.
        error: What went wrong, in one line; None unless `status` is `error`.
        metrics: What the agent counted or timed itself since its last `reset`, by name (`Agent.episode_metrics`); empty if it
            does not, or broke.
        chain: The instructions that were given, where the protocol is a chain of them; else None.
    """

    id: str
    suite: str
    task: str
    camera: str
    seed: int
    init_state: int | None
    protocol: str
    agent: str
    privileged: bool
    status: Status
    steps: int
    first_success: int | None
    total_reward: float
    seconds: float
    agent_seconds: float
    agent_calls: int
    error: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    chain: tuple[ChainLink, ...] | None = None

    def __post_init__(self) -> None:
        if self.chain is not None:
            # A stored line holds plain lists.
            object.__setattr__(self, "chain", tuple(ChainLink(*link) for link in self.chain))

    @property
    def completed(self) -> int:
        """Number of instructions in a row that were carried out; 1 or 0 where there is only one."""
        if self.chain is None:
            return int(self.status == "success")
        return sum(link.success for link in self.chain)

    @classmethod
    def of(cls, episode: EpisodeSpec, **rest: Any) -> EpisodeResult:
        """Return the result of an episode; `rest` are the fields that its spec does not hold."""
        return cls(
            id=episode.id,
            suite=episode.suite,
            task=episode.task,
            camera=episode.camera,
            seed=episode.scenario.seed,
            init_state=episode.scenario.init_state,
            **rest,
        )

    @property
    def outcome(self) -> Outcome:
        """What must not depend on workers, order, time or machine load."""
        return Outcome(self.id, self.status, self.steps, self.first_success, self.total_reward)
