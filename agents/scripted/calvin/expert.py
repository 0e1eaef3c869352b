"""CALVIN's scripted expert: one skill for each of the 34 tasks, tried again until upstream's oracle is content.

It reads where things are and acts through ordinary relative actions. It knows one instruction at a time, as an agent does,
and starts from wherever the one before left the arm: with a block in the hand, in the cabinet, or in the drawer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from flowbench.agents.scripted.calvin import blocks, fixtures
from flowbench.agents.scripted.calvin.arm import Arm, Steps
from flowbench.agents.scripted.calvin.scene import PrivilegedSimulator, Scene
from flowbench.camera import CameraParams
from flowbench.errors import AgentError
from flowbench.observation import Observation
from flowbench.task import Task

#: Tasks that begin with a block in the hand.
_WITH_HELD_BLOCK = ("place_in_slider", "place_in_drawer", "stack_block")


class CalvinExpert:
    """Solves CALVIN's tasks from the simulator's state, through ordinary actions.

    Attributes:
        speed_variety: Share by which an episode may be slower, 0 to 0.8; drawn from its seed. With 0 it takes no randomness.
    """

    def __init__(self) -> None:
        self.speed_variety = 0.0
        self._steps: Steps | None = None
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the skill was carried out to its end, the hand's way back included."""
        return self._finished

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Take the next instruction; the arm stays where it is."""
        del cameras
        if task.action_spec.convention != "calvin-relative":
            raise AgentError(
                "The scripted expert of CALVIN moves by relative actions; choose the protocol 'exact' or 'official'."
            )
        slowest = 1.0 - self.speed_variety
        self._pace = 1.0 if slowest == 1.0 else float(np.random.default_rng(seed).uniform(slowest, 1.0))
        self._task = task.name
        self._steps = None
        self._finished = False

    def act(self, observation: Observation) -> np.ndarray:
        """Return the (7,) action for the simulator's present state."""
        if self._steps is None:
            simulator = cast(PrivilegedSimulator, observation.simulator)
            self._steps = self._solve(Arm(Scene(simulator), self._pace))
        return np.clip(next(self._steps), -1.0, 1.0)

    def _solve(self, arm: Arm) -> Steps:
        carried = arm.scene.held()
        yield from fixtures.finish_pushing(arm)
        while True:
            held = arm.scene.held()
            if self._task not in _WITH_HELD_BLOCK:
                yield from blocks.put_down(arm, held) if held is not None else blocks.let_go(arm)
            elif held is None and carried is not None:
                # It slipped out on the way; the oracle asks only that it was in the hand at the start.
                yield from blocks.lift(arm, carried.colour)
            yield from skill(arm, self._task)
            self._finished = True
            yield arm.stay()


def skill(arm: Arm, task: str) -> Steps:
    """Return the actions of one try of a task.

    Raises:
        AgentError: If there is no such task.
    """
    words = task.split("_")
    if task.startswith("lift"):
        return blocks.lift(arm, words[1])
    if task.startswith("rotate"):
        return blocks.rotate(arm, words[1], words[-1])
    if task == "push_into_drawer":
        return blocks.push_into_drawer(arm)
    if task.startswith("push"):
        return blocks.push(arm, words[1], words[-1])
    if task.startswith("move_slider"):
        return fixtures.move_slider(arm, words[-1])
    if task.endswith("led"):
        return fixtures.press_button(arm)
    if task.endswith("lightbulb"):
        return fixtures.flip_switch(arm, words[1])
    skills = {
        "open_drawer": fixtures.open_drawer,
        "close_drawer": fixtures.close_drawer,
        "place_in_slider": blocks.place_in_cabinet,
        "place_in_drawer": blocks.place_in_drawer,
        "stack_block": blocks.stack,
        "unstack_block": blocks.unstack,
    }
    if task not in skills:
        raise AgentError(f"The scripted expert of CALVIN knows no task {task!r}.")
    return skills[task](arm)
