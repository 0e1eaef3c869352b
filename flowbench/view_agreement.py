"""Whether two views of one scene tell the same story: the test of a calibration that no plausible picture passes by luck."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.camera import CameraOffset, CameraParams
from flowbench.simulator import Frame

#: The second view. It turns about both image axes, because an image that is upside down (or mirrored) agrees with itself
#: under turns about the other axis alone.
SECOND_VIEW = (CameraOffset("yaw", 5.0), CameraOffset("pitch", 4.0), CameraOffset("x", 0.02))
#: Depth seen from two views agrees when it differs by less than this share, or by less than this length.
DEPTH_AGREEMENT = 0.01
DEPTH_AGREEMENT_M = 0.003
#: Share of the points in both views whose depth must agree; the rest is left for occlusion edges.
AGREEING_POINTS = 0.9
#: Objects with fewer visible pixels than this are too small for a statement about their share.
SMALL_OBJECT_PX = 25
#: Mean over the objects of the share of their visible points that meet the same object in the second view. Thin objects
#: lose many of their pixels to edges, so it is lower.
AGREEING_OBJECTS = 0.8
#: An image whose grey levels vary less than this (standard deviation, of 255) shows nothing.
BLANK_STD = 1.0


class Agreement(NamedTuple):
    """How well two calibrated views of one scene agree.

    Attributes:
        points: Share of the first view's points, among those that fall into the second image, whose depth it confirms.
        objects: The same share for depth and object id together, among the points that nothing hides in the second view,
            averaged over the objects.
    """

    points: float
    objects: float


def two_view_agreement(first: CameraParams, frame: Frame, second: CameraParams, other: Frame) -> Agreement:
    """Un-project one view with its depth, project into another, and compare what is seen there.

    A wrong sign, a mirrored image or depth along the ray all still give a plausible picture; they do not survive this.
    Averaging over the objects matters: most pixels show a plane, and a plane agrees with itself under many mistakes.

    Args:
        first: Calibration of the first view.
        frame: Depth and segmentation of the first view.
        second: Calibration of the second view.
        other: Depth and segmentation of the second view.
    """
    hit = frame.depth_m > 0
    pixels, expected_m = second.project(first.unproject_image(frame.depth_m)[hit])
    limit = np.array([second.width - 1, second.height - 1])
    with np.errstate(invalid="ignore"):
        inside = (expected_m > 0) & (pixels >= 0).all(axis=1) & (pixels <= limit).all(axis=1)
    if not inside.any():
        return Agreement(0.0, 0.0)
    pixels, expected_m, ids = pixels[inside], expected_m[inside], frame.segmentation[hit][inside]
    tolerance_m = np.maximum(DEPTH_AGREEMENT * expected_m, DEPTH_AGREEMENT_M)
    columns, rows = np.rint(pixels).astype(int).T
    depth_agrees = np.abs(other.depth_m[rows, columns] - expected_m) < tolerance_m
    # On a slanted plane the nearest pixel is too coarse; inverse depth is linear in the image there.
    depth_agrees |= np.abs(_interpolated_depth(other.depth_m, pixels) - expected_m) < tolerance_m
    agrees = depth_agrees & (other.segmentation[rows, columns] == ids)
    # What is now behind something else says nothing about its own object.
    hidden = (other.depth_m[rows, columns] > 0) & (other.depth_m[rows, columns] < expected_m - tolerance_m)
    masks = [(ids == index) & ~hidden for index in np.unique(ids)]
    shares = [float(np.mean(agrees[mask])) for mask in masks if mask.sum() >= SMALL_OBJECT_PX]
    return Agreement(float(depth_agrees.mean()), float(np.mean(shares)) if shares else 0.0)


def _interpolated_depth(depth_m: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return depth at (N, 2) pixel positions, inverse depth interpolated; 0 next to where nothing was hit."""
    height, width = depth_m.shape
    left, top = np.minimum(np.floor(pixels).astype(int), [width - 2, height - 2]).T
    across, down = (pixels - np.stack([left, top], axis=1)).T
    corners = np.stack([depth_m[top, left], depth_m[top, left + 1], depth_m[top + 1, left], depth_m[top + 1, left + 1]])
    weights = np.stack([(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down])
    with np.errstate(divide="ignore"):
        return 1 / (weights / corners.astype(np.float64)).sum(axis=0)
