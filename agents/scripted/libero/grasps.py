"""Grasps found on collision geometry: where two parallel fingers can close around a part of an object.

No category of object is known here. Rims of bowls, mugs and plates, necks of bottles, narrow sides of boxes and thin sides
of books all come out of one search: cut the object into slices across the closing axis, look for runs of surface no wider
than the hand opens, keep those where fingers, palm and wrist are free, prefer flat, thick and central ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.spatial.transform import Rotation

from flowbench.agents.scripted.libero.hand import (
    FINGER_INNER_M,
    FINGER_OUTER_M,
    FINGERTIP_BELOW_M,
    PAD_HALF_WIDTH_M,
    PALM_ABOVE_M,
    pointing_down,
    wrap,
)

#: Widest and thinnest part that is taken between the fingers, metres (the hand opens 79 mm).
_WIDEST_M, _THINNEST_M = 0.070, 0.0015
#: A gap in a slice wider than this separates two parts, metres.
_GAP_M = 0.012
#: A grasp that scores above this needs no finer search.
_GOOD_SCORE, _FAIR_SCORE = -0.9, -1.4
_ENOUGH = 3
_CELL_M = 0.002
#: Lean of tilted approaches, and what they cost against upright ones.
_LEAN_RAD, _LEAN_COST = 0.6, 0.5
_MOST_POINTS = 5000


@dataclass(frozen=True)
class Grasp:
    """One way to take hold of an object.

    Attributes:
        position: (3,) grip site, world metres.
        rotation: (3, 3) hand to world; its third column is the direction of approach.
        yaw: Angle of the closing axis about the direction of approach, radians.
        width: Thickness of what is between the fingers, metres.
        score: Higher is better; comparable within one plan.
    """

    position: np.ndarray
    rotation: np.ndarray
    yaw: float
    width: float
    score: float

    def resembles(self, other: Grasp, distance_m: float = 0.015, angle_rad: float = 0.3) -> bool:
        """Whether two grasps take the same part from the same side; the fingers are interchangeable."""
        apart = np.linalg.norm(self.position - other.position)
        return bool(apart <= distance_m and abs(wrap(2 * (self.yaw - other.yaw)) / 2) <= angle_rad)


@dataclass(frozen=True)
class _Effort:
    """How finely to search, and how much room to demand.

    Attributes:
        yaws: Directions of the closing axis in half a turn.
        slice_step_m: Distance between slices.
        depths_m: How far below the top the grip site comes.
        palm_half_m: Half length and half width of the palm's free box.
        wrist: Whether the wrist needs room, too.
        cost: Taken off each score.
    """

    yaws: int
    slice_step_m: float
    depths_m: tuple[float, ...]
    palm_half_m: tuple[float, float]
    wrist: bool = True
    cost: float = 0.0


_COARSE = _Effort(8, 0.006, (0.026, 0.018, 0.010, 0.004), (0.106, 0.034))
_FINE = _Effort(16, 0.004, (0.026, 0.018, 0.010, 0.004, 0.0, -0.0015), (0.104, 0.030))
_TIGHT = _Effort(16, 0.004, _FINE.depths_m, (0.060, 0.020), wrist=False, cost=0.5)


class Problem(NamedTuple):
    """What a grasp is planned for.

    Attributes:
        target: (N, 3) points on the object, world metres.
        obstacles: (M, 3) points on everything else.
        center_of_mass: (3,) of the object.
        support_z: Height of the table; tilted hands keep above it.
    """

    target: np.ndarray
    obstacles: np.ndarray
    center_of_mass: np.ndarray
    support_z: float


#: What a grasp is worth to the rest of the task; added to its score.
Bonus = Callable[[Grasp], float]


def plan_grasps(problem: Problem, yaws: Sequence[float] | None = None, bonus: Bonus = lambda grasp: 0.0) -> list[Grasp]:
    """Return grasps, best first; the list is empty if the object cannot be reached.

    The search is widened only as far as needed: coarse, fine, with a leaning hand (something overhangs the object), and
    last without room for the wrist.

    Args:
        problem: The object and what stands around it.
        yaws: Only these directions of the closing axis, radians, from above; None tries all.
        bonus: Added to the scores before like grasps are reduced to the best of them.
    """
    grasps: list[Grasp] = []
    for effort in (_COARSE, _FINE):
        found = _search(problem, effort, yaws, bonus)
        grasps += found
        if len(found) >= _ENOUGH and found[0].score > _GOOD_SCORE:
            return _best_first(grasps)
    if yaws is None:
        for azimuth in np.arange(8) * np.pi / 4:
            if len(grasps) >= _ENOUGH and max(grasp.score for grasp in grasps) > _GOOD_SCORE:
                return _best_first(grasps)
            grasps += [replace(grasp, score=grasp.score + bonus(grasp)) for grasp in _search_leaning(problem, azimuth)]
    if len(grasps) < _ENOUGH or max(grasp.score for grasp in grasps) < _FAIR_SCORE:
        grasps += _search(problem, _TIGHT, yaws, bonus)
    return _best_first(grasps)


def _best_first(grasps: list[Grasp]) -> list[Grasp]:
    return sorted(grasps, key=lambda grasp: -grasp.score)


def _search_leaning(problem: Problem, azimuth: float) -> list[Grasp]:
    """Search in a frame that is leaned over, with the table as an obstacle."""
    lean = Rotation.from_rotvec(_LEAN_RAD * np.array([np.cos(azimuth), np.sin(azimuth), 0])).as_matrix()
    middle = problem.target.mean(axis=0)
    spread = np.arange(-0.15, 0.151, 0.01)
    x, y = (grid.ravel() for grid in np.meshgrid(spread, spread))
    table = np.column_stack([middle[0] + x, middle[1] + y, np.full(x.size, problem.support_z - 0.001)])
    obstacles = np.concatenate([problem.obstacles, table])
    obstacles = obstacles[np.linalg.norm(obstacles - middle, axis=1) < 0.3]
    leaned = Problem(
        (problem.target - middle) @ lean + middle,
        (obstacles - middle) @ lean + middle,
        (problem.center_of_mass - middle) @ lean + middle,
        problem.support_z,
    )
    floor = float(leaned.target[:, 2].min()) - 0.02
    return [
        Grasp(
            lean @ (grasp.position - middle) + middle,
            lean @ grasp.rotation,
            grasp.yaw,
            grasp.width,
            grasp.score - _LEAN_COST,
        )
        for grasp in _search(leaned, _COARSE, None, floor_z=floor, near_obstacles_only=False)
    ]


def _search(
    problem: Problem,
    effort: _Effort,
    yaws: Sequence[float] | None,
    bonus: Bonus = lambda grasp: 0.0,
    floor_z: float | None = None,
    near_obstacles_only: bool = True,
) -> list[Grasp]:
    """Search from straight above in the problem's own frame."""
    target = problem.target
    if len(target) > _MOST_POINTS:
        target = target[np.random.default_rng(0).choice(len(target), _MOST_POINTS, replace=False)]
    middle = target.mean(axis=0)
    bottom = float(problem.target[:, 2].min()) if floor_z is None else floor_z
    obstacles = problem.obstacles
    if near_obstacles_only and len(obstacles):
        near = np.linalg.norm(obstacles[:, :2] - middle[:2], axis=1) < 0.25
        obstacles = obstacles[near & (obstacles[:, 2] > bottom - 0.002)]
    if yaws is None:
        yaws = np.arange(-(effort.yaws // 2), effort.yaws // 2) * np.pi / effort.yaws
    # The highest point of a cell is written last.
    target = target[np.argsort(target[:, 2], kind="stable")]
    obstacles = obstacles[np.argsort(obstacles[:, 2], kind="stable")]
    found: list[Grasp] = []
    for yaw in yaws:
        found += _search_yaw(target, obstacles, middle, problem.center_of_mass, bottom, float(yaw), effort)
    return _diverse(_best_first([replace(grasp, score=grasp.score + bonus(grasp)) for grasp in found]))


def _search_yaw(
    target: np.ndarray,
    obstacles: np.ndarray,
    middle: np.ndarray,
    center_of_mass: np.ndarray,
    bottom: float,
    yaw: float,
    effort: _Effort,
) -> list[Grasp]:
    axes = np.array([[-np.sin(yaw), np.cos(yaw)], [np.cos(yaw), np.sin(yaw)]])  # closing axis, across it
    along, across = axes @ (target[:, :2] - middle[:2]).T
    heights = target[:, 2]
    top = float(heights[-1])
    parts = _parts_between_fingers(along, across, heights, bottom, top, effort)
    if not len(parts):
        return []
    parts = parts[_hand_has_room(parts, (along, across, heights), axes, obstacles, middle, effort)]
    if not len(parts):
        return []

    rotation = pointing_down(yaw)
    grasps = []
    for center, slice_at, grip_z, low, high, count, merged in parts:
        rough = _roughness(along, across, heights, (slice_at, grip_z, low, high))
        width = high - low
        position = np.array([*(middle[:2] + axes.T @ [center, slice_at]), grip_z])
        off_center = np.linalg.norm(position[:2] - center_of_mass[:2])
        score = (
            -20 * rough
            - 6 * off_center
            - 0.08 * abs(yaw)
            - 40 * max(0.0, width - 0.06)
            - 50 * max(0.0, 0.004 - width)
            + 8 * min(width, 0.02)
            + min(count, 60) / 600
            - 4 * abs(grip_z - (top - 0.018))
            - 0.3 * merged
            - effort.cost
        )
        grasps.append(Grasp(position, rotation, yaw, float(width), float(score)))
    return grasps


def _parts_between_fingers(
    along: np.ndarray, across: np.ndarray, heights: np.ndarray, bottom: float, top: float, effort: _Effort
) -> np.ndarray:
    """Return rows (centre, slice, grip height, low end, high end, points, merged) of parts the hand can close around."""
    by_across = np.argsort(across, kind="stable")
    sorted_across = across[by_across]
    grip_heights = []
    for depth in effort.depths_m:
        grip_z = max(top - depth, bottom + FINGERTIP_BELOW_M + 0.003)
        if all(abs(grip_z - other) > 1e-6 for other, _ in grip_heights):
            # The pads' reach below the site; a very shallow grasp needs all of it.
            grip_heights.append((grip_z, 0.006 if depth > 0.002 else 0.008))
    rows = []
    for slice_at in np.arange(across.min() + 0.004, across.max() - 0.003, effort.slice_step_m):
        first, last = np.searchsorted(sorted_across, [slice_at - PAD_HALF_WIDTH_M, slice_at + PAD_HALF_WIDTH_M])
        if last - first < 8:
            continue
        members = by_across[first:last]
        x, z = along[members], heights[members]
        order = np.argsort(x)
        x, z = x[order], z[order]
        for grip_z, reach in grip_heights:
            at_pads = x[(z > grip_z - reach) & (z < grip_z + 0.0116)]
            if len(at_pads) < 6:
                continue
            cuts = np.flatnonzero(np.diff(at_pads) > _GAP_M)
            starts, ends = [0, *(cuts + 1)], [*cuts, len(at_pads) - 1]
            for i in range(len(starts)):
                for j in range(i, min(len(starts), i + 3)):
                    low, high = at_pads[starts[i]], at_pads[ends[j]]
                    if _THINNEST_M <= high - low <= _WIDEST_M:
                        rows.append(((low + high) / 2, slice_at, grip_z, low, high, len(at_pads), float(j > i)))
    return np.array(rows).reshape(-1, 7)


def _hand_has_room(
    parts: np.ndarray,
    own: tuple[np.ndarray, np.ndarray, np.ndarray],
    axes: np.ndarray,
    obstacles: np.ndarray,
    middle: np.ndarray,
    effort: _Effort,
) -> np.ndarray:
    """Return which parts leave fingers, palm and wrist free, by look-up in height maps."""
    center, slice_at, grip_z = parts[:, 0], parts[:, 1], parts[:, 2]
    reach = 0.13
    low = np.array([own[0].min() - reach, own[1].min() - reach])
    shape = tuple(int(n) for n in np.ceil((np.array([own[0].max(), own[1].max()]) + reach - low) / _CELL_M) + 1)

    surface = _HeightMap(own[0], own[1], own[2], low, shape)
    inner, outer = FINGER_INNER_M - 0.003, FINGER_OUTER_M
    beside = surface.highest_within((outer - inner) / 2, PAD_HALF_WIDTH_M)
    finger_at = (inner + outer) / 2
    room = np.maximum(beside.at(center + finger_at, slice_at), beside.at(center - finger_at, slice_at)) < (
        grip_z - FINGERTIP_BELOW_M - 0.001
    )
    room &= surface.highest_within(0.10, 0.024).at(center, slice_at) < grip_z + PALM_ABOVE_M - 0.002
    if len(obstacles) and room.any():
        x, y = axes @ (obstacles[:, :2] - middle[:2]).T
        things = _HeightMap(x, y, obstacles[:, 2], low, shape)
        room &= things.highest_within(outer + 0.002, 0.0125).at(center, slice_at) < grip_z - FINGERTIP_BELOW_M
        room &= things.highest_within(*effort.palm_half_m).at(center, slice_at) < grip_z + PALM_ABOVE_M - 0.002
        if effort.wrist:
            for half in ((0.07, 0.03), (0.05, 0.05), (0.03, 0.07)):  # a disc of 7 cm
                room &= things.highest_within(*half).at(center, slice_at) < grip_z + 0.12
    return room


class _HeightMap:
    """Highest surface per cell of a grid over (closing axis, across)."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, z_rising: np.ndarray, low: np.ndarray, shape: tuple[int, ...]
    ) -> None:
        self._low = low
        columns = ((x - low[0]) / _CELL_M).astype(int)
        rows = ((y - low[1]) / _CELL_M).astype(int)
        inside = (columns >= 0) & (rows >= 0) & (columns < shape[0]) & (rows < shape[1])
        self._cells = np.full(shape, -np.inf, dtype=np.float32)
        self._cells[columns[inside], rows[inside]] = z_rising[inside]

    def highest_within(self, half_x_m: float, half_y_m: float) -> _HeightMap:
        """Return the map of the highest surface in a rectangle around each cell."""
        result = object.__new__(_HeightMap)
        result._low = self._low
        cells = self._cells
        for axis, half in enumerate((half_x_m, half_y_m)):
            cells = maximum_filter1d(cells, 2 * round(half / _CELL_M) + 1, axis, mode="constant", cval=-np.inf)
        result._cells = cells
        return result

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the height at points of the plane."""
        return self._cells[((x - self._low[0]) / _CELL_M).astype(int), ((y - self._low[1]) / _CELL_M).astype(int)]


def _roughness(along: np.ndarray, across: np.ndarray, heights: np.ndarray, part: tuple[float, ...]) -> float:
    """Return how much the two gripped faces move along the closing axis over the width of a pad, metres."""
    slice_at, grip_z, low, high = part
    chosen = (
        (np.abs(across - slice_at) < 0.010)
        & (heights > grip_z - 0.008)
        & (heights < grip_z + 0.0116)
        & (along >= low - 1e-6)
        & (along <= high + 1e-6)
    )
    x, offset = along[chosen], across[chosen] - slice_at
    faces = [
        (inside.min(), inside.max())
        for shift in (-0.006, 0.0, 0.006)
        if (inside := x[np.abs(offset - shift) < 0.004]).size
    ]
    if len(faces) < 2:
        return 0.03
    return float(np.ptp(faces, axis=0).sum()) + (0.01 if len(faces) == 2 else 0.0)


def _diverse(grasps: list[Grasp], most: int = 40) -> list[Grasp]:
    """Return the best grasps that differ from each other."""
    kept: list[Grasp] = []
    positions = np.empty((most, 3))
    doubled_yaws = np.empty(most)
    for grasp in grasps:
        count = len(kept)
        near = np.linalg.norm(positions[:count] - grasp.position, axis=1) <= 0.015
        turn = (doubled_yaws[:count] - 2 * grasp.yaw + np.pi) % (2 * np.pi) - np.pi
        if (near & (np.abs(turn) <= 0.6)).any():
            continue
        positions[count], doubled_yaws[count] = grasp.position, 2 * grasp.yaw
        kept.append(grasp)
        if len(kept) == most:
            break
    return kept
