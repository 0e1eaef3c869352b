"""Putting something where it does not fit from straight above: onto a covered shelf, into a drawer too shallow to stand in.

One search answers where to hold it, how to lean the hand and where to end: every pose of the held object in the goal region
is tried against the distances to everything around, along the whole way in, for the object, the fingers and the hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from flowbench.agents.scripted.libero.collision_points import box_points
from flowbench.agents.scripted.libero.grasps import Grasp, Problem, plan_grasps
from flowbench.agents.scripted.libero.hand import (
    FINGER_INNER_M,
    FINGER_OUTER_M,
    FINGERTIP_BELOW_M,
    PALM_ABOVE_M,
    POINTING_DOWN,
    about_z,
    leaning,
    rotation_vector,
)
from flowbench.agents.scripted.libero.motion import Arm, Steps
from flowbench.agents.scripted.libero.picking import Wish, pick
from flowbench.agents.scripted.libero.scene import Region, Scene

Goal = tuple[str, ...]

_CELL_M = 0.004
#: A cover is at least this far above a region's middle, metres: a stove's burner rises 3 cm above its, shelves have 6 cm.
_LOWEST_COVER_M = 0.045
#: Room that the object and the hand keep from everything, metres.
_OBJECT_ROOM_M, _HAND_ROOM_M = 0.004, 0.006
#: How far inside the region the object's root ends at least, metres.
_INSIDE_M = 0.010
#: Without a way in, the scene is looked at again after these steps; a search costs as much as a hundred.
_WAIT_STEPS = 60
#: Length of the straight way in, metres.
_WAY_IN_M = 0.20
_LEANS_RAD = np.deg2rad([0, 20, 40, 55, 63, 70])
_TURNS_RAD = np.deg2rad([0, 22.5, -22.5, 45, -45, 67.5, -67.5, 90, -90])
#: What leans at least this much falls on its side when it is let go of above a region, from this far above, metres.
_FALLING_LEAN_RAD, _DROP_M = np.deg2rad(60), 0.05
#: The wrist turns the hand this far from its first posture; the arm's last joint ends 2.1 rad from there on one side.
_WRIST_REACH_RAD = 1.7
#: What a radian of leaning costs, anyhow and straight back at the robot, and one of turning, and
#: what a metre farther in is worth, in units of a grasp's score.
_LEAN_COST, _BACKWARDS_COST, _TURN_COST, _DEPTH_WORTH = 0.5, 2.0, 0.25, 6.0
_MOST_GRASPS = 24
_MOST_POINTS = 160


class _Grip(NamedTuple):
    """A way in which the object is, or could be, held.

    Attributes:
        rotation: (3, 3) hand to world at present.
        points: (N, 3) the object in the hand's frame, metres.
        root: (3,) its root in the hand's frame.
        hand_points: (M, 3) fingers, palm and wrist in the hand's frame.
        score: Higher is better.
        grasp: The grasp, if the object is not held yet.
    """

    rotation: np.ndarray
    points: np.ndarray
    root: np.ndarray
    hand_points: np.ndarray
    score: float
    grasp: Grasp | None


class _WayIn(NamedTuple):
    """An end pose and the direction of the straight way to it.

    Attributes:
        rotation: (3, 3) hand to world.
        root: (3,) where the object's root ends, world metres.
        hand: (3,) where the hand ends, world metres.
        direction: (3,) unit, world.
        grip: How the object is held.
    """

    rotation: np.ndarray
    root: np.ndarray
    hand: np.ndarray
    direction: np.ndarray
    grip: _Grip


class _Room:
    """Distances to everything near a region, by look-up."""

    def __init__(self, points: np.ndarray, middle: np.ndarray, floor_z: float) -> None:
        """Measure the distances in a box around `middle`; below `floor_z` (world metres) there is no room."""
        reach = np.array([0.36, 0.36, 0.30])
        self._low = middle - reach
        shape = np.ceil(2 * reach / _CELL_M).astype(int)
        free = np.ones(shape, dtype=bool)
        free[:, :, : max(0, int(np.ceil((floor_z - self._low[2]) / _CELL_M)))] = False
        cells = ((points - self._low) / _CELL_M).astype(int)
        cells = cells[((points >= self._low) & (cells < shape)).all(axis=1)]
        free[tuple(cells.T)] = False
        self._distance = distance_transform_edt(free).astype(np.float32) * _CELL_M
        self._highest = shape - 1

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the distances of (..., 3) world points from the nearest thing, metres."""
        cells = np.clip(((points - self._low) / _CELL_M).astype(int), 0, self._highest)
        return self._distance[cells[..., 0], cells[..., 1], cells[..., 2]]


def is_covered(scene: Scene, region: Region) -> bool:
    """Whether a part of the region's own fixture hangs over its middle."""
    if not region.parent:
        return False
    points = scene.points(region.parent, 0.01)
    above = np.linalg.norm(points[:, :2] - region.position[:2], axis=1) < 0.03
    return bool((points[above, 2] > region.position[2] + _LOWEST_COVER_M).any())


def stands_too_high(scene: Scene, region: Region, name: str) -> bool:
    """Whether an object that stands upright on the region's floor has its root above the region."""
    height = scene.position(name)[2] - scene.points(name, 0.006)[:, 2].min()
    return bool(height > 2 * np.abs(region.rotation @ region.half_size)[2] - 0.005)


def insert(arm: Arm, goal: Goal, region: Region) -> Steps[None]:
    """Pick the object, lean it as it has to be, and move it into the region in a straight line."""
    scene, name = arm.scene, goal[1]
    if arm.held is not None:
        yield from arm.release()
    room = _Room(scene.obstacles([name], 0.004), region.position, scene.support_z)
    plan = _best_way_in(scene, room, region, _possible_grips(arm, name))
    if plan is None:
        arm.banned.pop(name, None)
        yield from arm.wait(_WAIT_STEPS)
        return
    chosen = plan.grip.grasp
    wish = Wish(bonus=lambda grasp: 100.0 if np.allclose(grasp.position, chosen.position, atol=1e-4) else 0.0)
    if not (yield from pick(arm, name, wish, tries=1)):
        return
    plan = _best_way_in(scene, room, region, [_present_grip(scene, name)]) or plan

    hang_m = float(-(plan.grip.points @ plan.rotation.T)[:, 2].min()) + 0.02
    start = plan.hand - _WAY_IN_M * plan.direction
    yield from arm.travel(start, plan.rotation, hang_m=max(hang_m, 0.02), without=[name], within_m=0.015)
    yield from _move_in(arm, goal, plan)
    yield from arm.release(-0.12 * plan.direction)


def _move_in(arm: Arm, goal: Goal, plan: _WayIn) -> Steps[None]:
    """Follow the straight way with feedback of the object's root; beside the way, wait until it is back on it."""
    scene, name = arm.scene, goal[1]
    nearest, waited = np.inf, 0
    for _ in range(90):
        if not scene.is_gripped(name):
            return
        error = plan.root - scene.position(name)
        ahead = float(error @ plan.direction)
        aside = error - ahead * plan.direction
        if ahead < 0.004 and (scene.holds(goal) or np.linalg.norm(aside) < 0.01):
            return
        cost = max(ahead, 0.0) + float(np.linalg.norm(aside))
        if cost < nearest - 0.001:
            nearest, waited = cost, 0
        else:
            waited += 1
            if waited > 10:
                return
        forward = np.clip(ahead, -0.03, 0.03) if np.linalg.norm(aside) < 0.012 else 0.0
        yield arm.towards(scene.hand().position + aside + forward * plan.direction, plan.rotation, speed=0.6)


def _possible_grips(arm: Arm, name: str) -> list[_Grip]:
    scene = arm.scene
    points, root = scene.points(name, 0.003), scene.position(name)
    problem = Problem(points, scene.obstacles([name], 0.006), scene.center_of_mass(name), scene.support_z)
    grips = []
    for grasp in plan_grasps(problem):
        here = Grasp(grasp.position - root, grasp.rotation, grasp.yaw, grasp.width, grasp.score)
        if any(here.resembles(failed, 0.012, 0.2) for failed in arm.banned.get(name, [])):
            continue
        grips.append(_grip(grasp.rotation, grasp.position, points, root, grasp.width, grasp.score, grasp))
    return grips[:_MOST_GRASPS]


def _present_grip(scene: Scene, name: str) -> _Grip:
    hand = scene.hand()
    width = float(np.abs(scene.finger_positions()).sum())
    return _grip(hand.rotation, hand.position, scene.points(name, 0.003), scene.position(name), width, 0.0, None)


def _grip(
    rotation: np.ndarray,
    position: np.ndarray,
    points: np.ndarray,
    root: np.ndarray,
    width: float,
    score: float,
    grasp: Grasp | None,
) -> _Grip:
    every = max(1, len(points) // _MOST_POINTS)
    corners = points[[int(pick) for axis in range(3) for pick in (points[:, axis].argmin(), points[:, axis].argmax())]]
    held = (np.concatenate([points[::every], corners]) - position) @ rotation
    return _Grip(rotation, held, (root - position) @ rotation, _hand_points(width), score, grasp)


def _hand_points(width: float) -> np.ndarray:
    """Return points on the fingers, closed on something `width` metres wide, the palm and the wrist, in the hand's frame."""
    thickness = FINGER_OUTER_M - FINGER_INNER_M
    finger = box_points(np.array([thickness / 2, 0.0105, (PALM_ABOVE_M + FINGERTIP_BELOW_M) / 2]), 0.012)
    finger = finger + [0, 0, (FINGERTIP_BELOW_M - PALM_ABOVE_M) / 2]
    aside = np.array([(width + thickness) / 2, 0, 0])
    palm = box_points(np.array([0.103, 0.032, 0.035]), 0.015) - [0, 0, PALM_ABOVE_M + 0.035]
    wrist = box_points(np.array([0.045, 0.045, 0.05]), 0.015) - [0, 0, PALM_ABOVE_M + 0.12]
    return np.concatenate([finger + aside, finger - aside, palm, wrist])


def _best_way_in(scene: Scene, room: _Room, region: Region, grips: Sequence[_Grip]) -> _WayIn | None:
    """Return the best way in; from above, if no end in the region is free, one from which the object falls into it."""
    return _search(scene, room, region, grips, 0.0) or _search(scene, room, region, grips, _DROP_M)


def _search(scene: Scene, room: _Room, region: Region, grips: Sequence[_Grip], drop_m: float) -> _WayIn | None:
    half = np.abs(region.rotation @ region.half_size)
    outward = (region.position - scene.robot_base()) * [1, 1, 0]
    outward /= np.linalg.norm(outward)
    tries = []
    for direction in _open_directions(room, region, half):
        if drop_m and direction[2] == 0:
            continue
        azimuths = (
            [direction]
            if direction[2] == 0
            else [np.array([np.cos(a), np.sin(a), 0]) for a in np.arange(4) * np.pi / 2]
        )
        for azimuth in azimuths:
            backwards = max(0.0, float(-azimuth @ outward) - 0.1)
            for lean in [lean for lean in _LEANS_RAD if not drop_m or lean >= _FALLING_LEAN_RAD]:
                for turn in _TURNS_RAD:
                    for grip in grips:
                        wrist = np.linalg.norm(rotation_vector(about_z(turn) @ grip.rotation @ POINTING_DOWN.T))
                        if wrist > _WRIST_REACH_RAD:
                            continue
                        cost = (_LEAN_COST + _BACKWARDS_COST * backwards) * lean + _TURN_COST * abs(turn) - grip.score
                        tries.append((float(cost), len(tries), direction, azimuth, lean, turn, grip))
    tries.sort(key=lambda attempt: attempt[:2])
    best, best_cost = None, np.inf
    for cost, _, direction, azimuth, lean, turn, grip in tries:
        most_depth = float(half @ np.abs(direction))  # Beyond the middle, depth is worth nothing more.
        if cost - _DEPTH_WORTH * most_depth >= best_cost:
            continue
        rotation = leaning(azimuth, lean) @ about_z(turn) @ grip.rotation
        roots = _end_positions(region.position, half, direction) + [0, 0, drop_m]
        depth = np.minimum((roots - region.position) @ direction + most_depth, most_depth)
        for root in _free_ends(room, grip, rotation, direction, roots, depth):
            total = cost - _DEPTH_WORTH * root[1]
            if total < best_cost:
                hand = root[0] - rotation @ grip.root
                best, best_cost = _WayIn(rotation, root[0], hand, direction, grip), total
            break
    return best


def _open_directions(room: _Room, region: Region, half: np.ndarray) -> list[np.ndarray]:
    """Return the (3,) unit directions of ways into a region that nothing blocks."""
    found = []
    for direction in np.array([[0, 0, -1.0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]):
        along = np.arange(0, float(half @ np.abs(direction)) + 0.12, 0.01)
        if room.at(region.position - along[:, None] * direction).min() > 0.012:
            found.append(direction)
    return found


def _end_positions(middle: np.ndarray, half: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return (K, 3) positions of the root inside a region."""
    lines = []
    for axis in range(3):
        reach = max(half[axis] - _INSIDE_M, 0.0)
        step = 0.014 if axis == 2 or direction[axis] else 0.03
        count = max(1, int(2 * reach / step) + 1)
        lines.append(middle[axis] + np.linspace(-reach, reach, count))
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)


def _free_ends(
    room: _Room, grip: _Grip, rotation: np.ndarray, direction: np.ndarray, roots: np.ndarray, depth: np.ndarray
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield (root, depth in metres) of ends that are free, with a free way to them, deepest first."""
    held = (grip.points - grip.root) @ rotation.T
    hand = (grip.hand_points - grip.root) @ rotation.T

    def free(at: np.ndarray) -> np.ndarray:
        result = np.ones(len(at), dtype=bool)
        for points, margin in ((held[::4], _OBJECT_ROOM_M), (hand, _HAND_ROOM_M), (held, _OBJECT_ROOM_M)):
            left = np.flatnonzero(result)
            if len(left):
                result[left] = (room.at(at[left][:, None] + points) > margin).all(axis=1)
        return result

    candidates = np.flatnonzero(free(roots))
    for index in candidates[np.argsort(-depth[candidates], kind="stable")][:12]:
        way = roots[index] - np.arange(0.02, _WAY_IN_M + 1e-9, 0.02)[:, None] * direction
        if free(way).all():
            yield roots[index], float(depth[index])
