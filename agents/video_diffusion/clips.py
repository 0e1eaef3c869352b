"""Training clips as AVDC samples them: from any moment of a demonstration on.

Those of manipulation are evenly spaced to the end ("adaptive skip"), so a plan always ends where the demonstration ends, however
far it is (`SequentialDatasetv2.get_samples` of `flowdiffusion/datasets.py`). Those of navigation are consecutive frames, the last
one again and again (`SequentialNavDataset.get_samples`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from flowbench.agents.training.images import ImageFit
from flowbench.agents.training.recipe import Batch
from flowbench.agents.training.windows import FrameCache, WindowedDemos
from flowbench.data.dataset import DemoDataset
from flowbench.flow.estimators import FlowEstimator

VIDEO = "camera/rgb"


def spaced_steps(start: np.ndarray, last: np.ndarray, frames: int) -> np.ndarray:
    """Return int64 (B, frames) steps from `start` to `last`, both (B,) and included; rounded down, as AVDC does.

    >>> spaced_steps(np.array([3]), np.array([13]), 8)
    array([[ 3,  4,  5,  7,  8, 10, 11, 13]])
    """
    return start[:, None] + np.arange(frames) * (last - start)[:, None] // (frames - 1)


def consecutive_steps(start: np.ndarray, last: np.ndarray, frames: int) -> np.ndarray:
    """Return int64 (B, frames) steps from `start` on, none after `last`, both (B,).

    >>> consecutive_steps(np.array([10]), np.array([13]), 8)
    array([[10, 11, 12, 13, 13, 13, 13, 13]])
    """
    return np.minimum(start[:, None] + np.arange(frames), last[:, None])


#: From first and last steps, both (B,), and a number of frames to (B, frames) steps.
Spacing = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def spacing_of(facts: Mapping[str, Any]) -> Spacing:
    """Return how the clips of a suite are spaced, by a checkpoint's facts: consecutive where actions are choices."""
    return consecutive_steps if facts.get("action_choices") else spaced_steps


class VideoClips(WindowedDemos):
    """Clips of videos: every video is as likely as any other, and every start in it.

    AVDC draws both at random; here a sample's number says which, so that an interrupted training goes on with the same ones.
    """

    def __init__(
        self,
        dataset: DemoDataset,
        fit: ImageFit,
        frames: int,
        labels: dict[str, np.ndarray],
        cache: FrameCache | None,
        flow: FlowEstimator | None = None,
        spacing: Spacing = spaced_steps,
    ) -> None:
        """Decode what is not decoded yet.

        Args:
            dataset: Videos, with one key, `camera/rgb`.
            fit: Size in which they are wanted.
            frames: Frames of a clip, the first included.
            labels: As `WindowedDemos`.
            cache: As `WindowedDemos`.
            flow: Makes a batch hold `flow_px` (B, frames - 1, 2, h, w), too: the flow from each frame to the next.
            spacing: Which steps a clip shows.
        """
        super().__init__(dataset, {VIDEO: fit}, labels, cache)
        self._clip, self._flow, self._spacing = frames, flow, spacing
        #: Starts are told apart this finely: one for every step of the longest video.
        self._starts = int(self._steps.max())

    def __len__(self) -> int:
        return len(self._steps) * self._starts

    def places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the video (B,) and the first step (B,) of samples."""
        start, demos = np.divmod(indices, len(self._steps))
        return demos, start * self._steps[demos] // self._starts

    def wanted(self, key: str, demos: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the steps (B, frames) of samples."""
        return self._spacing(steps, self._steps[demos] - 1, self._clip)

    def batch(self, indices: np.ndarray) -> Batch:
        """See `TrainingData.batch`."""
        batch = super().batch(indices)
        if self._flow is not None:
            frames = batch[VIDEO].numpy()
            first, second = (part.reshape(-1, *frames.shape[2:]) for part in (frames[:, :-1], frames[:, 1:]))
            flow_px = torch.from_numpy(self._flow(np.ascontiguousarray(first), np.ascontiguousarray(second)))
            batch["flow_px"] = flow_px.movedim(-1, 1).reshape(len(frames), -1, 2, *flow_px.shape[1:3])
        return batch
