"""Image augmentation on batches: one draw per sample, from an explicit generator.

All functions take (B, ..., C, H, W) images and treat every sample of the batch alone, but everything between batch and
channels (history steps, cameras) alike: what moves together in the world must move together in the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from flowbench.errors import BadValue


@dataclass(frozen=True)
class AugmentConfig:
    """What training does to images.

    Attributes:
        shift_px: Largest random translation in each direction, pixels; the border is repeated.
        brightness: Scales by a factor from [1 - b, 1 + b].
        contrast: Likewise, about the image's mean grey.
        saturation: Likewise, about each pixel's grey.
        hue: Turns hues by an angle from [-h, h], in turns.
    """

    shift_px: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for field in ("shift_px", "brightness", "contrast", "saturation", "hue"):
            if getattr(self, field) < 0:
                raise BadValue(f"{field} of image augmentation is {getattr(self, field)}; it is at least 0.")

    @property
    def colour(self) -> bool:
        """Whether colours change at all."""
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0


#: LIBERO's and QueST's: 4 pixels and 0.3 (LIBERO `configs/data_augmentation`, QueST's image augmentation).
LIBERO_AUGMENTATION = AugmentConfig(shift_px=4, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3)


def augment(images: torch.Tensor, config: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Shift, then jitter colours, of float (B, ..., 3, H, W) images in [0, 1]."""
    if config.shift_px:
        images = random_shift(images, config.shift_px, generator)
    if config.colour:
        images = colour_jitter(images, config, generator)
    return images


def centre_crop(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut (..., H, W) to its (..., height, width) middle."""
    _check_crop(images, height, width)
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


def random_crop(images: torch.Tensor, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Cut (B, ..., C, H, W) to (B, ..., C, height, width) anywhere."""
    _check_crop(images, height, width)
    count, device = len(images), images.device
    top = _integers(images.shape[-2] - height + 1, count, generator, device)
    left = _integers(images.shape[-1] - width + 1, count, generator, device)
    rows = top[:, None] + torch.arange(height, device=device)
    columns = left[:, None] + torch.arange(width, device=device)
    samples = torch.arange(count, device=device)
    flat = images.flatten(1, -3)
    # Advanced indices around a slice go first: (B, height, width, everything else).
    cut = flat[samples[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).unflatten(1, images.shape[1:-2])


def random_shift(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Move (B, ..., C, H, W) by up to `pixels` in each direction, repeating the border (DrQ, Yarats et al. 2021)."""
    height, width = images.shape[-2:]
    padded = F.pad(images.flatten(1, -3), (pixels,) * 4, mode="replicate").unflatten(1, images.shape[1:-2])
    return random_crop(padded, height, width, generator)


def colour_jitter(images: torch.Tensor, config: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Jitter colours of float (B, ..., 3, H, W) images in [0, 1].

    Unlike torchvision's ColorJitter the order is fixed (brightness, contrast, saturation, hue), every sample has its own
    draw, values are clamped once, and hues turn in the plane of equal luma (YIQ) instead of HSV: the whole is then one 3x3
    matrix and an offset per sample, which costs as much as one pass over the images.
    """
    count, device, dtype = len(images), images.device, images.dtype

    def factor(amount: float) -> torch.Tensor:
        return 1 + (2 * torch.rand(count, 1, 1, generator=generator, device=generator.device) - 1) * amount

    luma = torch.tensor([0.299, 0.587, 0.114])
    grey = luma.expand(3, 3).to(generator.device)
    identity = torch.eye(3, device=generator.device)
    brightness, contrast, saturation = (factor(a) for a in (config.brightness, config.contrast, config.saturation))
    turn = (factor(config.hue) - 1) * 2 * math.pi
    to_yiq = torch.tensor([luma.tolist(), [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    # Inverted before it is moved: a GPU would be waited for.
    from_yiq, to_yiq = torch.linalg.inv(to_yiq).to(generator.device), to_yiq.to(generator.device)
    rotation = identity.repeat(count, 1, 1)
    rotation[:, 1, 1] = rotation[:, 2, 2] = turn.cos().flatten()
    rotation[:, 2, 1] = turn.sin().flatten()
    rotation[:, 1, 2] = -turn.sin().flatten()
    colours = from_yiq @ rotation @ to_yiq @ (saturation * identity + (1 - saturation) * grey)
    # Contrast holds the mean grey of the brightened image; the matrices after it leave greys as they are.
    matrix = (colours @ (contrast * brightness * identity)).to(device, dtype)
    means = images.flatten(1, -4).mean(dim=(1, -2, -1)) if images.ndim > 4 else images.mean(dim=(-2, -1))
    offset = ((1 - contrast) * brightness).flatten().to(device, dtype) * (means @ luma.to(device, dtype))
    jittered = torch.einsum("bij,b...jhw->b...ihw", matrix, images)
    return (jittered + offset.view(-1, *[1] * (images.ndim - 1))).clamp(0, 1)


def _integers(high: int, count: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    return torch.randint(high, (count,), generator=generator, device=generator.device).to(device)


def _check_crop(images: torch.Tensor, height: int, width: int) -> None:
    if height > images.shape[-2] or width > images.shape[-1]:
        raise BadValue(
            f"A crop of {width}x{height} (width x height) does not fit in an image of {images.shape[-1]}x{images.shape[-2]}. "
            "Give a smaller crop, or collect and evaluate with larger images."
        )
