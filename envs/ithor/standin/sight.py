"""What the agent sees: the `visible` flag of AI2-THOR's metadata.

An object is visible if one of its points lies in the picture, at most `visibilityDistance` from the agent's vertical axis, and
nothing hides it (`BaseFPSAgentController` of allenai/ai2thor). Unity tests points that artists placed; here they lie on the
surface of the blocks.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from flowbench.envs.ithor.standin.painter import NEAR_M, TO_MUJOCO, Eye, Painter
from flowbench.envs.ithor.standin.things import Thing, directions

#: A ray that gets this share of the way to a point has reached it.
_REACHED = 1 - 1e-3
#: Blocks longer than this have points in between their middle and their ends.
_LONG_M = 0.8


class Sight:
    """Casts rays to points on the things of one room."""

    def __init__(self, painter: Painter) -> None:
        self._model, self._data, self._owners = painter.model, painter.data, painter.owners
        points, whose = [], []
        for index, thing in enumerate(painter.room.things):
            placed = _surface_points(thing)
            points.append(placed[:, TO_MUJOCO])
            whose.append(np.full(len(placed), index))
        self._points, self._whose = np.concatenate(points), np.concatenate(whose)

    def visible(self, eye: Eye, aspect: float, reach_m: float, only: int | None = None) -> set[int]:
        """Return the indices of the things that an agent with this eye sees.

        Args:
            eye: The agent's camera.
            aspect: Width of its picture over its height.
            reach_m: Farthest horizontal distance.
            only: Ask about this thing alone; None for all.
        """
        points, whose = self._points, self._whose
        if only is not None:
            points, whose = points[whose == only], whose[whose == only]
        position = np.array(eye.position)[TO_MUJOCO]
        away = points - position
        near = np.flatnonzero(away[:, 0] ** 2 + away[:, 1] ** 2 <= reach_m**2)
        away = away[near]
        right, up, forward = eye.axes()
        ahead, edge = away @ forward, math.tan(math.radians(eye.fovy_deg) / 2)
        seen = (ahead > NEAR_M) & (np.abs(away @ up) <= edge * ahead) & (np.abs(away @ right) <= edge * aspect * ahead)
        if not seen.any():
            return set()
        away, whose = away[seen], whose[near][seen]
        geoms, shares = np.full(len(away), -1, np.int32), np.zeros(len(away))
        mujoco.mj_multiRay(
            self._model, self._data, position, away.ravel(), None, 1, -1, geoms, shares, len(away), mujoco.mjMAXVAL
        )
        reached = (self._owners[geoms] == whose) | (shares > _REACHED)
        return set(whose[(geoms >= 0) & reached].tolist())


def _surface_points(thing: Thing) -> np.ndarray:
    """Return (N, 3) points just inside the surface of a thing's blocks, in Unity's axes."""
    right, forward = directions(thing.yaw_deg)
    axes = np.stack([right, [0.0, 1.0, 0.0], forward])
    found = []
    for center, half in zip(thing.centers, thing.halves, strict=True):
        steps = [np.linspace(-0.9, 0.9, 5 if size > _LONG_M / 2 else 3 if size > 0.03 else 2) for size in half]
        grid = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
        # Only the shell: a ray to a point inside meets the block in any case.
        grid = grid[np.abs(grid).max(axis=1) > 0.85]
        found.append(center + (grid * half) @ axes)
    return np.concatenate(found)
