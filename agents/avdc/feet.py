"""What each choice of a navigation suite does to the camera: the only place that knows how long a step is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flowbench.camera import rotation_about
from flowbench.errors import unknown_name


class Step(NamedTuple):
    """A choice, and what the room then does in the camera's axes.

    Attributes:
        choice: Its number.
        scene_motion: (4, 4) rigid transform of points from the camera's axes before it to those after it, metres.
    """

    choice: int
    scene_motion: np.ndarray


@dataclass(frozen=True)
class Feet:
    """An agent that walks on the floor, looks straight ahead and turns about its own vertical axis.

    Attributes:
        choices: The action's names.
        ahead: Name of the step ahead.
        right: Name of the turn to the right.
        left: Name of the turn to the left.
        done: Name of what ends the episode.
        steps_m: How long a step ahead can be.
        turn_deg: How far a turn goes.
        effect: Which component of `proprio` says whether the last action had an effect.
    """

    choices: tuple[str, ...]
    ahead: str
    right: str
    left: str
    done: str
    steps_m: tuple[float, ...]
    turn_deg: float
    effect: int

    def number(self, name: str) -> int:
        """Return the number of a choice."""
        return self.choices.index(name)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What can happen in one action; standing still comes first."""
        still = Step(self.number(self.done), np.eye(4))
        ahead = [Step(self.number(self.ahead), _moved(z=-length_m)) for length_m in self.steps_m]
        # The room turns the other way.
        turns = [
            Step(self.number(self.right), _turned(-self.turn_deg)),
            Step(self.number(self.left), _turned(self.turn_deg)),
        ]
        return (still, *ahead, *turns)


#: By action convention.
FEET = {
    # AVDC's controller: gridSize 0.25 m and rotateStepDegrees 45 (`ThorEnv` in `experiment/benchmark_thor.py` of
    # AVDC_experiments at e9b5b00). AI2-THOR rounds both coordinates to the grid, so a diagonal step is longer.
    "ithor-navigation": Feet(
        choices=("MoveAhead", "RotateRight", "RotateLeft", "Done"),
        ahead="MoveAhead",
        right="RotateRight",
        left="RotateLeft",
        done="Done",
        steps_m=(0.25, 0.25 * math.sqrt(2)),
        turn_deg=45.0,
        effect=1,
    ),
}


def feet_of(convention: str) -> Feet:
    """Return how an agent walks under an action convention.

    Raises:
        UnknownName: If flow-to-action has not been written for it.
    """
    if convention not in FEET:
        raise unknown_name("way of walking for action convention", convention, FEET, "AVDC's navigation form")
    return FEET[convention]


def _moved(z: float) -> np.ndarray:
    motion = np.eye(4)
    motion[2, 3] = z
    return motion


def _turned(angle_deg: float) -> np.ndarray:
    """Return a turn about the camera's y axis, which points down: positive angles turn to the right."""
    motion = np.eye(4)
    motion[:3, :3] = rotation_about(np.array([0.0, 1.0, 0.0]), angle_deg)
    return motion
