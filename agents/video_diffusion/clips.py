"""Training clips as AVDC samples them: from any moment to the end of a demonstration, in evenly spaced frames.

The spacing adapts to what is left ("adaptive skip"), so a plan always ends where the demonstration ends, however far it is.
`SequentialDatasetv2.get_samples` of `flowdiffusion/datasets.py`.
"""

from __future__ import annotations

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
    ) -> None:
        """Decode what is not decoded yet.

        Args:
            dataset: Videos, with one key, `camera/rgb`.
            fit: Size in which they are wanted.
            frames: Frames of a clip, the first included.
            labels: As `WindowedDemos`.
            cache: As `WindowedDemos`.
            flow: Makes a batch hold `flow_px` (B, frames - 1, 2, h, w), too: the flow from each frame to the next.
        """
        super().__init__(dataset, {VIDEO: fit}, labels, cache)
        self._clip, self._flow = frames, flow
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
        return spaced_steps(steps, self._steps[demos] - 1, self._clip)

    def batch(self, indices: np.ndarray) -> Batch:
        """See `TrainingData.batch`."""
        batch = super().batch(indices)
        if self._flow is not None:
            frames = batch[VIDEO].numpy()
            first, second = (part.reshape(-1, *frames.shape[2:]) for part in (frames[:, :-1], frames[:, 1:]))
            flow_px = torch.from_numpy(self._flow(np.ascontiguousarray(first), np.ascontiguousarray(second)))
            batch["flow_px"] = flow_px.movedim(-1, 1).reshape(len(frames), -1, 2, *flow_px.shape[1:3])
        return batch
