"""The agent contract: what a method under evaluation needs, and the two calls it answers.

An agent is any object with `needs`, `reset` and `act`; no base class is required. Chunk execution is a wrapper around
an agent, not a feature of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from flowbench.camera import CameraParams
from flowbench.errors import ActionError
from flowbench.observation import Observation
from flowbench.task import ImageView, Task


@dataclass(frozen=True)
class Needs:
    """What an agent wants to see; the environment renders just this.

    Attributes:
        modalities: Subset of rgb, depth, segmentation, calibration, flow; empty renders nothing at all.
        extra_cameras: Named views wanted besides the episode's camera, e.g. a wrist camera.
        image_size: (width, height) in pixels; None takes the suite's default.
        image_view: Image orientation; None takes the protocol's.
        action_convention: Convention of the returned actions; None means that the agent reads it from the task.
        privileged: Whether the agent reads simulator state; it is marked in every table.
    """

    modalities: tuple[str, ...] = ()
    extra_cameras: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    image_view: ImageView | None = None
    action_convention: str | None = None
    privileged: bool = False


@runtime_checkable
class Agent(Protocol):
    """The thing evaluated.

    Constructor arguments come from `--agent-args`; a constructor that has parameters named `device` or `checkpoint`
    gets those of the command line. A class whose checkpoints are more than a path may have static methods
    `default_checkpoint(agent, suite)`, the name of one that comes with it or None, `checkpoint_files(checkpoint)`, the files
    that determine what it does, and `describe_checkpoint(checkpoint)`, one line for people. An agent that counts or times
    something itself may have `episode_metrics()`, a mapping from name to number since the last reset; one that plans, `plan`,
    what it follows now.
    """

    needs: Needs

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Prepare for one episode; in a chain of instructions, also for each further instruction, in the world as it stands.

        Args:
            task: What is asked, with the action spec; in a chain, the present instruction.
            cameras: Calibration of every camera by name, the episode's camera first.
            seed: The only source of randomness the agent may use for this episode.
        """
        ...

    def act(self, observation: Observation) -> np.ndarray:
        """Return (A,) one action, or (T, A) a chunk of which every step is executed before the next look.

        Where an action is one of a few (`action_spec.choices`), A is 1, and a bare number stands for one action.
        """
        ...


class ActionChunker:
    """Hands out an agent's action chunks one step at a time.

    While a chunk is executed the agent is not called and nothing is rendered. The arrangement follows openpi's
    `ActionChunkBroker`.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        #: Number of times the agent was asked in this episode.
        self.calls = 0
        self._pending: list[np.ndarray] = []

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Forget the pending chunk and reset the agent."""
        self.calls = 0
        self.next_instruction(task, cameras, seed)

    def next_instruction(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Forget the pending chunk and reset the agent for the next instruction of a chain; the calls go on counting."""
        self._pending = []
        self.agent.reset(task, cameras, seed)

    def act(self, observation: Observation) -> np.ndarray:
        """Return the next (A,) action; ask the agent only when its last chunk is used up.

        Raises:
            ActionError: If the agent returns neither a vector nor a non-empty matrix.
        """
        if not self._pending:
            self.calls += 1
            answer = self.agent.act(observation)
            try:
                chunk = np.asarray(answer, dtype=np.float64)
            except (TypeError, ValueError, RuntimeError):  # ragged, not numeric, or a tensor that requires gradients
                raise ActionError(
                    f"is not an array of numbers: {answer!r:.80}; expected (A,) or a chunk (T, A)"
                ) from None
            if chunk.ndim == 2 and len(chunk):
                self._pending = list(chunk)
            elif chunk.ndim < 2:
                self._pending = [np.atleast_1d(chunk)]
            else:
                raise ActionError(f"has shape {chunk.shape}; expected one action (A,) or a chunk (T, A) with T >= 1")
        return self._pending.pop(0)
