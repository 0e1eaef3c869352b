"""Agents that do not look: the floor of every table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flowbench.agent import Needs
from flowbench.camera import CameraParams
from flowbench.errors import AgentError
from flowbench.observation import Observation
from flowbench.task import DONE, Task


class RandomAgent:
    """Draws every action uniformly from the action spec.

    It measures how often a task is solved by accident.
    """

    needs = Needs()

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Start a fresh generator from the seed, the only thing that the actions depend on."""
        self._rng = np.random.default_rng(seed)
        self._spec = task.action_spec

    def act(self, observation: Observation) -> np.ndarray:
        """Return one (A,) action."""
        return self._spec.sample(self._rng, 1)[0]


class ZeroAgent:
    """Returns zero for every component, or the nearest value that the action spec allows.

    It measures how often a task is solved by nobody: initial states that already satisfy the success predicate, objects
    that fall into place, and predicates that hold too easily. Where actions are displacements the robot stands still;
    where they are absolute poses it does not, and a success then says nothing. Where an action is one of a few it is the
    first.
    """

    needs = Needs()

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Look up the action spec."""
        spec = task.action_spec
        self._action = np.clip(np.zeros(spec.size), spec.low, spec.high)

    def act(self, observation: Observation) -> np.ndarray:
        """Return the same (A,) action at every step."""
        return self._action.copy()


class DoneAtOnceAgent:
    """Says at once that it has finished, where actions are a choice that has a `Done`.

    It measures how often the start of an episode already is its end; in navigation, how often the target is in view from where
    the agent is put.
    """

    needs = Needs()

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Look up what it means to have finished.

        Raises:
            AgentError: If no action of the task means that.
        """
        choices = task.action_spec.choices
        if DONE not in choices:
            raise AgentError(
                f"No action of suite {task.suite} says that the agent has finished, so it cannot say so at once. Its actions: "
                f"{', '.join(choices or task.action_spec.labels)}. For agents that do nothing there, see: zero"
            )
        self._action = np.array([choices.index(DONE)])

    def act(self, observation: Observation) -> np.ndarray:
        """Return the (1,) action that ends the episode."""
        return self._action.copy()
