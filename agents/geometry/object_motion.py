"""From the points of an object in a plan's first moment to its pose in every later one: two estimators with one answer.

`published_motion` keeps AVDC's bookkeeping: points are carried by the motion just fitted and read the flow wherever that puts
them, occluded or not; who once disagreed with the others in the image is out. `tracked_motion` is ours: points are followed
themselves, so that no error of an earlier fit moves them; each fit is to where they were at the start, where depth was
measured; and a point that the way back does not confirm is out for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from flowbench.agents.geometry.published_fit import fit_published, similarity_inliers
from flowbench.agents.geometry.rigid_fit import MIN_POINTS, MotionPrior, RigidFit, fit_reprojection
from flowbench.agents.geometry.sampling import sample_bilinear
from flowbench.agents.geometry.tracking import FlowChain, follow
from flowbench.camera import CameraParams, transform_points

#: Fits one link: points before (world), pixels after, camera -> motion.
LinkFit = Callable[[np.ndarray, np.ndarray, CameraParams], RigidFit]


@dataclass(frozen=True)
class ObjectMotion:
    """How an object moves along a plan of T moments.

    Attributes:
        poses_world: (T, 4, 4) rigid transforms of world points, metres, from the first moment to each; the first is the identity.
        pixels: (T, N, 2) where the N points are in each moment, as the estimator followed them.
        live: bool (T, N) which points took part in each fit.
        costs_px2: (T - 1,) mean squared reprojection error of each fit; NaN where none was possible.
        solves: Number of times a minimiser was started.
    """

    poses_world: np.ndarray
    pixels: np.ndarray
    live: np.ndarray
    costs_px2: np.ndarray
    solves: int

    def path_world(self, point_world: np.ndarray) -> np.ndarray:
        """Return the (T, 3) positions, metres, of a (3,) point of the object."""
        return np.stack([transform_points(pose, point_world) for pose in self.poses_world])


@dataclass(frozen=True)
class TrackingRules:
    """What `tracked_motion` believes. The defaults are for exact flow; `for_noise` has other ones for estimated flow.

    Chosen on the first plans of metaworld11, three cameras, seeds 0-1, with exact flow (docs/agents.md has the table).

    Attributes:
        trusted_px: Disagreements, ascending: the points below the first one that leaves `wanted_points` take part.
        lost_px: A point that ever disagrees by more is lost.
        misfit_px: A point farther than this from the fitted motion, and than three standard deviations of all, is lost.
        wanted_points: Enough points to trust no worse ones.
        min_points: With fewer, the object goes on as it last moved, slower with every link.
        momentum: What is left of its motion from one such link to the next. What disappears is mostly held or hidden by a hand
            that is about to stop: 0.6 misses the last subgoal by 16 mm at the third quartile, 1 and 0 do by 23 mm.
        dropped: What vanishes while more than this share of its points was seen is no longer behind a hand, which hides bit by
            bit, but in or behind something that stops it: of libero-object's boxes 0.39 to 0.78 are seen before they fall into
            the basket, of what Meta-World's hands hide 0.3 at most.
        dropped_momentum: `momentum` of that link. On first plans of libero-object, initial states 0 to 3, the boxes' last
            subgoal is off by 14 cm with 0.3, 11 of them in height, and by 16 cm with 0.6, beyond the basket's rim.
        prior: How an object is expected to move in one link.
        loss_px: See `fit_reprojection`.
        believed_px2: A fit that leaves more than this is one of other things than the object, and none: on 66 first plans of
            metaworld11 the last subgoal is off by 25 to 28 mm on average with anything from 0.02 to 0.3, and by 90 mm without.
    """

    trusted_px: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    lost_px: float = 2.0
    misfit_px: float = 0.15
    wanted_points: int = 12
    min_points: int = 6
    momentum: float = 0.6
    dropped: float = 0.35
    dropped_momentum: float = 0.3
    prior: MotionPrior | None = MotionPrior(turn_rad=0.5, step_m=0.1, noise_px=0.05)
    loss_px: float | None = None
    believed_px2: float = 0.05

    @classmethod
    def for_noise(cls, noise_px: float) -> TrackingRules:
        """Return the rules for flow whose error is about `noise_px`.

        An estimator is wrong about whole regions, and then wrong in the same way there and back: the points that disagree
        least are not the right ones. So all take part, nobody is voted out, and errors count by their size, not their square.
        And a hundred points are worth a few: the prior counts them as if each were ten times worse. Chosen on first
        plans of metaworld11, three cameras, seeds 1000-1002, with `raft-small-sim`.
        """
        if noise_px <= 0.05:
            return cls()
        return cls(
            trusted_px=(np.inf,),
            lost_px=20 * noise_px,
            misfit_px=np.inf,
            prior=MotionPrior(turn_rad=0.3, step_m=0.1, noise_px=10 * noise_px),
            loss_px=noise_px,
            believed_px2=np.inf,
        )


def tracked_motion(
    points_world: np.ndarray,
    pixels: np.ndarray,
    chain: FlowChain,
    camera: CameraParams,
    rules: TrackingRules | None = None,
) -> ObjectMotion:
    """Follow an object's points and fit its pose in every moment.

    Args:
        points_world: (N, 3) metres, points of the object in the plan's first moment.
        pixels: (N, 2) where they are seen there.
        chain: Flow; without its backward direction every point is believed.
        camera: The camera of every moment.
        rules: What to believe; None is for exact flow.
    """
    rules = rules or TrackingRules()
    alive = np.ones(len(pixels), bool)
    worst_px = np.zeros(len(pixels))
    poses, followed, live, costs, solves = [np.eye(4)], [pixels], [alive], [], 0
    for link in range(len(chain.forward_px)):
        landing, disagreement_px, inside = follow(chain, link, followed[-1])
        alive = alive & inside & (disagreement_px < rules.lost_px)
        worst_px = np.maximum(worst_px, disagreement_px)
        used = _trusted(alive, worst_px, rules)
        pose, cost_px2 = None, np.nan
        if len(used) >= max(rules.min_points, MIN_POINTS):
            fit, used, misfits, tries = _fit_and_trim(points_world, landing, camera, used, poses[-1], rules)
            solves += tries
            if fit.cost_px2 <= rules.believed_px2:
                alive[misfits] = False
                pose, cost_px2 = fit.motion_world, fit.cost_px2
        if pose is None:
            at_once = live[-1].mean() > rules.dropped
            pose = _carried_on(poses, points_world, rules.dropped_momentum if at_once else rules.momentum)
            used = np.zeros(0, int)
        costs.append(cost_px2)
        poses.append(pose)
        modelled = camera.project(transform_points(pose, points_world)).pixels
        followed.append(np.where(alive[:, None], landing, modelled))
        live.append(np.isin(np.arange(len(alive)), used))
    return ObjectMotion(np.stack(poses), np.stack(followed), np.stack(live), np.array(costs), solves)


def _carried_on(poses_world: list[np.ndarray], points_world: np.ndarray, momentum: float) -> np.ndarray:
    """Return the pose after a link of which nothing is known, except that things do not stop at once."""
    if len(poses_world) < 2:
        return poses_world[-1]
    last = poses_world[-1] @ np.linalg.inv(poses_world[-2])
    centre = transform_points(poses_world[-1], points_world).mean(axis=0)
    turn = momentum * Rotation.from_matrix(last[:3, :3]).as_rotvec()
    step_m = momentum * (transform_points(last, centre) - centre)
    slower = np.eye(4)
    slower[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    slower[:3, 3] = centre + step_m - slower[:3, :3] @ centre
    return slower @ poses_world[-1]


def _trusted(alive: np.ndarray, worst_px: np.ndarray, rules: TrackingRules) -> np.ndarray:
    """Return the indices of the points that take part: no worse ones than are needed."""
    for threshold_px in rules.trusted_px:
        chosen = np.flatnonzero(alive & (worst_px < threshold_px))
        if len(chosen) >= rules.wanted_points:
            return chosen
    candidates = np.flatnonzero(alive)
    return candidates[np.argsort(worst_px[candidates], kind="stable")[: rules.wanted_points]]


def _fit_and_trim(
    points_world: np.ndarray,
    landing: np.ndarray,
    camera: CameraParams,
    used: np.ndarray,
    start: np.ndarray,
    rules: TrackingRules,
) -> tuple[RigidFit, np.ndarray, np.ndarray, int]:
    """Fit, drop who does not fit, and fit again.

    Returns:
        The fit, who took part in it, who was dropped, and the number of solves.
    """
    fit = fit_reprojection(
        points_world[used], landing[used], camera, start=start, prior=rules.prior, loss_px=rules.loss_px
    )
    predicted = camera.project(transform_points(fit.motion_world, points_world[used])).pixels
    error_px = np.linalg.norm(predicted - landing[used], axis=1)
    # 1.4826 times the median of absolute values is the standard deviation of a Gaussian.
    fits = error_px < max(rules.misfit_px, 3 * 1.4826 * float(np.median(error_px)))
    if fits.all() or fits.sum() < max(rules.min_points, MIN_POINTS):
        return fit, used, used[:0], fit.solves
    again = fit_reprojection(
        points_world[used[fits]], landing[used[fits]], camera, start=start, prior=rules.prior, loss_px=rules.loss_px
    )
    return again, used[fits], used[~fits], fit.solves + again.solves


def published_motion(
    points_world: np.ndarray,
    pixels: np.ndarray,
    chain: FlowChain,
    camera: CameraParams,
    rng: np.random.Generator,
    *,
    fit: LinkFit | None = None,
) -> ObjectMotion:
    """Carry points along as `get_transforms` of AVDC's `experiment/myutils.py` does.

    Each link: read the flow at the points (clipped to the image), keep those that move with the best similarity of the image
    plane, fit, and carry the kept points on with the fitted motion. Nothing is checked against the way back.

    Args:
        points_world: (N, 3) metres.
        pixels: (N, 2) where they are seen.
        chain: Flow; its backward direction and its `inside` are not read.
        camera: The camera of every moment.
        rng: Draws the two-point samples and the minimiser's starts.
        fit: Fits one link; None is the published minimiser, with its fifty restarts.

    Raises:
        NoMotion: If all points but one are lost, as in the published code.
    """
    height, width = chain.inside.shape
    kept = np.arange(len(pixels))
    points, at = points_world, pixels
    poses, followed, live, costs, solves = [np.eye(4)], [pixels], [np.ones(len(pixels), bool)], [], 0
    for flow_px in chain.forward_px:
        # `warp_kp_with_bilinear` clips to one pixel less than the last.
        landing = np.clip(at + sample_bilinear(flow_px, at), 0, [width - 2, height - 2])
        inliers = similarity_inliers(at, landing, rng)
        kept, points, landing = kept[inliers], points[inliers], landing[inliers]
        found = fit(points, landing, camera) if fit else fit_published(points, landing, camera, rng)
        poses.append(found.motion_world @ poses[-1])
        costs.append(found.cost_px2)
        solves += found.solves
        points = transform_points(found.motion_world, points)
        at = camera.project(points).pixels
        followed.append(camera.project(transform_points(poses[-1], points_world)).pixels)
        live.append(np.isin(np.arange(len(pixels)), kept))
    return ObjectMotion(np.stack(poses), np.stack(followed), np.stack(live), np.array(costs), solves)
