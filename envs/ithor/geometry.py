"""Between Unity's axes and ours.

Unity is left-handed: x right, y up, z forward. Exchanging y and z gives a right-handed world with z up, in which x and y are
the floor plan: the one that the rest of FlowBench has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_EXCHANGE = [0, 2, 1]


class UnityPose(NamedTuple):
    """Where a camera is, as AI2-THOR's actions take it.

    Attributes:
        position: x, y, z in metres.
        rotation: Unity's Euler angles in degrees: x down, y clockwise seen from above, z about the camera's own axis (applied
            in the order z, x, y).
    """

    position: dict[str, float]
    rotation: dict[str, float]


def to_world(vector: Mapping[str, float]) -> np.ndarray:
    """Return a vector of AI2-THOR's metadata as (3,) in the world, metres."""
    return np.array([vector["x"], vector["y"], vector["z"]], dtype=np.float64)[_EXCHANGE]


def camera_to_world(position: Mapping[str, float], yaw_deg: float, horizon_deg: float) -> np.ndarray:
    """Return the (4, 4) pose of the agent's camera, OpenCV axes.

    Args:
        position: The camera's place in Unity's axes.
        yaw_deg: The agent's direction: clockwise seen from above, from Unity's +z.
        horizon_deg: How far the camera looks down.
    """
    cosine, sine = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    level, down = math.cos(math.radians(horizon_deg)), math.sin(math.radians(horizon_deg))
    # Columns: right, down and forward in the picture, and the place.
    return np.array(
        [
            [cosine, -sine * down, sine * level, position["x"]],
            [-sine, -cosine * down, cosine * level, position["z"]],
            [0.0, -level, -down, position["y"]],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def unity_pose(pose: np.ndarray) -> UnityPose:
    """Return a (4, 4) camera pose, OpenCV axes, as AI2-THOR's cameras take it; the inverse of the above, roll included."""
    right, down, forward = pose[:3, :3].T
    yaw, pitch = math.atan2(forward[0], forward[1]), math.asin(float(np.clip(-forward[2], -1, 1)))
    level = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
    # Unity turns its x axis towards its y axis, which is up.
    roll = math.atan2(float(right @ np.cross(level, forward)), float(right @ level))
    x, z, y = pose[:3, 3]
    angles = (math.degrees(angle) for angle in (pitch, yaw, roll))
    return UnityPose(dict(zip("xyz", map(float, (x, y, z)))), dict(zip("xyz", angles)))
