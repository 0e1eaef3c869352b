"""What agents that learned from pictures and sentences do with an episode's: fit the frame, embed the sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.images import ImageFit
from flowbench.errors import ShapeError
from flowbench.observation import Observation


class KnowsSentences(Protocol):
    """A network that was trained on sentences."""

    sentences: list[str]

    def embed(self, sentences: list[str]) -> torch.Tensor:
        """Turn N sentences into (N, D)."""
        ...


@dataclass(frozen=True)
class Looking:
    """An episode's frames, as a checkpoint's network sees them.

    Attributes:
        checkpoint: Whose frames.
        fit: What it does to them.
    """

    checkpoint: Checkpoint
    fit: ImageFit

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of the frames of training, and so of the episode."""
        width, height = self.checkpoint.facts["image_size"]
        return width, height

    def __call__(self, observation: Observation, camera: str | None = None) -> np.ndarray:
        """Return the fitted uint8 (h, w, 3) frame of a camera; None for the episode's first.

        Raises:
            ShapeError: If frames are of another size than in training.
        """
        frame = observation.rgb(camera)
        if frame.shape[1::-1] != self.size:
            raise ShapeError(
                f"Checkpoint {self.checkpoint.folder} was trained on frames of {self.size[0]}x{self.size[1]}, and this one "
                f"is {frame.shape[1]}x{frame.shape[0]}. Leave out --image-size."
            )
        return self.fit(frame)


def embed_instruction(network: KnowsSentences, instruction: str) -> torch.Tensor:
    """Return (1, D) of an instruction, known from training or not."""
    sentences = network.sentences
    with torch.no_grad():
        # All of them at once, as in training, so that a sentence's embedding does not depend on the task.
        known = network.embed([*sentences, instruction])
    return known[sentences.index(instruction) if instruction in sentences else -1][None]
