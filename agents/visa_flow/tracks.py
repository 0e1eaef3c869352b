"""Points followed from look to look: exactly in a simulator, by an estimator's flow or a point tracker in any video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowbench.agents.geometry.sampling import sample_bilinear
from flowbench.errors import BadValue
from flowbench.flow.estimators import FlowEstimator
from flowbench.flow.exact import track_points
from flowbench.flow.snapshot import Snapshot


class ExactTracker:
    """Points ride on the simulator's bodies; hidden ones too, because a grasped object is hidden by the hand."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def follow(self, looks: Sequence[int], pixels: np.ndarray) -> np.ndarray:
        """See `PointTracker.follow`."""
        return track_points([self._snapshots[look] for look in looks], pixels).pixels


class FlowTracker:
    """Points are carried along by estimated flow, link by link; the flow of a pair of looks is estimated once."""

    def __init__(self, frames: Sequence[np.ndarray], estimate: FlowEstimator) -> None:
        self._frames, self._estimate = frames, estimate
        self._flows_px: dict[tuple[int, int], np.ndarray] = {}

    def follow(self, looks: Sequence[int], pixels: np.ndarray) -> np.ndarray:
        """See `PointTracker.follow`."""
        points = [np.asarray(pixels, np.float64)]
        for here, there in zip(looks, looks[1:], strict=False):
            points.append(points[-1] + sample_px(self.flow_px(here, there), points[-1]))
        return np.stack(points)

    def flow_px(self, first: int, second: int) -> np.ndarray:
        """Return the float32 (H, W, 2) flow from one look to another."""
        if (first, second) not in self._flows_px:
            pair = self._frames[first][None], self._frames[second][None]
            self._flows_px[first, second] = self._estimate(*pair)[0]
        return self._flows_px[first, second]


class CoTracker:
    """Points are followed by CoTracker (`facebookresearch/co-tracker`, `cotracker/predictor.py` at 0066a8e)."""

    def __init__(self, frames: Sequence[np.ndarray], predict: Any) -> None:
        self._frames, self._predict = frames, predict

    def follow(self, looks: Sequence[int], pixels: np.ndarray) -> np.ndarray:
        """See `PointTracker.follow`."""
        import torch

        points = np.asarray(pixels, np.float64)
        if len(looks) == 1:
            return points[None]
        # In the order of the looks, the newest first: it follows time either way.
        video = torch.from_numpy(np.stack([self._frames[look] for look in looks])).permute(0, 3, 1, 2)[None].float()
        queries = torch.from_numpy(np.pad(points, ((0, 0), (1, 0)))).float()[None]
        with torch.inference_mode():
            tracks, _ = self._predict(video, queries=queries)
        return tracks[0].numpy().astype(np.float64)


def load_cotracker(checkpoint: str) -> Any:
    """Return CoTracker's predictor.

    Raises:
        BadValue: If its package or its weights are not there.
    """
    try:
        from cotracker.predictor import CoTrackerPredictor
    except ImportError as error:
        raise BadValue(
            f"Tracks by CoTracker need its package ({error}). Install it from github.com/facebookresearch/co-tracker and name "
            "its weights with --checkpoint FILE; or use --tracks dis, which needs neither."
        ) from error
    if not Path(checkpoint).is_file():
        raise BadValue(
            f"Tracks by CoTracker need its weights, and {checkpoint or 'no --checkpoint'} is no file. Its README says where to "
            "get them; --tracks dis needs none."
        )
    return CoTrackerPredictor(checkpoint=checkpoint).eval()


def sample_px(flow_px: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return (N, 2) bilinear samples of a (H, W, 2) flow at (N, 2) points; NaN outside the image."""
    height, width = flow_px.shape[:2]
    with np.errstate(invalid="ignore"):
        inside = np.all((points >= -0.5) & (points <= [width - 0.5, height - 0.5]), axis=1)
    sampled = sample_bilinear(flow_px, points)
    return np.where(inside[:, None], sampled, np.nan)
