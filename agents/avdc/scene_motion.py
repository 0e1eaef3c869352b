"""How a room that stands still moves past the camera along a plan: from dense flow and the depth of the first moment.

`published_scene_motion` keeps AVDC's bookkeeping (`get_transforms_nav` of `experiment/myutils.py`, AVDC_experiments at e9b5b00):
a free rigid motion is fitted to every link. `explained_scene_motion` is ours: it asks which of the few motions that the agent's
actions can cause explains the flow, because half of the picture is gone after a turn by 45 degrees, and what is left of a wrong
flow can be fitted by many motions but is explained by few.

Everything is in the camera's axes (OpenCV), metres: the room moves, the camera stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flowbench.agents.avdc.feet import Step
from flowbench.agents.geometry.object_motion import LinkFit
from flowbench.agents.geometry.published_fit import fit_published
from flowbench.agents.geometry.sampling import sample_bilinear
from flowbench.agents.geometry.tracking import FlowChain, follow
from flowbench.agents.planning import Plan
from flowbench.camera import CameraParams, transform_points

#: AVDC's numbers: points that are followed, the flow from which on a pixel is one of them, the border in which they are lost, the
#: share of them that must be left, and random starts of the minimiser (`rgd_tfm_tries=8` in `experiment/benchmark_thor.py`).
POINTS, MOVING_PX, BORDER_PX, LEFT_SHARE, RESTARTS = 1000, 1.0, 4.0, 0.1, 8
#: Ours: every second pixel is followed; errors beyond `CAP_PX` are all alike; a link is explained if the mean error is below
#: `EXPLAINED_PX`, and read at all if so many points are seen again.
STRIDE, CAP_PX, EXPLAINED_PX, MIN_SEEN = 2, 6.0, 3.0, 40


@dataclass(frozen=True)
class SceneMotion:
    """What the room does along a plan of T moments, as far as it can be read.

    Attributes:
        links: (L, 4, 4) rigid transforms from each moment's camera axes to the next one's; L <= T - 1.
        pixels: (T, N, 2) where the points that were followed are; NaN from where they are lost.
        live: bool (T, N) which of them are followed.
        solves: Number of times a minimiser was started.
    """

    links: np.ndarray
    pixels: np.ndarray
    live: np.ndarray
    solves: int = 0


def published_scene_motion(
    chain: FlowChain,
    depth_m: np.ndarray,
    camera: CameraParams,
    rng: np.random.Generator,
    *,
    fit: LinkFit | None = None,
) -> SceneMotion:
    """Fit a free motion to every link, until fewer than a hundred of a thousand points are left in the picture.

    The points are drawn where the first flow is longer than a pixel, or everywhere if it is nowhere. Each link reads the flow
    where the motion just fitted puts the points.

    Args:
        chain: Flow; its backward direction and its `inside` are not read.
        depth_m: (H, W) metres in the first moment.
        camera: Of every moment; where it stands is not read.
        rng: Draws the points and the minimiser's starts.
        fit: Fits one link; None is the published minimiser, with its eight restarts.
    """
    here = replace(camera, camera_to_world=np.eye(4))
    moving = (np.linalg.norm(chain.forward_px[0], axis=-1) > MOVING_PX) & (depth_m > 0)
    rows, columns = np.nonzero(moving if moving.any() else depth_m > 0)
    path = _Path(len(chain.forward_px) + 1, POINTS if len(rows) else 0)
    if not len(rows):
        return path.motion()
    chosen = rng.integers(len(rows), size=POINTS)
    at = np.stack([columns[chosen], rows[chosen]], axis=1) + rng.uniform(-0.5, 0.5, (POINTS, 2))
    points = here.unproject(at, sample_bilinear(depth_m, at))
    kept = np.arange(POINTS)
    path.add(kept, at)
    for flow_px in chain.forward_px:
        landing = at + sample_bilinear(flow_px, at)
        inside = _within(landing, camera)
        if inside.sum() < LEFT_SHARE * POINTS:
            break
        kept, points, landing = kept[inside], points[inside], landing[inside]
        found = fit(points, landing, here) if fit else fit_published(points, landing, here, rng, restarts=RESTARTS)
        path.solves += found.solves
        points = transform_points(found.motion_world, points)
        at = here.project(points).pixels
        inside = _within(at, camera)
        if inside.sum() < LEFT_SHARE * POINTS:
            break
        kept, points, at = kept[inside], points[inside], at[inside]
        path.add(kept, at, found.motion_world)
    return path.motion()


def explained_scene_motion(
    chain: FlowChain, depth_m: np.ndarray, camera: CameraParams, steps: Sequence[Step]
) -> SceneMotion:
    """Name the step that explains each link best, until none does.

    Args:
        chain: Flow. Points that the way back does not confirm count as much as wrong ones.
        depth_m: (H, W) metres in the first moment; 0 where nothing was hit.
        camera: Of every moment; where it stands is not read.
        steps: What can happen.
    """
    here = replace(camera, camera_to_world=np.eye(4))
    rows, columns = np.nonzero(depth_m > 0)
    even = (rows % STRIDE == 0) & (columns % STRIDE == 0)
    at = np.stack([columns[even], rows[even]], axis=1).astype(np.float64)
    points = here.unproject(at, depth_m[rows[even], columns[even]])
    kept = np.arange(len(at))
    path = _Path(len(chain.forward_px) + 1, len(at))
    path.add(kept, at)
    for link in range(len(chain.forward_px)):
        found = _best(chain, link, at, points, here, steps)
        if found is None:
            break
        motion, seen = found
        kept, points = kept[seen], transform_points(motion, points[seen])
        at = here.project(points).pixels
        path.add(kept, at, motion)
    return path.motion()


def true_scene_motion(plan: Plan) -> SceneMotion:
    """Return what the room really does in a plan that holds states."""
    cameras = [snapshot.camera for snapshot in plan.snapshots or ()]
    links = [after.world_to_camera @ before.camera_to_world for before, after in zip(cameras, cameras[1:])]
    return SceneMotion(np.stack(links), np.zeros((len(cameras), 0, 2)), np.zeros((len(cameras), 0), bool))


def _best(
    chain: FlowChain, link: int, at: np.ndarray, points: np.ndarray, here: CameraParams, steps: Sequence[Step]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the motion that explains a link, and which of the points are seen after it; None if none does."""
    landing, disagreement_px, _ = follow(chain, link, at)
    best, least_px = None, EXPLAINED_PX
    for step in steps:
        predicted, ahead_m = here.project(transform_points(step.scene_motion, points))
        seen = (ahead_m > 0) & _within(predicted, here, border_px=0.0)
        if seen.sum() < MIN_SEEN:
            continue
        error_px = np.linalg.norm(landing[seen] - predicted[seen], axis=1) + disagreement_px[seen]
        mean_px = float(np.mean(np.minimum(np.nan_to_num(error_px, nan=CAP_PX), CAP_PX)))
        if mean_px < least_px:
            best, least_px = (step.scene_motion, seen), mean_px
    return best


def _within(pixels: np.ndarray, camera: CameraParams, border_px: float = BORDER_PX) -> np.ndarray:
    """Return the bool (N,) of the (N, 2) positions that are in the picture and not in its border."""
    size = np.array([camera.width, camera.height])
    with np.errstate(invalid="ignore"):
        return np.all((pixels >= border_px) & (pixels < size - border_px), axis=1)


class _Path:
    """Collects a `SceneMotion` link by link."""

    def __init__(self, moments: int, points: int) -> None:
        self._pixels = np.full((moments, points, 2), np.nan)
        self._live = np.zeros((moments, points), bool)
        self._links: list[np.ndarray] = []
        self._moment = 0
        self.solves = 0

    def add(self, kept: np.ndarray, at: np.ndarray, motion: np.ndarray | None = None) -> None:
        """Note where the points that are kept are in the next moment, and the motion that led there."""
        self._pixels[self._moment, kept], self._live[self._moment, kept] = at, True
        self._moment += 1
        if motion is not None:
            self._links.append(motion)

    def motion(self) -> SceneMotion:
        """Return what was collected."""
        links = np.stack(self._links) if self._links else np.zeros((0, 4, 4))
        return SceneMotion(links, self._pixels, self._live, self.solves)
