"""The one-dimensional U-Net that denoises action sequences, conditioned on one vector.

Diffusers has no such network (its UNet1DModel takes no condition), so this is ours, after Diffusion Policy (Chi et al. 2023,
`conditional_unet1d.py`) in the variant that AVDC evaluated as its baseline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from flowbench.errors import BadValue

GROUPS = 8


class ConditionalUNet1D(nn.Module):
    """Noisy action sequences to noise (or velocity) of the same shape."""

    def __init__(
        self,
        action_width: int,
        condition_width: int,
        widths: Sequence[int] = (256, 512, 1024),
        *,
        kernel: int = 3,
        step_width: int = 256,
    ) -> None:
        """Build the network.

        Args:
            action_width: Components A of an action.
            condition_width: Length C of the condition.
            widths: Channels at full, half, quarter ... length.
            kernel: Steps that a convolution sees.
            step_width: Width of the diffusion step's embedding.
        """
        super().__init__()
        if any(width % GROUPS for width in widths):
            raise BadValue(f"widths of a U-Net are {tuple(widths)}; each is a multiple of {GROUPS}.")
        self.widths = tuple(widths)
        self.step = nn.Sequential(
            SinusoidalEmbedding(step_width),
            nn.Linear(step_width, 4 * step_width),
            nn.Mish(),
            nn.Linear(4 * step_width, step_width),
        )
        seen = step_width + condition_width
        entering = (action_width, *widths[:-1])
        self.down = nn.ModuleList(
            nn.ModuleList([_Block(before, width, seen, kernel), _Block(width, width, seen, kernel)])
            for before, width in zip(entering, widths, strict=True)
        )
        self.shorten = nn.ModuleList(nn.Conv1d(width, width, 3, stride=2, padding=1) for width in widths[:-1])
        self.middle = nn.ModuleList(_Block(widths[-1], widths[-1], seen, kernel) for _ in range(2))
        # As published, every level but the finest is handed across: the way up ends one level before the way down began.
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            nn.ModuleList([_Block(2 * before, width, seen, kernel), _Block(width, width, seen, kernel)])
            for before, width in rising
        )
        self.lengthen = nn.ModuleList(nn.ConvTranspose1d(width, width, 4, stride=2, padding=1) for _, width in rising)
        self.head = nn.Sequential(_convolution(widths[0], widths[0], kernel), nn.Conv1d(widths[0], action_width, 1))

    def forward(self, actions: torch.Tensor, step: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Denoise.

        Args:
            actions: (B, T, A) noisy actions; T is a multiple of 2 ** (number of widths - 1).
            step: (B,) diffusion steps.
            condition: (B, C).

        Returns:
            (B, T, A).
        """
        factor = 2 ** (len(self.widths) - 1)
        if actions.shape[1] % factor:
            raise BadValue(
                f"A horizon of {actions.shape[1]} actions is no multiple of {factor}, which the U-Net halves to 1."
            )
        seen = torch.cat([self.step(step), condition], dim=-1)
        maps = actions.transpose(1, 2)
        across = []
        for level, blocks in enumerate(self.down):
            for block in blocks:
                maps = block(maps, seen)
            across.append(maps)
            if level < len(self.shorten):
                maps = self.shorten[level](maps)
        for block in self.middle:
            maps = block(maps, seen)
        for blocks, lengthen in zip(self.up, self.lengthen, strict=True):
            maps = torch.cat([maps, across.pop()], dim=1)
            for block in blocks:
                maps = block(maps, seen)
            maps = lengthen(maps)
        return self.head(maps).transpose(1, 2)


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of a number at wavelengths from 2 pi to 20000 pi (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half) / (half - 1))
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Embed (B,) numbers as (B, width)."""
        angles = numbers[:, None].to(self.rates.dtype) * self.rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class _Block(nn.Module):
    """Two convolutions with a residual; the condition is added between them.

    AVDC's baseline adds it (`cond_predict_scale=False`); Diffusion Policy's own image experiments scale by it, too.
    """

    def __init__(self, entering: int, leaving: int, condition_width: int, kernel: int) -> None:
        super().__init__()
        self.first = _convolution(entering, leaving, kernel)
        self.second = _convolution(leaving, leaving, kernel)
        self.condition = nn.Sequential(nn.Mish(), nn.Linear(condition_width, leaving))
        self.residual = nn.Conv1d(entering, leaving, 1) if entering != leaving else nn.Identity()

    def forward(self, maps: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        moved = self.first(maps) + self.condition(condition)[..., None]
        return self.second(moved) + self.residual(maps)


def _convolution(entering: int, leaving: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(entering, leaving, kernel, padding=kernel // 2), nn.GroupNorm(GROUPS, leaving), nn.Mish()
    )
