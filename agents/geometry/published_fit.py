"""AVDC's own fit, kept as its code has it: two-point similarities voted in the image, then BFGS from many starts.

Source: `experiment/rigid_transform.py` and `experiment/myutils.py` of AVDC_experiments at e9b5b00. It is slow (ten to thirty
seconds per plan); `flowbench.agents.geometry.rigid_fit` minimises the same objective.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from flowbench.agents.geometry.rigid_fit import RigidFit, reprojection_cost
from flowbench.camera import CameraParams


class NoMotion(Exception):
    """Raised when too few points are left to say how an object moves; the published code raises there, too."""


#: Two-point samples, and how near a point must land to a similarity's prediction (`get_transforms`).
RANSAC_TRIES = 100
RANSAC_THRESHOLD_PX = 0.5
#: Random starts after the first one (`rgd_tfm_tries`), and the loss at which none are needed (`rgd_tfm_threshold`).
RESTARTS = 50
ACCEPTED_LOSS = 1e-3


def similarity_inliers(
    before_px: np.ndarray,
    after_px: np.ndarray,
    rng: np.random.Generator,
    *,
    tries: int = RANSAC_TRIES,
    threshold_px: float = RANSAC_THRESHOLD_PX,
) -> np.ndarray:
    """Return the indices of the points that move with the best-supported rotation, scale and shift of the image plane.

    All tries are voted at once, as complex numbers. A sample of two coincident points has no vote; in the published code it
    stands for "nothing moved".

    Args:
        before_px: (N, 2) pixels.
        after_px: (N, 2) pixels.
        rng: Draws the samples.
        tries: Number of two-point samples.
        threshold_px: Distance up to which a point agrees.

    Raises:
        NoMotion: If there are fewer than two points.
    """
    if len(before_px) < 2:
        raise NoMotion(f"AVDC's filter samples two points of {len(before_px)}; the object's points were all lost.")
    before, after = (pixels[:, 0] + 1j * pixels[:, 1] for pixels in (before_px, after_px))
    first = rng.integers(len(before), size=tries)
    second = (first + rng.integers(1, len(before), size=tries)) % len(before)
    span = before[second] - before[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        similarity = (after[second] - after[first]) / span
    predicted = similarity[:, None] * (before[None, :] - before[first, None]) + after[first, None]
    with np.errstate(invalid="ignore"):
        agrees = np.abs(predicted - after[None, :]) < threshold_px
    return np.flatnonzero(agrees[np.argmax(agrees.sum(axis=1))])


def euler_motion(parameters: np.ndarray) -> np.ndarray:
    """Return the (4, 4) transform of (x, y, z, roll, pitch, yaw), metres and radians, with R = Rx Ry Rz."""
    cos_x, cos_y, cos_z = np.cos(parameters[3:])
    sin_x, sin_y, sin_z = np.sin(parameters[3:])
    motion = np.eye(4)
    about_x = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    about_y = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    about_z = np.array([[cos_z, -sin_z, 0], [sin_z, cos_z, 0], [0, 0, 1]])
    motion[:3, :3] = about_x @ about_y @ about_z
    motion[:3, 3] = parameters[:3]
    return motion


def published_loss(
    motion_world: np.ndarray, points_world: np.ndarray, pixels: np.ndarray, camera: CameraParams
) -> float:
    """Return AVDC's loss of a motion: mean squared reprojection error, px^2, plus what its translation exceeds 1 m by."""
    projection = camera.intrinsics @ camera.world_to_camera[:3]
    return _loss(motion_world, np.c_[points_world, np.ones(len(points_world))].T, pixels.T, projection)


def _loss(motion_world: np.ndarray, points_h: np.ndarray, pixels: np.ndarray, projection: np.ndarray) -> float:
    image = projection @ (motion_world @ points_h)
    return float(
        np.mean(np.square(image[:2] / image[2:] - pixels)) + max(1.0, float(np.linalg.norm(motion_world[:3, 3]))) - 1
    )


def fit_published(
    points_world: np.ndarray,
    pixels: np.ndarray,
    camera: CameraParams,
    rng: np.random.Generator,
    *,
    restarts: int = RESTARTS,
) -> RigidFit:
    """Minimise AVDC's loss as AVDC does.

    BFGS with numerical gradients from zeros; unless that is accepted, the best of `restarts` runs from standard normal
    starts. As published, the run from zeros is then not among the candidates.

    Args:
        points_world: (N, 3) metres, before the motion.
        pixels: (N, 2) where they are seen after it.
        camera: The camera.
        rng: Draws the starts.
        restarts: Number of random starts.
    """
    projection = camera.intrinsics @ camera.world_to_camera[:3]
    points_h = np.c_[points_world, np.ones(len(points_world))].T

    def loss(parameters: np.ndarray) -> float:
        return _loss(euler_motion(parameters), points_h, pixels.T, projection)

    with np.errstate(all="ignore"):
        best = minimize(loss, np.zeros(6))
        solves = 1
        if not best.fun < ACCEPTED_LOSS:
            found = [minimize(loss, rng.standard_normal(6)) for _ in range(restarts)]
            best = found[int(np.argmin([solution.fun for solution in found]))]
            solves += restarts
    motion_world = euler_motion(best.x)
    return RigidFit(motion_world, reprojection_cost(motion_world, points_world, pixels, camera), solves)
