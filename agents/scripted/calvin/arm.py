"""The arm as the skills use it: generators that yield one relative (7,) action per step until something is reached.

An action moves a target that the arm follows with a lag of two or three steps. So motions are planned on the target and
their end is read off the hand: arrived means that both are there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from scipy.spatial.transform import Rotation

from flowbench.agents.scripted.calvin.scene import Block, Scene

Steps = Generator[np.ndarray, None, None]

OPEN, CLOSE = 1.0, -1.0
#: What an action of 1 adds to the target (calvin_env `conf/robot`, max_rel_pos and max_rel_orn).
METRES_PER_ACTION, RADIANS_PER_ACTION = 0.02, 0.05
#: Yaw in which the wrist is far from its limits; of two alike orientations, the nearer one is taken.
REST_YAW = np.pi / 2
#: Heights of the tool centre, metres: travelling above blocks, and above held ones.
TRAVEL_M = 0.60
#: In front of the cabinet; between this and the doors nothing stands in the way of a raised hand.
FRONT_Y_M = -0.12
#: Turned so much towards the cabinet, the hand gets under its roof without touching it.
LEAN_RAD = 0.6
_CLOSING_STEPS, _OPENING_STEPS = 6, 8
#: From this width on the fingers are clear of whatever was between them.
_OPEN_WIDTH_M = 0.072
#: The widest edge that fits between open fingers, and how far from the middle those are, metres.
_WIDEST_M, _FINGER_M = 0.065, 0.048
#: Inside the cabinet, over its floor: high enough that what hangs from the hand passes over blocks on the table.
_CABINET_EXIT_M = 0.555
#: A motion that gets nearer by less than this in so many steps is blocked.
_PROGRESS_M, _PATIENCE = 0.0005, 14


def wrap(angles: np.ndarray | float) -> np.ndarray:
    """Return the same angles from -pi to pi."""
    return (np.asarray(angles) + np.pi) % (2 * np.pi) - np.pi


class Arm:
    """Yields actions that move the hand.

    Attributes:
        scene: What is seen.
        gripper: The command that goes with every action.
        yaw: Direction of the hand, radians; the fingers close along yaw - pi / 2.
        lean: How far the hand is turned from straight down towards the cabinet, radians.
        pace: Factor on every speed, up to 1.
    """

    def __init__(self, scene: Scene, pace: float = 1.0) -> None:
        self.scene = scene
        self.pace = pace
        self.lean = 0.0
        self.yaw = REST_YAW
        self.gripper = OPEN if scene.core.robot.gripper_action > 0 else CLOSE
        # A chain goes on from wherever the instruction before ended.
        self._read_posture()

    def orientation(self) -> Rotation:
        """Return the hand's orientation in the world."""
        return (
            Rotation.from_euler("x", self.lean) * Rotation.from_euler("z", self.yaw) * Rotation.from_euler("x", np.pi)
        )

    def stay(self) -> np.ndarray:
        """Return the action that keeps the target."""
        return np.array([0.0] * 6 + [self.gripper])

    def wait(self, steps: int) -> Steps:
        """Keep the target."""
        for _ in range(steps):
            yield self.stay()

    def go_to(
        self,
        position: np.ndarray,
        *,
        speed: float = 1.0,
        within_m: float = 0.01,
        within_rad: float = 0.08,
        most_steps: int = 80,
        until: Callable[[], bool] | None = None,
    ) -> Steps:
        """Move the tool centre to a (3,) position, in the posture that `yaw` and `lean` say.

        Args:
            position: World metres.
            speed: Share of 0.02 m per step.
            within_m: Distance that counts as reached.
            within_rad: Likewise for the orientation.
            most_steps: Then it is given up; as it is when the hand gets no nearer.
            until: Stop as soon as this is true.
        """
        position = np.asarray(position, dtype=np.float64)
        nearest, stalled = np.inf, 0
        for _ in range(most_steps):
            if until is not None and until():
                return
            wanted = self.orientation()
            target_position, target_angles = self.scene.target()
            away = (position - target_position) / METRES_PER_ACTION
            far = float(np.linalg.norm(away))
            turn = wrap(wanted.as_euler("xyz") - target_angles) / RADIANS_PER_ACTION
            hand = self.scene.hand()
            away_m = float(np.linalg.norm(hand.position - position))
            away_rad = float((hand.rotation * wanted.inv()).magnitude())
            if away_m < within_m and far < 0.5 and away_rad < within_rad:
                return
            cost = away_m + 0.1 * away_rad
            nearest, stalled = (cost, 0) if cost < nearest - _PROGRESS_M else (nearest, stalled + 1)
            if stalled > _PATIENCE:
                return
            move = away * min(1.0, speed * self.pace / max(far, 1e-9))
            yield np.array([*move, *np.clip(turn, -1, 1), self.gripper])

    def move_by(self, shift: tuple[float, float, float], **options: float) -> Steps:
        """Move by a shift from where the hand is."""
        yield from self.go_to(self.scene.hand().position + np.array(shift), **{"within_m": 0.02, **options})

    def rise(self, height_m: float = TRAVEL_M) -> Steps:
        """Get the hand out of the cabinet or the drawer and above everything, pointing down."""
        x, y, z = self.scene.hand().position
        if y > -0.06 and z > 0.46:
            # Under the cabinet's roof: out by the way that the hand came in.
            inside = [x, y - 0.01, min(max(z, _CABINET_EXIT_M), 0.6)]
            yield from self.go_to(inside, within_m=0.015, within_rad=9.0, speed=0.7)
            yield from self.go_to([x, FRONT_Y_M + 0.02, 0.6], within_m=0.03, within_rad=9.0)
            x, y, z = self.scene.hand().position
        self.lean = 0.0
        if z < height_m - 0.02:
            yield from self.go_to([x, min(y, -0.06), height_m], within_m=0.04, within_rad=9.0)

    def travel(
        self, position: np.ndarray, yaw: float | None = None, *, height_m: float = TRAVEL_M, **options: float
    ) -> Steps:
        """Rise, and go above a (3,) position: to its own height if that is higher than the travelling height."""
        yield from self.rise(height_m)
        if yaw is not None:
            self.yaw = yaw
        x, y, z = position
        yield from self.go_to([x, y, max(z, height_m)], **{"within_m": 0.02, **options})

    def close(self) -> Steps:
        """Close the fingers."""
        self.gripper = CLOSE
        yield from self.wait(_CLOSING_STEPS)

    def open(self) -> Steps:
        """Open the fingers until they are clear of what was between them."""
        self.gripper = OPEN
        for step in range(_OPENING_STEPS):
            if step > 1 and self.scene.gripper_width_m > _OPEN_WIDTH_M:
                return
            yield self.stay()

    def grasp_yaw(self, block: Block) -> float:
        """Return the yaw in which to grasp a block: across its shorter horizontal edge, and with no finger on the button."""
        upright = int(np.argmax(np.abs(block.rotation[2])))
        costs = {}
        for axis in range(3):
            if axis == upright or block.size[axis] > _WIDEST_M:
                continue
            closing = block.rotation[:2, axis] / np.linalg.norm(block.rotation[:2, axis])
            for turn in (0.0, np.pi):
                yaw = float(wrap(np.arctan2(closing[1], closing[0]) + np.pi / 2 + turn))
                on_button = block.on_table and self._on_button(block.position[:2], closing)
                costs[yaw] = 20 * block.size[axis] + abs(float(wrap(yaw - REST_YAW))) / 2 + 10 * on_button
        return min(costs, key=lambda yaw: costs[yaw])

    def _on_button(self, position: np.ndarray, closing: np.ndarray) -> bool:
        """Whether an open finger would come down on the button, which a chain may need as it is."""
        low, high = (bound[:2] for bound in self.scene.link_bounds("button_link"))
        fingers = [position + side * _FINGER_M * closing for side in (-1, 1)]
        return any(bool(np.all(finger > low - 0.02) and np.all(finger < high + 0.02)) for finger in fingers)

    def _read_posture(self) -> None:
        """Take yaw and lean from the target, so that the first motion does not turn the hand."""
        rotation = Rotation.from_euler("xyz", self.scene.target()[1]).as_matrix()
        # The hand's z points away from the arm; leaning turns it from -z towards +y.
        self.lean = float(np.clip(np.arctan2(rotation[1, 2], -rotation[2, 2]), 0, LEAN_RAD))
        flat = Rotation.from_euler("x", -self.lean).as_matrix() @ rotation
        self.yaw = float(np.arctan2(flat[1, 0], flat[0, 0]))
