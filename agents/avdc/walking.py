"""From what the room does along a plan to choices: AVDC's published rule for navigation, and ours.

Source of the published one: `transforms2actions` of `experiment/myutils.py` and the loop of `experiment/benchmark_thor.py`,
AVDC_experiments at e9b5b00.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from flowbench.agents.avdc.feet import Feet
from flowbench.agents.geometry.published_fit import NoMotion

#: Where the point is that stands for the room, in the camera's axes, metres.
POINT = np.array([0.0, 0.0, 1.0])
#: It stands still within this, metres; and sideways beyond that it means a turn. The paper says 25 cm, the code 20.
STILL_M, SIDEWAYS_M = 1e-3, 0.20


class PublishedWalk:
    """Carry out all of a plan, then plan again.

    A motion that moves the point 1 m ahead by nothing is the end; to the right or left by more than 20 cm, a turn to the other
    side; everything else a step ahead. So a step that the plan shows to be blocked is the end, too.

    A plan of which nothing can be read crashes the published loop, or keeps it busy for ever. With `faithful` the episode is
    given up there; without it the agent turns right and plans again.
    """

    def __init__(self, feet: Feet, *, faithful: bool = True) -> None:
        self._feet, self._faithful = feet, faithful

    def wants_plan(self, proprio: np.ndarray) -> bool:
        """Return True: it is asked when a plan has been carried out."""
        return True

    def take(self, links: np.ndarray) -> list[int]:
        """Read a plan's (L, 4, 4) scene motions, and return the choices.

        Raises:
            NoMotion: If nothing could be read, where it is faithful.
        """
        if not len(links) and self._faithful:
            raise NoMotion("of the plan not even the first motion could be read")
        self._choices = published_choices(links, self._feet) or [self._feet.number(self._feet.right)]
        return self._choices

    def command(self) -> np.ndarray:
        """Return (T, 1) choices."""
        return np.array(self._choices, dtype=np.float64)[:, None]


class RobustWalk:
    """Carry out a plan step by step, and plan again when it is over or a step had no effect.

    A motion is the action whose own motion moves the point most alike. Where nothing moves and something moves later, the plan
    shows somebody walk against a wall, which is left out; where nothing moves any more, it is the end. A plan of which nothing
    can be read is answered with a turn, because another picture may be read better.
    """

    def __init__(self, feet: Feet) -> None:
        self._feet = feet
        self._left: deque[int] = deque()

    def wants_plan(self, proprio: np.ndarray) -> bool:
        """Return whether the plan is over, or the last step was blocked."""
        return not self._left or not proprio[self._feet.effect]

    def take(self, links: np.ndarray) -> list[int]:
        """Read a plan's (L, 4, 4) scene motions, and return the choices."""
        done = self._feet.number(self._feet.done)
        choices = nearest_choices(links, self._feet)
        moving = [choice for choice in choices if choice != done]
        if choices and choices[-1] == done:
            moving.append(done)
        self._left = deque(moving or [self._feet.number(self._feet.right)])
        return list(self._left)

    def command(self) -> np.ndarray:
        """Return the next (1,) choice."""
        return np.array([float(self._left.popleft())])


def published_choices(links: np.ndarray, feet: Feet) -> list[int]:
    """Return AVDC's choices for (L, 4, 4) scene motions; the first that stands still is the last."""
    choices = []
    for motion in links:
        point = motion[:3, :3] @ POINT + motion[:3, 3]
        if np.allclose(point, POINT, atol=STILL_M):
            return [*choices, feet.number(feet.done)]
        if abs(point[0]) > SIDEWAYS_M:
            choices.append(feet.number(feet.left if point[0] > 0 else feet.right))
        else:
            choices.append(feet.number(feet.ahead))
    return choices


def nearest_choices(links: Sequence[np.ndarray] | np.ndarray, feet: Feet) -> list[int]:
    """Return for each of (L, 4, 4) scene motions the choice whose own motion moves the point most alike."""
    steps = feet.steps
    where = np.stack([step.scene_motion[:3, :3] @ POINT + step.scene_motion[:3, 3] for step in steps])
    points = [motion[:3, :3] @ POINT + motion[:3, 3] for motion in links]
    return [steps[int(np.argmin(np.linalg.norm(where - point, axis=1)))].choice for point in points]
