"""Optical flow as an observation: where every pixel of an image was in the frame before.

Only body and camera poses have to be remembered for that, so a step costs microseconds, and nothing is rendered until
somebody reads the flow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flowbench.camera import CameraParams
from flowbench.flow.exact import flow_to
from flowbench.flow.snapshot import Snapshot, require_bodies

if TYPE_CHECKING:
    from flowbench.env import TaskEnv


class Stand(NamedTuple):
    """Where everything stood in the frame before.

    Attributes:
        body_to_world: float64 (N, 4, 4).
        cameras: Calibration by name.
    """

    body_to_world: np.ndarray
    cameras: dict[str, CameraParams]


def stand_of(env: TaskEnv, cameras: Iterable[str]) -> Stand:
    """Remember where an environment's bodies and cameras stand now.

    Raises:
        BadValue: If the simulator does not tell its bodies.
    """
    require_bodies(env.simulator)
    params = env.cameras
    return Stand(env.simulator.body_poses(), {name: params[name] for name in cameras})


def flow_to_previous(now: Snapshot, camera: str, before: Stand | None) -> np.ndarray:
    """Return the float32 (H, W, 2) flow in pixels from this frame to the one before.

    It is 0 where there is none: at the start of an episode, for a camera that has just been added, and at pixels whose
    point lay behind the camera.
    """
    if before is None or camera not in before.cameras:
        return np.zeros((*now.depth_m.shape, 2), np.float32)
    return np.nan_to_num(flow_to(now, before.body_to_world, before.cameras[camera]), nan=0.0)
