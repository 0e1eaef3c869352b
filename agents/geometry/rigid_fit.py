"""The rigid motion that explains where an object's points went: Levenberg-Marquardt on the calibrated reprojection error.

The objective is AVDC's (mean squared reprojection error over the motion's six parameters). AVDC minimises it from 51
starting points with numerical gradients; here two starts are enough, because one of them (SQPNP) already solves a relaxation
of the problem, and the other (no motion) is where a resting object is. From no motion alone some plans end in a local
minimum that is metres away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import leastsq
from scipy.spatial.transform import Rotation

from flowbench.camera import CameraParams, transform_points
from flowbench.errors import ShapeError

#: Fewer points do not determine a rigid motion (3 would, up to four solutions).
MIN_POINTS = 4
#: A fit this good, px^2, needs no second start; AVDC stops its search at the same value (`rigid_transform.py`).
GOOD_ENOUGH_PX2 = 1e-3
#: Rounds of reweighting under a robust loss: a fixed number, so that a fit takes as long for every input.
_ROUNDS = 6
#: Stands for an infinite cost inside a solver that cannot hold one, px.
_HUGE_PX = 1e6


@dataclass(frozen=True)
class MotionPrior:
    """How far an object is expected to move between two frames, as the standard deviations of a Gaussian.

    With hundreds of well-spread points it changes nothing; with a few that lie in a line it decides what they do not: a small
    object's turn about its own middle looks like a step sideways.

    Attributes:
        turn_rad: Rotation about the points' centroid.
        step_m: Translation.
        noise_px: Error of a tracked point; the prior weighs as much as the points' errors in this unit.
    """

    turn_rad: float
    step_m: float
    noise_px: float


@dataclass(frozen=True)
class RigidFit:
    """A motion and how well it fits.

    Attributes:
        motion_world: (4, 4) rigid transform of world points, metres: from where they were to where they are.
        cost_px2: Mean squared reprojection error over both coordinates of every point.
        solves: Number of times a minimiser was started.
    """

    motion_world: np.ndarray
    cost_px2: float
    solves: int = 1


def reprojection_cost(
    motion_world: np.ndarray, points_world: np.ndarray, pixels: np.ndarray, camera: CameraParams
) -> float:
    """Return the mean squared reprojection error of a motion, px^2, over both coordinates of every point.

    Infinite if a point ends up behind the camera.
    """
    landing, depth_m = camera.project(transform_points(motion_world, points_world))
    return float(np.mean(np.square(landing - pixels))) if np.all(depth_m > 0) else np.inf


def fit_reprojection(
    points_world: np.ndarray,
    pixels: np.ndarray,
    camera: CameraParams,
    *,
    start: np.ndarray | None = None,
    prior: MotionPrior | None = None,
    loss_px: float | None = None,
) -> RigidFit:
    """Fit the motion that takes points to where they are seen.

    Args:
        points_world: (N, 3) metres, before the motion; N >= `MIN_POINTS`.
        pixels: (N, 2) where they are seen after it.
        camera: The camera; mirrored ones are fine.
        start: (4, 4) expected motion; None expects none. It is the first starting point, and the centre of the prior.
        prior: How far the motion may be expected to depart from `start`; None lets the points alone decide.
        loss_px: From this error on a point counts by how far it is off, not by the square (the loss 2 (sqrt(1 + e^2) - 1) of
            e = error / loss_px, by reweighting); None leaves the objective as it is.

    Raises:
        ShapeError: If there are too few points.
    """
    if len(points_world) < MIN_POINTS:
        raise ShapeError(f"A rigid motion needs at least {MIN_POINTS} points; got {len(points_world)}.")
    problem = _Problem(points_world, pixels, camera, np.eye(4) if start is None else start, prior, loss_px)
    best, best_cost = problem.minimise(np.zeros(6))
    solves = 1
    if best_cost > GOOD_ENOUGH_PX2 and (guess := problem.sqpnp()) is not None:
        other, other_cost = problem.minimise(guess)
        solves = 2
        if other_cost < best_cost:
            best = other
    motion_world = problem.motion_world(best)
    return RigidFit(motion_world, reprojection_cost(motion_world, points_world, pixels, camera), solves)


class _Problem:
    """The fit in camera axes, relative to the expected motion.

    The six parameters are a rotation vector about the points' centroid, radians, and a translation, metres: about any other
    point, a small rotation of a distant object would also be a long translation, and the fit ill-conditioned.
    """

    def __init__(
        self,
        points_world: np.ndarray,
        pixels: np.ndarray,
        camera: CameraParams,
        start: np.ndarray,
        prior: MotionPrior | None,
        loss_px: float | None,
    ) -> None:
        self._camera, self._start, self._loss_px = camera, start, loss_px
        self._weights = np.ones((len(points_world), 1))
        points_camera = transform_points(camera.world_to_camera @ start, points_world)
        self._centroid = points_camera.mean(axis=0)
        self._arms = points_camera - self._centroid
        self._focal = camera.intrinsics[[0, 1], [0, 1]]
        # Pixels relative to the principal point.
        self._seen = pixels - camera.intrinsics[:2, 2]
        self._prior_weights = np.zeros(0)
        if prior is not None:
            scales = np.array([prior.turn_rad] * 3 + [prior.step_m] * 3)
            self._prior_weights = prior.noise_px / scales

    def minimise(self, guess: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the (6,) parameters of the nearest minimum and its mean squared (or robust) error, the prior included."""
        self._weights[:] = 1
        found = self._solve(guess)
        for _ in range(_ROUNDS if self._loss_px else 0):
            # The square root of the loss's derivative by the squared error.
            self._weights = (1 + (self._errors_px(found) / self._loss_px) ** 2)[:, None] ** -0.25
            found = self._solve(found)
        cost = self._cost(found)
        return found, cost if np.isfinite(cost) else np.inf

    def _solve(self, guess: np.ndarray) -> np.ndarray:
        # With full output a solver that runs out of evaluations does not warn; where it stopped is judged by its cost.
        found, *_ = leastsq(
            self._residuals, guess, Dfun=self._jacobian, xtol=1e-8, ftol=1e-10, maxfev=60, full_output=True
        )
        return found

    def _cost(self, parameters: np.ndarray) -> float:
        if not self._loss_px:
            return float(np.sum(np.square(self._residuals(parameters)))) / self._seen.size
        robust = 2 * (np.sqrt(1 + (self._errors_px(parameters) / self._loss_px) ** 2) - 1) * self._loss_px**2
        departure = self._prior_weights * parameters[: len(self._prior_weights)]
        return float(np.sum(robust) + np.sum(np.square(departure))) / self._seen.size

    def sqpnp(self) -> np.ndarray | None:
        """Return the (6,) parameters of OpenCV's SQPNP (Terzakis and Lourakis, ECCV 2020); None if it finds nothing."""
        import cv2

        # Normalised coordinates, because OpenCV's own intrinsics know no mirrored image.
        normalised = self._seen / self._focal
        try:
            found, turn, step = cv2.solvePnP(self._arms, normalised, np.eye(3), None, flags=cv2.SOLVEPNP_SQPNP)
        except cv2.error:
            return None
        guess = np.concatenate([turn.ravel(), step.ravel() - self._centroid]) if found else np.full(6, np.nan)
        return guess if np.all(np.isfinite(guess)) else None

    def motion_world(self, parameters: np.ndarray) -> np.ndarray:
        """Return the (4, 4) world motion of (6,) parameters, the expected motion included."""
        motion_camera = np.eye(4)
        motion_camera[:3, :3] = Rotation.from_rotvec(parameters[:3]).as_matrix()
        motion_camera[:3, 3] = self._centroid + parameters[3:] - motion_camera[:3, :3] @ self._centroid
        return self._camera.camera_to_world @ motion_camera @ self._camera.world_to_camera @ self._start

    def _moved(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turned = self._arms @ Rotation.from_rotvec(parameters[:3]).as_matrix().T
        return turned, turned + (self._centroid + parameters[3:])

    def _misses(self, parameters: np.ndarray) -> np.ndarray:
        _, moved = self._moved(parameters)
        depth_m = moved[:, 2:]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            error = moved[:, :2] / depth_m * self._focal - self._seen
        return np.where(depth_m > 0, error, _HUGE_PX)

    def _errors_px(self, parameters: np.ndarray) -> np.ndarray:
        return np.linalg.norm(self._misses(parameters), axis=1)

    def _residuals(self, parameters: np.ndarray) -> np.ndarray:
        error = self._misses(parameters) * self._weights
        return np.concatenate([error.ravel(), self._prior_weights * parameters[: len(self._prior_weights)]])

    def _jacobian(self, parameters: np.ndarray) -> np.ndarray:
        turned, moved = self._moved(parameters)
        x, y, depth_m = moved.T
        # Points behind the camera have a constant residual.
        depth_m = np.where(depth_m > 0, depth_m, np.inf)
        zeros = np.zeros_like(depth_m)
        # (N, 2, 3) pixels per metre.
        by_point = (
            np.stack(
                [
                    np.stack([self._focal[0] / depth_m, zeros, -self._focal[0] * x / depth_m**2], axis=-1),
                    np.stack([zeros, self._focal[1] / depth_m, -self._focal[1] * y / depth_m**2], axis=-1),
                ],
                axis=1,
            )
            * self._weights[:, :, None]
        )
        # A turn by w about the centroid moves an arm r by w x r; (by_point . [w x r]) = w . (r x by_point).
        by_turn = np.cross(turned[:, None, :], by_point) @ _left_jacobian(parameters[:3])
        jacobian = np.concatenate([by_turn, by_point], axis=-1).reshape(-1, 6)
        return np.concatenate([jacobian, np.diag(self._prior_weights)]) if len(self._prior_weights) else jacobian


def _left_jacobian(rotation_vector: np.ndarray) -> np.ndarray:
    """Return the (3, 3) derivative of a rotation by its rotation vector, as a turn in the axes after it."""
    angle = np.linalg.norm(rotation_vector)
    x, y, z = rotation_vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-6:
        return np.eye(3) + cross / 2
    return np.eye(3) + (1 - np.cos(angle)) / angle**2 * cross + (angle - np.sin(angle)) / angle**3 * cross @ cross
