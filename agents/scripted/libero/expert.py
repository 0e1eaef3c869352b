"""LIBERO's scripted expert: a loop over the goal's predicates that are not true yet.

It has no knowledge of tasks. Each predicate names a skill, each skill reads poses and collision geometry, and whatever goes
wrong - a grasp that slips, an object that falls - shows as a predicate that is still false, and is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from flowbench.agents.scripted.libero.goals import ordered, reach
from flowbench.agents.scripted.libero.motion import OPEN, Arm, Steps
from flowbench.agents.scripted.libero.scene import PrivilegedSimulator, Scene
from flowbench.camera import CameraParams
from flowbench.observation import Observation
from flowbench.task import Task

#: Steps of standing still before the goals are looked at again: what was let go of comes to rest.
_REST_STEPS = 3
#: A goal is tried so often before the next one: what comes later, such as closing, may only work after it.
_TRIES_IN_A_ROW = 3


class LiberoExpert:
    """Solves LIBERO's tasks from the simulator's state, through ordinary actions.

    It takes no randomness: the same episode gives the same actions, whether images are rendered or not. After success it
    goes on like a person would: it lets go, moves away, looks again, repairs what was lost, and stays still.
    """

    def __init__(self) -> None:
        self._scene: Scene | None = None
        self._steps: Steps[None] | None = None
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether all goals hold, the hand is empty, and it has moved away."""
        return self._finished

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Forget the last episode."""
        del task, cameras, seed
        self._steps = None
        self._finished = False

    def act(self, observation: Observation) -> np.ndarray:
        """Return the (7,) action for the simulator's present state.

        Raises:
            AgentError: If the goal has a predicate that no skill is written for.
        """
        simulator = cast(PrivilegedSimulator, observation.simulator)
        simulator.update_poses()
        if self._steps is None:
            if self._scene is None or self._scene.simulator is not simulator:
                self._scene = Scene(simulator)
            self._scene.start_episode()
            self._steps = self._solve(Arm(self._scene))
        return np.clip(next(self._steps), -1.0, 1.0)

    def _solve(self, arm: Arm) -> Steps[None]:
        scene = arm.scene
        while True:
            goals = ordered(scene.goals())
            for goal in goals:
                for _ in range(_TRIES_IN_A_ROW):
                    if scene.holds(goal):
                        break
                    self._finished = False
                    yield from reach(arm, goal)
            if arm.held is not None or arm.gripper != OPEN:
                yield from arm.release()
            for _ in range(_REST_STEPS):
                yield arm.stay()
            self._finished = all(scene.holds(goal) for goal in goals)
            while self._finished:
                yield arm.stay()
                self._finished = all(scene.holds(goal) for goal in goals)
