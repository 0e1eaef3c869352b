"""The semantic flow image: who manipulates what, and how both have just moved, without what the scene looks like.

ViSA-Flow (arXiv 2505.01288) says what the abstraction is for: the interaction of manipulator and object over time, whatever
their appearance. How it draws it is not published; ours is a dimmed grey picture, the parts in one colour each, and the
traces of points inside them, the past fading out. One drawing serves every source of masks and tracks, because pre-training
and fine-tuning must see the same abstraction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

#: Part -> colour of its traces; its surface has the same colour, darker. What moves in a plain video is nobody's in
#: particular; it is mostly the hand, and is drawn as the manipulator.
PART_COLOURS: Mapping[str, tuple[int, int, int]] = {"manipulator": (70, 140, 255), "object": (255, 150, 40)}
MANIPULATOR, OBJECT = PART_COLOURS
#: Share of the picture's brightness that is left of the background.
DIM = 0.3
#: Share of a part's colour in its surface; the rest is the picture's own brightness.
TINT = 0.55
#: Points that are followed in each part.
POINTS_PER_PART = 16
#: The oldest piece of a trace has this share of its colour.
OLDEST = 0.35
#: One pixel of line width for so many pixels of the image's shorter side.
_SIDE_PER_LINE_PX = 96


class PointTracker(Protocol):
    """Where points of one look are in others."""

    def follow(self, looks: Sequence[int], pixels: np.ndarray) -> np.ndarray:
        """Return float64 (T, N, 2), column and row of (N, 2) points of `looks[0]` in every one of `looks`; NaN if lost."""
        ...


@dataclass(frozen=True)
class DrawnLook:
    """One semantic flow image and what it was drawn from.

    Attributes:
        image: uint8 (H, W, 3).
        traces: By part, float64 (T, N, 2): points of the look first, then the same points at earlier and earlier looks.
    """

    image: np.ndarray
    traces: Mapping[str, np.ndarray]


def semantic_flow(
    frames: Sequence[np.ndarray], masks: Sequence[Mapping[str, np.ndarray]], tracker: PointTracker, trace: int
) -> list[DrawnLook]:
    """Draw every look of a video: its parts, and their traces over the `trace` looks before it.

    Args:
        frames: uint8 (H, W, 3) pictures, one per look.
        masks: bool (H, W) of every part that is seen, by part and look.
        tracker: Follows points between looks.
        trace: Number of earlier looks that a trace reaches back to.
    """
    drawn = []
    for look, (frame, seen) in enumerate(zip(frames, masks, strict=True)):
        back = list(range(look, max(look - trace, 0) - 1, -1))
        traces = {part: tracker.follow(back, spread_points(mask)) for part, mask in seen.items() if mask.any()}
        drawn.append(DrawnLook(draw(frame, seen, traces), traces))
    return drawn


def draw(frame: np.ndarray, masks: Mapping[str, np.ndarray], traces: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the uint8 (H, W, 3) semantic flow image.

    Args:
        frame: uint8 (H, W, 3); only its brightness is used.
        masks: bool (H, W) by part.
        traces: (T, N, 2) by part, newest first.
    """
    import cv2

    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    image = np.repeat(DIM * grey[..., None], 3, axis=-1)
    for part, mask in masks.items():
        colour = np.array(PART_COLOURS[part], np.float32)
        image[mask] = (1 - TINT) * 0.6 * grey[mask][:, None] + TINT * 0.6 * colour
    image = np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
    width = max(1, round(min(frame.shape[:2]) / _SIDE_PER_LINE_PX))
    for part, points in traces.items():
        pieces = len(points) - 1
        # Oldest first, so that the present lies on top.
        for age in range(pieces, 0, -1):
            share = 1 - (1 - OLDEST) * age / pieces
            colour = tuple(share * value for value in PART_COLOURS[part])
            for end, start in zip(points[age - 1], points[age], strict=True):
                if np.isfinite([end, start]).all():
                    cv2.line(image, _pixel(start), _pixel(end), colour, width, cv2.LINE_8)
        for point in points[0] if len(points) else ():
            cv2.circle(image, _pixel(point), width // 2, tuple(map(float, PART_COLOURS[part])), -1)
    return image


def spread_points(mask: np.ndarray, count: int = POINTS_PER_PART) -> np.ndarray:
    """Return float64 (N, 2) column and row of at most `count` pixels of a bool (H, W) mask, far apart from each other.

    The choice depends on the mask alone: pixels row by row, at equal distances in that list.
    """
    rows, columns = np.nonzero(mask)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)) if len(rows) else []
    return np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float64).reshape(-1, 2)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    # Far outside, OpenCV's integers would overflow.
    column, row = np.clip(np.rint(point), -10_000, 10_000)
    return int(column), int(row)
