"""The table as solids, and the picture of it.

Solids come in a fixed order per task, so that the same index means the same body before and after a step: exact flow
relies on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.camera import CameraParams, View, look_at
from flowbench.envs.toy.physics import BLOCK_HALF_M, FINGER_LENGTH_M, FINGER_RADIUS_M, ToyState
from flowbench.envs.toy.raycast import Box, Cylinder, Hits, Solid, Sphere, camera_rays, cast, pixel_grid
from flowbench.envs.toy.tasks import BALL_RADIUS_M, DISC_RADIUS_M, goal_shape, has_block
from flowbench.simulator import Frame

#: Object ids of the segmentation, by name.
SEGMENTATION_IDS = {"table": 1, "gripper": 2, "goal": 3, "block": 4}

_TABLE_HALF_M = (0.42, 0.34, 0.02)
_DISC_HALF_HEIGHT_M = 0.001
_PALM_HALF_M = (0.070, 0.022, 0.014)
_ROD_HALF_M = 0.25

_SUN = np.array([-0.45, -0.55, 1.0]) / np.linalg.norm([-0.45, -0.55, 1.0])
_SKY_LOW, _SKY_HIGH = np.array([0.93, 0.94, 0.96]), np.array([0.62, 0.72, 0.84])

#: Sub-pixel offsets of the extra rays that smooth edges in the `full` profile.
_SUBPIXELS = np.array([[-0.375, -0.125], [0.125, -0.375], [0.375, 0.125], [-0.125, 0.375]])
#: Neighbouring pixels whose light differs by more than this lie on an edge; full sun is 1.
_EDGE_LIGHT = 0.08


def solids(task_name: str, state: ToyState) -> list[Solid]:
    """Return the bodies of a task in their fixed order."""
    x, y, z = state.hand.tolist()
    steel, orange = (0.72, 0.74, 0.78), (0.95, 0.52, 0.16)
    palm_z = z + FINGER_LENGTH_M + _PALM_HALF_M[2]
    finger = Cylinder(FINGER_RADIUS_M, FINGER_LENGTH_M / 2)
    left_x, right_x = state.fingers_x
    bodies = [
        Solid("table", Box(_TABLE_HALF_M), (0.0, 0.03, -_TABLE_HALF_M[2]), (0.80, 0.66, 0.50), checker=0.07),
        Solid("gripper", finger, (left_x, y, z + FINGER_LENGTH_M / 2), steel),
        Solid("gripper", finger, (right_x, y, z + FINGER_LENGTH_M / 2), steel),
        Solid("gripper", Box(_PALM_HALF_M), (x, y, palm_z), orange),
        Solid(
            "gripper", Cylinder(0.016, _ROD_HALF_M), (x, y, palm_z + _PALM_HALF_M[2] + _ROD_HALF_M), (0.30, 0.32, 0.36)
        ),
    ]
    goal = tuple(state.goal.tolist())
    if goal_shape(task_name) == "ball":
        bodies.append(Solid("goal", Sphere(BALL_RADIUS_M), goal, (0.86, 0.18, 0.20)))
    elif goal_shape(task_name) == "disc":
        above_table = (goal[0], goal[1], _DISC_HALF_HEIGHT_M)
        bodies.append(Solid("goal", Cylinder(DISC_RADIUS_M, _DISC_HALF_HEIGHT_M), above_table, (0.25, 0.66, 0.38)))
    if has_block(task_name):
        center = (state.block_x, state.block_y, state.block_z + BLOCK_HALF_M)
        cube = Box((BLOCK_HALF_M,) * 3)
        bodies.append(Solid("block", cube, center, (0.22, 0.42, 0.80), yaw=state.block_yaw, checker=BLOCK_HALF_M))
    return bodies


def view(name: str, state: ToyState) -> View:
    """Return a named camera as it stands now."""
    if name == "front":
        return View(look_at(np.array([0.0, -0.66, 0.47]), np.array([0.0, 0.02, 0.07])), 45.0)
    if name == "side":
        return View(look_at(np.array([0.72, -0.22, 0.42]), np.array([0.0, 0.02, 0.07])), 45.0)
    # Under the palm's front edge, tilted towards the fingertips; it rides with the hand.
    eye = state.hand + [0.0, -0.075, 0.075]
    return View(look_at(eye, state.hand + [0.0, 0.015, -0.01]), 75.0, mounted=True)


def draw(task_name: str, state: ToyState, camera: CameraParams, modalities: frozenset[str], profile: str) -> Frame:
    """Ray cast one frame.

    Depth and ids are those of the pixel centres. RGB has shadows and smoothed edges in the `full` profile.
    """
    bodies = solids(task_name, state)
    origins, directions = camera_rays(camera, pixel_grid(camera))
    hits = cast(bodies, origins, directions)
    shape = (camera.height, camera.width)
    rgb = depth_m = ids = moving = None
    if "depth" in modalities:
        depth_m = np.where(hits.solid >= 0, hits.distance, 0).astype(np.float32).reshape(shape)
    if "segmentation" in modalities:
        # The last entry is what index -1 (nothing hit) finds.
        lookup = np.array([*(SEGMENTATION_IDS[body.name] for body in bodies), 0], dtype=np.int32)
        ids = lookup[hits.solid].reshape(shape)
    if "bodies" in modalities:
        moving = (hits.solid + 1).astype(np.int32).reshape(shape)
    if "rgb" in modalities:
        shaded = _shade(bodies, camera, origins, directions, hits, shadows=profile == "full")
        colours = shaded.colours.T.reshape(*shape, 3)
        if profile == "full":
            _smooth_edges(bodies, camera, colours, hits.solid.reshape(shape), shaded.light.reshape(shape))
        rgb = (colours * 255 + 0.5).astype(np.uint8)
    return Frame(rgb, depth_m, ids, moving)


class _Shaded(NamedTuple):
    """Colours in [0, 1], (3, N), and the light (N,) that fell there."""

    colours: np.ndarray
    light: np.ndarray


def _shade(
    bodies: list[Solid],
    camera: CameraParams,
    origins: np.ndarray,
    directions: np.ndarray,
    hits: Hits,
    *,
    shadows: bool,
) -> _Shaded:
    """Lambert's law with one sun and a sky that is brighter above."""
    colours = np.empty(directions.shape)
    sky_light, sun_light = np.ones(directions.shape[1]), np.zeros(directions.shape[1])
    missed = np.flatnonzero(hits.solid < 0)
    colours[:, missed] = _sky(directions[:, missed])
    lit, lit_points = [missed[:0]], [directions[:, :0]]
    for index, body in enumerate(bodies):
        mine = np.flatnonzero(hits.solid == index)
        if not len(mine):
            continue
        distance = hits.distance[mine]
        points = np.take(directions, mine, axis=1) * distance + origins
        local = body.to_local(points)
        normals = body.rotation @ body.shape.normals(local)
        sunny = _SUN @ normals
        sky_light[mine] = 0.39 + 0.11 * normals[2]
        sun_light[mine] = 0.62 * np.maximum(sunny, 0)
        albedo = 1.0
        if body.checker:
            blur_m = distance / camera.intrinsics[1, 1]
            albedo = 1 - 0.16 * _checker(local, body.checker, blur_m) * (normals[2] > 0.5)
        colours[:, mine] = np.array(body.colour)[:, None] * albedo
        towards_sun = sunny > 0
        lit.append(mine[towards_sun])
        lit_points.append(points[:, towards_sun])
    if shadows:
        lit, lit_points = np.concatenate(lit), np.concatenate(lit_points, axis=1)
        # The table (first) cannot shadow anything that stands on it.
        if len(lit):
            sun_light[lit[cast(bodies[1:], lit_points, _SUN[:, None]).solid >= 0]] = 0
    light = sky_light + sun_light
    return _Shaded(np.minimum(colours * light, 1), light)


def _sky(directions: np.ndarray) -> np.ndarray:
    up = directions[2] / np.sqrt((directions * directions).sum(axis=0))
    return _SKY_LOW[:, None] + (_SKY_HIGH - _SKY_LOW)[:, None] * np.clip(up * 1.5 + 0.6, 0, 1)


def _checker(local: np.ndarray, edge_m: float, blur_m: np.ndarray) -> np.ndarray:
    """Return the darkness (N,) in [0, 1] of a chess board, its edges blurred over the width of a pixel."""
    sign = 1.0
    for along in local[:2] / edge_m:
        # A triangle wave, 0 on the edges and 1/2 in the middle of a square, negative on every other square.
        wave = np.abs((along + 0.5) % 2 - 1) - 0.5
        sign = sign * np.clip(wave * (2 * edge_m / blur_m), -1, 1)
    return 0.5 - 0.5 * sign


def _smooth_edges(
    bodies: list[Solid], camera: CameraParams, colours: np.ndarray, solid: np.ndarray, light: np.ndarray
) -> None:
    """Replace (H, W, 3) colours where the body or the light changes by the mean of four rays per pixel, in place."""
    edge = np.zeros(solid.shape, dtype=bool)
    across = (solid[:, 1:] != solid[:, :-1]) | (np.abs(light[:, 1:] - light[:, :-1]) > _EDGE_LIGHT)
    down = (solid[1:] != solid[:-1]) | (np.abs(light[1:] - light[:-1]) > _EDGE_LIGHT)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    rows, columns = np.nonzero(edge)
    if not len(rows):
        return
    pixels = np.concatenate([np.stack([columns + right, rows + below]) for right, below in _SUBPIXELS], axis=1)
    origins, directions = camera_rays(camera, pixels)
    hits = cast(bodies, origins, directions)
    samples = _shade(bodies, camera, origins, directions, hits, shadows=True).colours
    colours[rows, columns] = samples.reshape(3, len(_SUBPIXELS), -1).mean(axis=1).T
