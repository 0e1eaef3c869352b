"""The object in the first moment of a plan: which of its points are followed, and where the hand is going to meet it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.agents.geometry.sampling import sample_bilinear, sample_nearest
from flowbench.agents.geometry.tracking import known_at
from flowbench.camera import CameraParams
from flowbench.task import Task

#: Points that are followed, and the neighbourhood whose median depth the contact gets (`get_transforms`, `get_grasp`).
POINTS = 500
CONTACT_RADIUS_PX = 5.0
#: With fewer pixels whose flow is known, those without it take part, too.
MIN_KNOWN = 8
#: From the median of the visible surface to the middle of a graspable object, along the ray.
BEHIND_M = 0.015
#: Points farther from the median than this belong to something seen through the object's outline.
REACH_M = 0.25


class ObjectUnseen(Exception):
    """Raised when the mask of the object is empty."""


class ObjectPoints(NamedTuple):
    """Points of the object as they are seen now.

    Attributes:
        pixels: float64 (N, 2) column and row.
        points_world: float64 (N, 3) metres.
        contact_world: float64 (3,) metres, where the hand is going to meet it.
    """

    pixels: np.ndarray
    points_world: np.ndarray
    contact_world: np.ndarray


def object_targets(task: Task) -> tuple[str, ...]:
    """Return the segmentation names of the object that moves: the first target and the other targets of its body.

    LIBERO's second target is where the object goes; Meta-World's are parts of one body.
    """
    body = task.targets[0].partition("/")[0] if task.targets else ""
    return tuple(name for name in task.targets if name.partition("/")[0] == body)


def published_points(
    mask: np.ndarray, depth_m: np.ndarray, camera: CameraParams, rng: np.random.Generator, *, faithful: bool
) -> ObjectPoints:
    """Sample the object as AVDC does (`sample_from_mask`, `to_3d`, `get_grasp` of `experiment/myutils.py`).

    500 pixels of the median-filtered mask with replacement, each moved by up to half a pixel, with bilinear depth. At the
    object's outline such a point lies between the object and what is behind it.

    Args:
        mask: bool (H, W).
        depth_m: (H, W) metres.
        camera: Of both.
        rng: Draws the pixels.
        faithful: Sample everything but the object when the object is not seen at all, as published.

    Raises:
        ObjectUnseen: If the object is not seen, unless `faithful`.
    """
    import cv2

    seen = cv2.medianBlur(mask.astype(np.uint8) * 255, 3) > 0
    if not seen.any():
        if not faithful:
            raise ObjectUnseen("the camera does not see the object that the task is about")
        seen = ~seen
    rows, columns = np.nonzero(seen)
    chosen = rng.integers(len(rows), size=POINTS)
    pixels = np.stack([columns[chosen], rows[chosen]], axis=1) + rng.uniform(-0.5, 0.5, (POINTS, 2))
    pixel_depth_m = sample_bilinear(depth_m, pixels)
    distances_px = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1)
    centre = int(np.argmin(distances_px.sum(axis=1)))
    near = distances_px[centre] < CONTACT_RADIUS_PX
    contact_world = camera.unproject(pixels[centre], np.median(pixel_depth_m[near]))
    return ObjectPoints(pixels, camera.unproject(pixels, pixel_depth_m), contact_world)


def surface_points(
    mask: np.ndarray,
    known: np.ndarray,
    depth_m: np.ndarray,
    camera: CameraParams,
    rng: np.random.Generator,
    *,
    palm_m: float = np.inf,
) -> ObjectPoints:
    """Take the object's own pixels, with the depth measured there, and meet it in its middle.

    Args:
        mask: bool (H, W).
        known: bool (H, W) where the plan's flow is known.
        depth_m: (H, W) metres; 0 where nothing was hit.
        camera: Of all.
        rng: Draws among the pixels if there are more than enough.
        palm_m: How far the object may stick out above the contact.

    Raises:
        ObjectUnseen: If the object is not seen.
    """
    rows, columns = np.nonzero(mask & (depth_m > 0))
    if not len(rows):
        raise ObjectUnseen("the camera does not see the object that the task is about")
    pixels = np.stack([columns, rows], axis=1).astype(np.float64)
    inside = known_at(known, pixels) & known_at(known, pixels - 1)
    if inside.sum() >= MIN_KNOWN:
        pixels = pixels[inside]
    if len(pixels) > POINTS:
        pixels = pixels[np.sort(rng.choice(len(pixels), POINTS, replace=False))]
    points_world = camera.unproject(pixels, sample_nearest(depth_m, pixels))
    contact_world = _middle(points_world, camera.camera_to_world[:3, 3])
    # Of all but the few highest points, which may be something else's.
    top_m = float(np.percentile(points_world[:, 2], 98))
    contact_world[2] = max(contact_world[2], top_m - palm_m)
    return ObjectPoints(pixels, points_world, contact_world)


def _middle(points_world: np.ndarray, eye_world: np.ndarray) -> np.ndarray:
    """Return the (3,) median of the visible points, pushed into the object along the ray.

    The visible side of a 3 cm object is 1.5 to 3 cm off its middle, which is as far as a gripper's fingers forgive.
    """
    near = np.linalg.norm(points_world - np.median(points_world, axis=0), axis=1) < REACH_M
    surface_world = np.median(points_world[near] if near.any() else points_world, axis=0)
    ray = surface_world - eye_world
    return surface_world + BEHIND_M * ray / np.linalg.norm(ray)
