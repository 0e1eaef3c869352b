"""Which part of a PyBullet world a point lies inside of: a camera there would see nothing useful."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

#: Unit vectors to all sides, and how far away rays towards the point start, metres.
_DIRECTIONS = np.array([d for d in product((-1.0, 0.0, 1.0), repeat=3) if any(d)])
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)
_STARTS_M = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
#: Of 26 directions; a ray may slip through where two convex pieces of a part meet.
_ENOUGH = 24


def enclosing_block(core: Any, point_world: np.ndarray) -> str | None:
    """Return the name of the block around a (3,) point; None if there is none."""
    client = {"physicsClientId": core.cid}
    for block in core.scene.movable_objects:
        position, quaternion = core.p.getBasePositionAndOrientation(block.uid, **client)
        axes = np.reshape(core.p.getMatrixFromQuaternion(quaternion), (3, 3))
        size = np.array(core.p.getCollisionShapeData(block.uid, -1, **client)[0][3])
        if np.all(np.abs((point_world - position) @ axes) < size / 2):
            return block.name
    return None


def enclosing_link(core: Any, point_world: np.ndarray) -> tuple[int, int] | None:
    """Return (uid, link) of the part around a (3,) point; None in the open.

    PyBullet's rays do not see the shape that they start in. So rays are sent towards the point from all sides and several
    distances: inside a part, its surface is met from every side.
    """
    blocked: dict[tuple[int, int], set[int]] = {}
    for start_m in _STARTS_M:
        begins = point_world + start_m * _DIRECTIONS
        ends = np.tile(point_world, (len(begins), 1))
        hits = core.p.rayTestBatch(begins.tolist(), ends.tolist(), physicsClientId=core.cid)
        for direction, (uid, link, *_) in enumerate(hits):
            if uid >= 0:
                blocked.setdefault((uid, link), set()).add(direction)
    return next((part for part, directions in blocked.items() if len(directions) >= _ENOUGH), None)
