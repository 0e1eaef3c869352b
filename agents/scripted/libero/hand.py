"""The Panda hand as the planners see it: its measures and its orientations.

Frame of the grip site: x is the axis along which the fingers close, y lies across it, z is the direction of approach.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

# Metres in the frame of the grip site, read off the collision geoms of robosuite 1.4's Panda gripper, fingers open.
#: Closing axis: where the free space between the fingers ends, and where the fingers do.
FINGER_INNER_M, FINGER_OUTER_M = 0.0395, 0.0635
#: Approach axis: how far the finger tips reach below the site, and how high the palm begins above it.
FINGERTIP_BELOW_M, PALM_ABOVE_M = 0.0095, 0.031
#: Across: half the width of a finger pad (8 mm), with a margin for control error.
PAD_HALF_WIDTH_M = 0.0105

#: Hand to world, pointing straight down, closing along world y: the arm's posture when an episode starts.
POINTING_DOWN = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
#: Of two half turns, the one nearer to this yaw is taken, radians. The last joint turns by 2.9 either way and stands at 0.785
#: for yaw 0, so yaws from -2.1 to 3.7 are in reach; a leaning hand needs some of that.
_WRIST_REST_YAW = 0.3
_HALF_TURN = np.diag([-1.0, -1, 1])


def about_z(angle_rad: float) -> np.ndarray:
    """Return the (3, 3) rotation about the vertical."""
    return Rotation.from_euler("z", angle_rad).as_matrix()


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Return the (3,) axis times angle of a (3, 3) rotation, radians."""
    return Rotation.from_matrix(rotation).as_rotvec()


def wrap(angle_rad: float) -> float:
    """Return the same angle from -pi to pi."""
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)


def nearest_half_turn(hand_to_world: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the orientation or its half turn about the approach axis, whichever is nearer to `reference`.

    The fingers are alike, so both do the same; the wrist reaches one of them more easily.
    """
    turned = hand_to_world @ _HALF_TURN
    return hand_to_world if np.sum(hand_to_world * reference) >= np.sum(turned * reference) else turned


def pointing_down(yaw_rad: float) -> np.ndarray:
    """Return hand to world, pointing down and closing along (-sin yaw, cos yaw, 0)."""
    return nearest_half_turn(about_z(yaw_rad) @ POINTING_DOWN, about_z(_WRIST_REST_YAW) @ POINTING_DOWN)


def leaning(direction_world: np.ndarray, angle_rad: float) -> np.ndarray:
    """Return the (3, 3) rotation that turns "down" towards a horizontal direction by an angle."""
    axis = np.cross([0, 0, -1.0], _horizontal(direction_world))
    return Rotation.from_rotvec(axis * angle_rad).as_matrix()


def pointing_towards(direction_world: np.ndarray, angle_rad: float, *, closing_across: bool = False) -> np.ndarray:
    """Return hand to world, turned from straight down towards a horizontal direction.

    Args:
        direction_world: (3,) its horizontal part counts.
        angle_rad: 0 points down, pi / 2 points along the direction.
        closing_across: Close along the horizontal line across the direction; else in the vertical plane that holds it.
    """
    across = wrap(np.arctan2(direction_world[1], direction_world[0]) - np.pi / 2)
    if across > np.pi / 2:
        across -= np.pi
    if across <= -np.pi / 2:
        across += np.pi
    flat = leaning(direction_world, angle_rad)
    if closing_across:
        quarter = about_z(np.pi / 2)
        return nearest_half_turn(flat @ about_z(across) @ POINTING_DOWN @ quarter, quarter @ POINTING_DOWN)
    return flat @ nearest_half_turn(about_z(across) @ POINTING_DOWN, POINTING_DOWN)


def _horizontal(direction: np.ndarray) -> np.ndarray:
    flat = np.array([direction[0], direction[1], 0.0])
    return flat / np.linalg.norm(flat)
