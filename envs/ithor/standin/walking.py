"""Where the agent fits and where it can walk: a disc swept over the floor plan.

iTHOR's agent is a capsule; seen from above it is a disc, and whatever it bumps into is a rectangle or a disc.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from flowbench.envs.ithor.standin.rooms import AGENT_RADIUS_M, Room, obstacles

#: A move is tried at points this far apart at most; a corner hidden between two of them reaches 0.06 mm into the disc.
_STRIDE_M = 0.01
#: Touching is not bumping.
_TOLERANCE_M = 1e-6


class Floor:
    """The walkable part of one room."""

    def __init__(self, room: Room) -> None:
        self._obstacles = obstacles((*room.things, *room.shell))
        self._middle, self._half_size = np.array(room.center), np.array(room.size) / 2
        self._lattices: dict[tuple[float, float, float], _Lattice] = {}

    def fits(self, points: np.ndarray) -> np.ndarray:
        """Return whether the agent fits at each of the (..., 2) points in x and z."""
        inside = np.all(np.abs(points - self._middle) <= self._half_size, axis=-1)
        return inside & (self._clearance_m(points) >= AGENT_RADIUS_M - _TOLERANCE_M)

    def is_free(self, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """Return whether the agent gets straight from one place to another."""
        return bool(self.fits(_way(np.array(start), np.array(end))).all())

    def reachable(self, start: tuple[float, float], grid_m: float) -> list[tuple[float, float]]:
        """Return the places that steps of `grid_m` along x and z lead to, in the order of a breadth-first search."""
        fraction = tuple(round(value % grid_m, 6) % grid_m for value in start)
        lattice = self._lattices.setdefault((*fraction, grid_m), _Lattice())
        if not lattice.ways:
            lattice.fill(self, start, grid_m, self._middle, self._half_size)
        found = {(0, 0)}
        queue, order = deque(found), []
        offset = tuple(round((value - first) / grid_m) for value, first in zip(start, lattice.origin, strict=True))
        while queue:
            here = queue.popleft()
            order.append((start[0] + here[0] * grid_m, start[1] + here[1] * grid_m))
            for there in lattice.ways.get((here[0] + offset[0], here[1] + offset[1]), ()):
                step = (there[0] - offset[0], there[1] - offset[1])
                if step not in found:
                    found.add(step)
                    queue.append(step)
        return order

    def _clearance_m(self, points: np.ndarray) -> np.ndarray:
        """Return the (...) distance from each point to the nearest obstacle, at most 0 inside it."""
        centers, halves, turns, roundings = self._obstacles
        away = points[..., None, :] - centers
        cosine, sine = turns.T
        # Into each rectangle's own axes: right = (cos, -sin), forward = (sin, cos) in (x, z).
        right = np.abs(away[..., 0] * cosine - away[..., 1] * sine) - halves[:, 0]
        forward = np.abs(away[..., 0] * sine + away[..., 1] * cosine) - halves[:, 1]
        return (np.hypot(np.maximum(right, 0), np.maximum(forward, 0)) - roundings).min(axis=-1)


class _Lattice:
    """Which neighbours of a grid are joined; the same for every start on the grid."""

    def __init__(self) -> None:
        self.origin: tuple[float, float] = (0.0, 0.0)
        self.ways: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def fill(
        self, floor: Floor, origin: tuple[float, float], grid_m: float, middle: np.ndarray, half_size: np.ndarray
    ) -> None:
        """Try every step between neighbours inside the room's bounds."""
        self.origin = origin
        low = np.ceil((middle - half_size - origin) / grid_m).astype(int)
        high = np.floor((middle + half_size - origin) / grid_m).astype(int)
        columns, rows = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
        nodes = np.stack([columns, rows], axis=-1).reshape(-1, 2)
        places = np.array(origin) + nodes * grid_m
        fits = floor.fits(places)
        index = {tuple(node): number for number, node in enumerate(nodes.tolist())}
        joined: dict[tuple[int, int], set[tuple[int, int]]] = {tuple(node): set() for node in nodes[fits].tolist()}
        for step in ((1, 0), (0, 1)):
            pairs = [
                (number, index[there])
                for here, number in index.items()
                if fits[number] and (there := (here[0] + step[0], here[1] + step[1])) in index and fits[index[there]]
            ]
            if not pairs:
                continue
            ways = np.stack([_way(places[one], places[other]) for one, other in pairs])
            for (one, other), free in zip(pairs, floor.fits(ways).all(axis=1), strict=True):
                if free:
                    joined[tuple(nodes[one].tolist())].add(tuple(nodes[other].tolist()))
                    joined[tuple(nodes[other].tolist())].add(tuple(nodes[one].tolist()))
        # In the order in which Unity's agent tries directions: +x, +z, -x, -z.
        directions = ((1, 0), (0, 1), (-1, 0), (0, -1))
        self.ways = {
            here: [there for step in directions if (there := (here[0] + step[0], here[1] + step[1])) in others]
            for here, others in joined.items()
        }


def _way(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return (N, 2) points from start to end, both included."""
    count = max(1, math.ceil(np.linalg.norm(end - start) / _STRIDE_M))
    return np.linspace(start, end, count + 1)
