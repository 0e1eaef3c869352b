"""The arm as the skills use it: generators that yield one normal (7,) action per step until something is reached.

An action asks for a displacement of at most 5 cm and a turn of at most 0.5 rad, both in world axes, relative to the pose of
the moment; the controller gets a quarter of that way in a step. So a proportional law on the error is all that is needed,
and every skill can correct itself at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from flowbench.agents.scripted.libero.hand import rotation_vector
from flowbench.agents.scripted.libero.scene import Scene

T = TypeVar("T")
#: Yields actions, returns a result.
Steps = Generator[np.ndarray, None, T]

OPEN, CLOSE = -1.0, 1.0
#: What an action of 1 asks for, from robosuite's `osc_pose.json`.
_METRES_PER_ACTION, _RADIANS_PER_ACTION = 0.05, 0.5
#: Proportional gain: full speed until 25 mm before the target.
_GAIN = 2.0
#: Half width of the corridor in which obstacles decide the height of a journey, metres: the hand's length.
_CORRIDOR_M = 0.11
_CLEARANCE_M = 0.025
#: The arm reaches this far above the table, metres.
_HIGHEST_ABOVE_SUPPORT_M = 0.48
#: Steps of command until the fingers are apart (they ramp by 0.01 x 25 physics steps per step).
OPENING_STEPS = 7

Arrival = Literal["reached", "stopped", "stalled", "late"]


@dataclass
class Held:
    """What is in the hand.

    Attributes:
        name: The object.
        root_in_hand: (3,) its root in the hand's frame, metres, at the moment it was lifted.
    """

    name: str
    root_in_hand: np.ndarray


class Arm:
    """Yields actions that move the hand.

    Attributes:
        scene: What is seen.
        gripper: The command that goes with every action.
        held: What was picked and not released; None for an empty hand.
        banned: Grasps that failed, by object, relative to the object's root.
        tried: Goals that were tried before; what failed once may be done in another way.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.gripper = OPEN
        self.held: Held | None = None
        self.banned: dict[str, list] = {}
        self.tried: set[tuple[str, ...]] = set()

    def towards(self, position: np.ndarray, rotation: np.ndarray, speed: float = 1.0) -> np.ndarray:
        """Return the action that moves towards a pose of the grip site.

        Args:
            position: (3,) world metres.
            rotation: (3, 3) hand to world.
            speed: Largest component of the translation, from 0 to 1.
        """
        hand = self.scene.hand()
        shift = (position - hand.position) * _GAIN / _METRES_PER_ACTION
        shift *= min(1.0, speed / max(np.abs(shift).max(), 1e-9))
        turn = rotation_vector(rotation @ hand.rotation.T) * _GAIN / _RADIANS_PER_ACTION
        turn *= min(1.0, 1.0 / max(np.abs(turn).max(), 1e-9))
        return np.array([*shift, *turn, self.gripper])

    def stay(self) -> np.ndarray:
        """Return the action that keeps the pose that was last asked for."""
        return np.array([0.0, 0, 0, 0, 0, 0, self.gripper])

    def go_to(
        self,
        position: np.ndarray,
        rotation: np.ndarray,
        *,
        within_m: float = 0.008,
        within_rad: float = 0.08,
        most_steps: int = 80,
        speed: float = 1.0,
        until: Callable[[], bool] | None = None,
        patience: int = 12,
    ) -> Steps[Arrival]:
        """Move in a straight line.

        Args:
            position: (3,) where the grip site goes, world metres.
            rotation: (3, 3) hand to world.
            within_m: Distance that counts as reached.
            within_rad: Angle that counts as reached.
            most_steps: Give up after these.
            speed: Largest component of the translation.
            until: Stop as soon as this is true.
            patience: Steps without getting nearer before it counts as blocked.

        Returns:
            `reached`, `stopped` by `until`, `stalled` or `late`.
        """
        nearest, waited = np.inf, 0
        for _ in range(most_steps):
            hand = self.scene.hand()
            away_m = float(np.linalg.norm(position - hand.position))
            away_rad = float(np.linalg.norm(rotation_vector(rotation @ hand.rotation.T)))
            if away_m < within_m and away_rad < within_rad:
                return "reached"
            if until is not None and until():
                return "stopped"
            cost = away_m + 0.05 * away_rad
            if cost < nearest - 0.0005:
                nearest, waited = cost, 0
            else:
                waited += 1
                if waited >= patience:
                    return "stalled"
            yield self.towards(position, rotation, speed)
        return "late"

    def move_by(
        self, shift: np.ndarray, *, most_steps: int = 25, within_m: float = 0.03, speed: float = 1.0
    ) -> Steps[Arrival]:
        """Move by a (3,) shift in world metres, keeping the orientation."""
        hand = self.scene.hand()
        return (
            yield from self.go_to(
                hand.position + shift,
                hand.rotation,
                within_m=within_m,
                within_rad=1.0,
                most_steps=most_steps,
                speed=speed,
            )
        )

    def travel(
        self,
        position: np.ndarray,
        rotation: np.ndarray,
        *,
        hang_m: float = 0.012,
        without: Iterable[str] = (),
        within_m: float = 0.012,
        speed: float = 1.0,
        until: Callable[[], bool] | None = None,
    ) -> Steps[Arrival]:
        """Move up, across and down, above everything that stands in the way.

        Args:
            position: (3,) where the grip site goes, world metres.
            rotation: (3, 3) hand to world.
            hang_m: How far hand and load reach below the grip site.
            without: Objects that are no obstacles.
            within_m: Distance that counts as reached.
            speed: Largest component of the translation.
            until: Stop as soon as this is true on the way down.
        """
        hand = self.scene.hand()
        height = max(self._free_height(hand.position, position, hang_m, without), position[2])
        height = min(height, self.scene.support_z + _HIGHEST_ABOVE_SUPPORT_M)
        if hand.position[2] < height - 0.02:
            up = np.array([*hand.position[:2], height])
            yield from self.go_to(up, hand.rotation, within_m=0.03, within_rad=9.0, speed=speed)
        over = np.array([*position[:2], height])
        yield from self.go_to(over, rotation, within_m=0.03, within_rad=0.5, speed=speed)
        return (yield from self.go_to(position, rotation, within_m=within_m, speed=speed, until=until))

    def close(self, most_steps: int = 18) -> Steps[None]:
        """Close the fingers until they stop."""
        hand = self.scene.hand()
        self.gripper = CLOSE
        before, still = None, 0
        for step in range(most_steps):
            yield self.towards(hand.position, hand.rotation)
            fingers = self.scene.finger_positions().copy()
            if before is not None and step > 5 and np.abs(fingers - before).max() < 2e-4:
                still += 1
                if still >= 2:
                    return
            before = fingers

    def open(self, steps: int = OPENING_STEPS) -> Steps[None]:
        """Open the fingers."""
        hand = self.scene.hand()
        self.gripper = OPEN
        self.held = None
        for _ in range(steps):
            yield self.towards(hand.position, hand.rotation)

    def release(self, retreat: np.ndarray | None = None) -> Steps[None]:
        """Let go and move away: by a (3,) shift in world metres, or 10 cm up."""
        yield from self.open()
        yield from self.move_by(np.array([0, 0, 0.10]) if retreat is None else retreat)

    def wait(self, steps: int) -> Steps[None]:
        """Keep the pose."""
        for _ in range(steps):
            yield self.stay()

    def _free_height(self, start: np.ndarray, end: np.ndarray, hang_m: float, without: Iterable[str]) -> float:
        """Return the height of the grip site that clears everything in a corridor."""
        points = self.scene.obstacles(without, 0.012)
        path = end[:2] - start[:2]
        share = np.clip((points[:, :2] - start[:2]) @ path / max(path @ path, 1e-9), 0, 1)
        aside = np.linalg.norm(points[:, :2] - start[:2] - share[:, None] * path, axis=1)
        inside = points[aside < _CORRIDOR_M, 2]
        return float(inside.max()) + hang_m + _CLEARANCE_M if len(inside) else -np.inf
