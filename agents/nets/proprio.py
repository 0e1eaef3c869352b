"""The robot's state as a network sees it: chosen components, normalised by the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn


class ProprioEncoder(nn.Sequential):
    """A layer over the robot's state.

    Attributes:
        width: Length of what it returns.
    """

    width = 64

    def __init__(self, statistics: Mapping[str, Sequence[float]], parts: Sequence[int] = ()) -> None:
        """Build it.

        Args:
            statistics: `mean` and `std` of every component in the training data.
            parts: Which components are seen; empty for all.
        """
        chosen = list(parts or range(len(statistics["mean"])))
        super().__init__(nn.Linear(len(chosen), self.width), nn.ReLU())
        # Constants of the checkpoint's facts, not weights.
        self.register_buffer("parts", torch.tensor(chosen), persistent=False)
        self.register_buffer("mean", torch.tensor(statistics["mean"])[chosen], persistent=False)
        self.register_buffer("std", torch.tensor(statistics["std"])[chosen], persistent=False)

    def forward(self, proprio: torch.Tensor) -> torch.Tensor:
        """Encode states (B, P) as recorded as (B, width)."""
        return super().forward((proprio[:, self.parts] - self.mean) / self.std)

    def disturbed(self, proprio: torch.Tensor, noise: float, generator: torch.Generator) -> torch.Tensor:
        """Return states (B, P) with Gaussian noise on the seen components, `noise` in their standard deviations."""
        std = torch.zeros_like(proprio)
        std[:, self.parts] = noise * self.std
        return proprio + std * torch.randn(proprio.shape, generator=generator, device=proprio.device)
