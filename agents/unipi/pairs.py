"""What inverse dynamics learns from: the present picture, the next one of a plan, the expert's action, and "reached".

A clip is cut from a demonstration as the video model's are (`spaced_steps`), and a moment is taken on the way to one of its
pictures. AVDC does not publish how its labels were made; these are a reconstruction that fits what its agent does with them: the
first picture of a plan is the present itself and is reached at once, and every other one where the demonstration shows it.

Where an action is one of a few, a plan has a picture for every action, and there is nothing on the way.
"""

from __future__ import annotations

import numpy as np
import torch

from flowbench.agents.training.images import ImageFit
from flowbench.agents.training.recipe import Batch
from flowbench.agents.training.windows import FrameCache, WindowedDemos
from flowbench.agents.video_diffusion.clips import VIDEO, spaced_steps
from flowbench.data.dataset import DemoDataset

#: Moments that are told apart on the way from one picture to the next.
MOMENTS = 8


class PicturePairs(WindowedDemos):
    """Pairs of the present and the wanted picture.

    A batch holds `camera/rgb` (B, 2, h, w, 3), `actions` (B, 1, A), `reached` float (B,), and the labels.
    """

    def __init__(
        self,
        dataset: DemoDataset,
        fit: ImageFit,
        frames: int,
        reached_within: int,
        labels: dict[str, np.ndarray],
        cache: FrameCache | None,
    ) -> None:
        """Decode what is not decoded yet.

        Args:
            dataset: Demonstrations with `camera/rgb` and `actions`.
            fit: Size in which pictures are wanted.
            frames: Pictures of a plan, the present included.
            reached_within: Steps before a picture from which on it counts as reached.
            labels: As `WindowedDemos`.
            cache: As `WindowedDemos`.
        """
        super().__init__(dataset, {VIDEO: fit}, labels, cache)
        self._pictures, self._within = frames, reached_within
        self._starts = int(self._steps.max())

    def __len__(self) -> int:
        return len(self._steps) * self._starts * self._pictures * MOMENTS

    def places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the demonstration (B,), and the steps (B, 2) of the present and of the wanted picture."""
        rest, demos = np.divmod(indices, len(self._steps))
        rest, start = np.divmod(rest, self._starts)
        moment, picture = np.divmod(rest, self._pictures)
        start = start * self._steps[demos] // self._starts
        clip = spaced_steps(start, self._steps[demos] - 1, self._pictures)
        rows = np.arange(len(clip))
        wanted, before = clip[rows, picture], clip[rows, np.maximum(picture - 1, 0)]
        present = before + np.rint(moment * (wanted - before) / (MOMENTS - 1)).astype(np.int64)
        return demos, np.stack([present, wanted], axis=1)

    def wanted(self, key: str, demos: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return both steps for pictures, and the present one for actions."""
        return steps if key == VIDEO else steps[:, :1]

    def batch(self, indices: np.ndarray) -> Batch:
        """See `TrainingData.batch`."""
        present, wanted = self.places(indices)[1].T
        reached = (wanted - present <= self._within).astype(np.float32)
        return super().batch(indices) | {"reached": torch.from_numpy(reached)}


class NextPictures(WindowedDemos):
    """Pairs of each moment and the next one; after the last, the last one again, which is what the end looks like.

    A batch holds what that of `PicturePairs` does; every picture is reached by one action.
    """

    def __init__(
        self, dataset: DemoDataset, fit: ImageFit, labels: dict[str, np.ndarray], cache: FrameCache | None
    ) -> None:
        """Decode what is not decoded yet; arguments as `PicturePairs`."""
        super().__init__(dataset, {VIDEO: fit}, labels, cache)

    def wanted(self, key: str, demos: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the present step and the next one for pictures, and the present one for actions."""
        following = np.minimum(steps + 1, self._steps[demos] - 1)
        return np.stack([steps, following], axis=1) if key == VIDEO else steps[:, None]

    def batch(self, indices: np.ndarray) -> Batch:
        """See `TrainingData.batch`."""
        return super().batch(indices) | {"reached": torch.ones(len(indices))}
