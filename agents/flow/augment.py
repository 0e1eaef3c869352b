"""What happens to pairs of images before a flow network learns from them: other light, noise, compression, mirrors.

Planners hand over frames that were imagined, decoded from video or shrunk, so the two images of a pair are disturbed
separately, too. Everything is drawn from the generator of the step and runs where the images are.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional


def photometric(
    first: torch.Tensor, second: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (B, 3, H, W) images in [-1, 1] in another light, the same for both but for a little."""
    shared = _Draw(first, generator)
    light = [shared.uniform(0.7, 1.3), shared.uniform(-0.2, 0.2), shared.uniform(0.7, 1.4)]
    colour = 1 + shared.uniform(-0.15, 0.15, channels=3)
    disturbed = []
    for images in (first, second):
        own = [1 + shared.uniform(-0.06, 0.06), shared.uniform(-0.05, 0.05), 1 + shared.uniform(-0.05, 0.05)]
        images = images * (light[0] * own[0]) * colour + light[1] + own[1]
        # Gamma works on [0, 1].
        images = ((images.clamp(-1, 1) + 1) / 2).pow(light[2] * own[2]) * 2 - 1
        disturbed.append(images)
    return disturbed[0], disturbed[1]


def degrade(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Return (B, 3, H, W) images in [-1, 1], a share of which may be blurred, noisy and compressed."""
    draw = _Draw(images, generator)
    clean, spared = images, draw.chance(1 - share).bool()
    softer = functional.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    softer = functional.interpolate(softer, images.shape[-2:], mode="bilinear")
    blur = draw.uniform(0, 1) * draw.chance(0.3)
    images = images + blur * (softer - images)
    images = torch.where(draw.chance(0.3).bool(), compressed(images, draw.uniform(0.02, 0.25)), images)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    images = images + noise * draw.uniform(0.0, 0.05) * draw.chance(0.6)
    return torch.where(spared, clean, images).clamp(-1, 1)


def compressed(images: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Return (B, C, H, W) images as after JPEG or a video codec: blocks of 8 x 8 with quantised frequencies.

    Args:
        images: With sides that are multiples of 8; others come back as they are.
        step: (B, 1, 1, 1) quantisation step of the lowest frequency; it rises fivefold to the highest.
    """
    batch, channels, height, width = images.shape
    if height % 8 or width % 8:
        return images
    transform = _dct(images)
    blocks = images.reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    frequencies = transform @ blocks @ transform.T
    rise = torch.arange(8, device=images.device, dtype=images.dtype)
    steps = step[..., None, None] * (1 + 4 * (rise[:, None] + rise[None, :]) / 14)
    blocks = transform.T @ (torch.round(frequencies / steps) * steps) @ transform
    return blocks.transpose(3, 4).reshape(images.shape)


def mirrored(
    arrays: dict[str, torch.Tensor], flow_px: torch.Tensor, generator: torch.Generator
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return (B, ..., H, W) arrays and (B, 2, H, W) flow, mirrored or turned over in the same way for the whole batch."""
    # As often as RAFT does.
    flips = torch.rand(2, generator=generator, device=flow_px.device).tolist()
    if flips[0] < 0.5:
        arrays = {name: value.flip(-1) for name, value in arrays.items()}
        flow_px = flow_px.flip(-1) * flow_px.new_tensor([-1, 1])[:, None, None]
    if flips[1] < 0.1:
        arrays = {name: value.flip(-2) for name, value in arrays.items()}
        flow_px = flow_px.flip(-2) * flow_px.new_tensor([1, -1])[:, None, None]
    return arrays, flow_px


class _Draw:
    """Draws one number per sample, shaped to be applied to images."""

    def __init__(self, images: torch.Tensor, generator: torch.Generator) -> None:
        self._batch, self._device, self._generator = len(images), images.device, generator

    def uniform(self, low: float, high: float, channels: int = 1) -> torch.Tensor:
        drawn = torch.rand(self._batch, channels, 1, 1, generator=self._generator, device=self._device)
        return low + (high - low) * drawn

    def chance(self, share: float) -> torch.Tensor:
        return (self.uniform(0, 1) < share).float()


def _dct(images: torch.Tensor) -> torch.Tensor:
    """Return the orthonormal (8, 8) matrix of the discrete cosine transform."""
    index = torch.arange(8, device=images.device, dtype=images.dtype)
    matrix = torch.cos(math.pi * (2 * index[None, :] + 1) * index[:, None] / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
