"""Exact optical flow between two states of a toy task, for testing flow estimators and flow-to-action stages.

Every pixel's surface point is carried along with the rigid body it lies on and projected again; a second ray through the
very position where it lands says whether it is seen there. Nothing is interpolated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.camera import CameraParams, transform_points
from flowbench.envs.toy.physics import ToyState
from flowbench.envs.toy.raycast import camera_rays, cast, pixel_grid
from flowbench.envs.toy.scene import solids
from flowbench.simulator import SimulatorState

#: A landing point counts as seen when the second ray meets its body within this many metres of it.
_SAME_POINT_M = 1e-6


class ExactFlow(NamedTuple):
    """Forward flow of one image.

    Attributes:
        flow_px: float32 (H, W, 2) pixels to the right and down; NaN where a point ends up behind the camera.
        visible: bool (H, W), whether the point is inside the second image and not hidden there.
    """

    flow_px: np.ndarray
    visible: np.ndarray


def exact_flow(
    task_name: str,
    before: SimulatorState,
    after: SimulatorState,
    camera_before: CameraParams,
    camera_after: CameraParams | None = None,
) -> ExactFlow:
    """Return the forward flow from one state of a task to another.

    Pixels of the background are infinitely far away: they move only when the camera turns.

    Args:
        task_name: Name of the toy task.
        before: State of the first image, from `Simulator.get_state`.
        after: State of the second image.
        camera_before: Calibration of the first image; may be mirrored.
        camera_after: Calibration of the second image; None when the camera stood still.
    """
    camera_after = camera_after or camera_before
    bodies = solids(task_name, ToyState.from_vector(before.physics))
    moved = solids(task_name, ToyState.from_vector(after.physics))
    pixels = pixel_grid(camera_before)
    origins, directions = camera_rays(camera_before, pixels)
    hits = cast(bodies, origins, directions)

    seen_from = camera_after.world_to_camera
    points_camera = seen_from[:3, :3] @ directions
    for index, (body, body_after) in enumerate(zip(bodies, moved, strict=True)):
        mine = np.flatnonzero(hits.solid == index)
        points_world = origins + directions[:, mine] * hits.distance[mine]
        points_after = body_after.to_world(body.to_local(points_world))
        points_camera[:, mine] = transform_points(seen_from, points_after.T).T

    ahead = points_camera[2] > 0
    focal, centre = camera_after.intrinsics[[0, 1], [0, 1]], camera_after.intrinsics[:2, 2]
    landing = np.full(pixels.shape, np.nan)
    landing[:, ahead] = focal[:, None] * points_camera[:2, ahead] / points_camera[2, ahead] + centre[:, None]

    size = np.array([[camera_after.width], [camera_after.height]])
    with np.errstate(invalid="ignore"):
        inside = ahead & ((landing >= -0.5) & (landing <= size - 0.5)).all(axis=0)
    visible = np.zeros(len(ahead), dtype=bool)
    landed = np.flatnonzero(inside)
    again = cast(moved, *camera_rays(camera_after, landing[:, landed]))
    # At a silhouette the second ray may just miss: the same body at the same depth is what counts.
    is_background = hits.solid[landed] < 0
    same_depth = np.abs(again.distance - points_camera[2, landed]) < _SAME_POINT_M
    visible[landed] = (again.solid == hits.solid[landed]) & (is_background | same_depth)

    shape = (camera_before.height, camera_before.width)
    flow_px = (landing - pixels).T.reshape(*shape, 2).astype(np.float32)
    return ExactFlow(flow_px, visible.reshape(shape))
