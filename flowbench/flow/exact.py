"""Exact correspondences between two views of a simulated scene: flow, occlusion, scene flow and tracks.

Every pixel's surface point rides on the rigid body behind it and is projected again. Nothing is estimated, and tracks are
not chained from frame to frame (where they would be carried off by whatever covers the point), so that a track over a
whole episode is as exact as one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flowbench.camera import CameraParams
from flowbench.errors import BadValue, ShapeError
from flowbench.flow.snapshot import Snapshot

#: A point is seen if it lies within the depths that its own body has in the four pixels around it, give or take this many
#: metres. The slope of a flat surface is thereby allowed for, and the rest of this is for curved ones.
DEPTH_TOLERANCE_M = 0.004


@dataclass(frozen=True)
class Correspondence:
    """Where every pixel of one view is in another.

    Attributes:
        flow_px: float32 (H, W, 2) pixels right and down; NaN where the point ends up behind the target's camera.
        visible: bool (H, W) whether the point is inside the target's image and not hidden there.
        scene_flow_m: float32 (H, W, 3) displacement in the world, metres; 0 for what is infinitely far away.
    """

    flow_px: np.ndarray
    visible: np.ndarray
    scene_flow_m: np.ndarray


@dataclass(frozen=True)
class Tracks:
    """Where N points are in T snapshots.

    Attributes:
        pixels: float64 (T, N, 2) column and row; NaN behind the camera.
        visible: bool (T, N) whether the point is inside the image and not hidden.
        points_world: float64 (T, N, 3) metres; NaN for points that are infinitely far away.
    """

    pixels: np.ndarray
    visible: np.ndarray
    points_world: np.ndarray


def exact_flow(source: Snapshot, target: Snapshot) -> Correspondence:
    """Return the exact flow from one snapshot of a scene to another.

    Either may be the earlier one, and they may be of different cameras.

    Args:
        source: Whose pixels are followed.
        target: Where they are looked for.

    Raises:
        BadValue: If the snapshots are of scenes with different bodies.
    """
    _check_same_scene(source, target)
    height, width = source.depth_m.shape
    carried = _carry(source, target.body_to_world, target.camera)
    flow_px = _flow_of(carried, height, width)

    here = source.bodies, source.depth_m
    there = (target.bodies, target.depth_m)
    if here[0].shape == there[0].shape:
        visible = ((here[0] == there[0]) & (np.abs(here[1] - there[1]) <= DEPTH_TOLERANCE_M)).ravel()
    else:
        visible = np.zeros(height * width, dtype=bool)
    visible[carried.index] = _is_seen(target, carried.bodies, carried.landing_px, carried.depth_m)

    scene_flow_m = np.zeros((height * width, 3), np.float32)
    moved = moved_bodies(source.body_to_world, target.body_to_world)
    index = np.flatnonzero((moved[source.bodies] & (source.depth_m > 0)).ravel())
    points_world = source.camera.unproject(_pixels(index, width), source.depth_m.ravel()[index])
    motions = target.body_to_world @ source.world_to_body
    scene_flow_m[index] = _moved(motions, source.bodies.ravel()[index], points_world) - points_world
    return Correspondence(flow_px, visible.reshape(height, width), scene_flow_m.reshape(height, width, 3))


def flow_to(source: Snapshot, body_to_world: np.ndarray, camera: CameraParams) -> np.ndarray:
    """Return the float32 (H, W, 2) flow in pixels to another state of the scene, without asking what is hidden there.

    That needs no picture of the other state, only where its bodies and its camera stand.

    Args:
        source: Whose pixels are followed.
        body_to_world: (N, 4, 4) poses of the bodies in the other state.
        camera: The camera of the other view.
    """
    return _flow_of(_carry(source, body_to_world, camera), *source.depth_m.shape)


def track_points(snapshots: Sequence[Snapshot], pixels: np.ndarray) -> Tracks:
    """Follow points of the first snapshot through all of them.

    Args:
        snapshots: T views of one scene, in any order of time.
        pixels: (N, 2) column and row in the first; between pixel centres the depth is interpolated within one body.

    Raises:
        BadValue: If the snapshots are of scenes with different bodies, or there are none.
        ShapeError: If `pixels` is not (N, 2) or lies outside the image.
    """
    if not snapshots:
        raise BadValue("track_points got no snapshots; give at least the one that the pixels lie in.")
    first = snapshots[0]
    _check_same_scene(*snapshots)
    pixels = np.asarray(pixels, dtype=np.float64)
    if pixels.ndim != 2 or pixels.shape[1] != 2:
        raise ShapeError(f"pixels has shape {pixels.shape}; expected (N, 2), column and row.")
    if not np.all(_inside(first.camera, pixels)):
        raise ShapeError(
            f"Some pixels lie outside the {first.camera.width}x{first.camera.height} image they are tracked in."
        )
    bodies, depth_m = _surface_at(first, pixels)
    rays = _rays(first.camera, pixels)
    is_far = (depth_m == 0)[:, None]
    points_camera = np.where(is_far, rays, rays * depth_m[:, None])
    points_world = np.where(is_far, np.nan, first.camera.unproject(pixels, depth_m))
    tracked_px, seen, tracked_world = [], [], []
    for snapshot in snapshots:
        carry = snapshot.camera.world_to_camera @ snapshot.body_to_world @ first.world_to_body
        carry = carry @ first.camera.camera_to_world
        landing_px, landing_depth_m = _land(snapshot.camera, carry, bodies, points_camera, depth_m > 0)
        tracked_px.append(landing_px)
        seen.append(_is_seen(snapshot, bodies, landing_px, landing_depth_m))
        tracked_world.append(_moved(snapshot.body_to_world @ first.world_to_body, bodies, points_world))
    return Tracks(np.stack(tracked_px), np.stack(seen), np.stack(tracked_world))


def moved_bodies(body_to_world: np.ndarray, other_body_to_world: np.ndarray) -> np.ndarray:
    """Return the bool (N,) of the bodies whose (N, 4, 4) poses differ at all."""
    return np.any(body_to_world != other_body_to_world, axis=(1, 2))


class _Carried(NamedTuple):
    """The pixels that may have moved: flat index (n,), body (n,), where they land (n, 2) and at which depth (n,)."""

    index: np.ndarray
    bodies: np.ndarray
    landing_px: np.ndarray
    depth_m: np.ndarray


def _carry(source: Snapshot, body_to_world: np.ndarray, camera: CameraParams) -> _Carried:
    moved = moved_bodies(source.body_to_world, body_to_world)
    if not _is_same(source.camera, camera):
        moved[:] = True
    bodies = source.bodies.ravel()
    index = np.flatnonzero(moved[bodies])
    bodies, depth_m = bodies[index], source.depth_m.ravel()[index].astype(np.float64)
    is_near = depth_m > 0
    # What is infinitely far away has a direction and no distance: a turn of the camera moves it, a shift does not.
    points_camera = _rays(source.camera, _pixels(index, source.camera.width)) * np.where(is_near, depth_m, 1.0)[:, None]
    # From camera to camera, by body: one product per pixel.
    carry = camera.world_to_camera @ body_to_world @ source.world_to_body @ source.camera.camera_to_world
    return _Carried(index, bodies, *_land(camera, carry, bodies, points_camera, is_near))


def _flow_of(carried: _Carried, height: int, width: int) -> np.ndarray:
    flow_px = np.zeros((height * width, 2), np.float32)
    flow_px[carried.index] = carried.landing_px - _pixels(carried.index, width)
    return flow_px.reshape(height, width, 2)


def _land(
    camera: CameraParams, carry: np.ndarray, bodies: np.ndarray, points_camera: np.ndarray, is_near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 2) pixels, NaN behind the camera, and (n,) depths, 0 for what is infinitely far away."""
    landed = np.einsum("nij,nj->ni", carry[bodies, :3, :3], points_camera)
    landed += np.where(is_near[:, None], carry[bodies, :3, 3], 0)
    depth_m = landed[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        landing_px = landed[:, :2] / depth_m[:, None] * camera.intrinsics[[0, 1], [0, 1]] + camera.intrinsics[:2, 2]
    landing_px[depth_m <= 0] = np.nan
    return landing_px, np.where(is_near, depth_m, 0)


def _moved(motions: np.ndarray, bodies: np.ndarray, points_world: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", motions[bodies, :3, :3], points_world) + motions[bodies, :3, 3]


def _is_seen(target: Snapshot, bodies: np.ndarray, landing_px: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """Return the bool (n,) of landing points that are inside the target's image and not hidden."""
    height, width = target.depth_m.shape
    inside = _inside(target.camera, landing_px)
    corner = np.floor(np.where(inside[:, None], landing_px, 0)).astype(np.intp)
    nearest, farthest = np.full(len(bodies), np.inf), np.full(len(bodies), -np.inf)
    flat_bodies, flat_depth_m = target.bodies.ravel(), target.depth_m.ravel()
    is_near = depth_m > 0
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        columns = np.clip(corner[:, 0] + right, 0, width - 1)
        rows = np.clip(corner[:, 1] + below, 0, height - 1)
        around = rows * width + columns
        around_m = flat_depth_m[around]
        same = (flat_bodies[around] == bodies) & ((around_m > 0) == is_near)
        nearest = np.where(same, np.minimum(nearest, around_m), nearest)
        farthest = np.where(same, np.maximum(farthest, around_m), farthest)
    return inside & (depth_m >= nearest - DEPTH_TOLERANCE_M) & (depth_m <= farthest + DEPTH_TOLERANCE_M)


def _surface_at(snapshot: Snapshot, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n,) body and depth in metres at (n, 2) positions inside the image."""
    height, width = snapshot.depth_m.shape
    columns, rows = np.clip(np.rint(pixels).astype(np.intp), 0, [width - 1, height - 1]).T
    bodies, depth_m = snapshot.bodies[rows, columns], snapshot.depth_m[rows, columns].astype(np.float64)
    corner = np.clip(np.floor(pixels).astype(np.intp), 0, [max(width - 2, 0), max(height - 2, 0)])
    fraction = pixels - corner
    usable, inverse_m = depth_m > 0, np.zeros(len(pixels))
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        columns, rows = np.minimum(corner + [right, below], [width - 1, height - 1]).T
        around_m = snapshot.depth_m[rows, columns].astype(np.float64)
        weight = np.abs(1 - right - fraction[:, 0]) * np.abs(1 - below - fraction[:, 1])
        usable &= (snapshot.bodies[rows, columns] == bodies) & (around_m > 0)
        # A flat surface is linear in the inverse of its depth.
        inverse_m += weight / np.where(around_m > 0, around_m, 1)
    on_grid = np.all(pixels == np.rint(pixels), axis=1)
    return bodies, np.where(usable & ~on_grid, 1 / np.where(usable, inverse_m, 1), depth_m)


def _pixels(index: np.ndarray, width: int) -> np.ndarray:
    """Return (n, 2) column and row of flat indices."""
    rows, columns = np.divmod(index, width)
    return np.stack([columns, rows], axis=1).astype(np.float64)


def _rays(camera: CameraParams, pixels: np.ndarray) -> np.ndarray:
    """Return (n, 3) directions in the camera's frame, of length 1 along the optical axis."""
    rays = np.ones((len(pixels), 3))
    rays[:, :2] = (pixels - camera.intrinsics[:2, 2]) / camera.intrinsics[[0, 1], [0, 1]]
    return rays


def _inside(camera: CameraParams, pixels: np.ndarray) -> np.ndarray:
    # False for NaN.
    return np.all((pixels >= -0.5) & (pixels <= [camera.width - 0.5, camera.height - 0.5]), axis=1)


def _is_same(one: CameraParams, other: CameraParams) -> bool:
    return (
        (one.width, one.height) == (other.width, other.height)
        and np.array_equal(one.intrinsics, other.intrinsics)
        and np.array_equal(one.camera_to_world, other.camera_to_world)
    )


def _check_same_scene(*snapshots: Snapshot) -> None:
    counts = {len(snapshot.body_to_world) for snapshot in snapshots}
    if len(counts) > 1:
        raise BadValue(
            f"The snapshots have {' and '.join(map(str, sorted(counts)))} bodies, so they are not of one scene. Take both "
            "from the same task."
        )
