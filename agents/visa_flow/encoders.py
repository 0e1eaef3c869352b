"""Pictures to tokens: a small convolutional network, or GR-1's frozen MAE with a Perceiver resampler."""

from __future__ import annotations

import torch
from torch import nn

from flowbench.agents.nets.perceiver import GR1_PERCEIVER, PerceiverResampler
from flowbench.errors import DataError, missing_extra

ENCODERS = ("conv", "mae")
#: GR-1: MAE ViT-B/16 at 224 pixels, ImageNet's mean and standard deviation.
MAE_MODEL, MAE_SIDE_PX = "facebook/vit-mae-base", 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_image_encoder(name: str, width: int, image_size: tuple[int, int], path: str = "") -> nn.Module:
    """Build an encoder: float (N, 3, H, W) in [0, 1] to (N, tokens, width)."""
    return FrozenMae(width, path) if name == "mae" else ConvEncoder(width)


class ConvEncoder(nn.Module):
    """Three convolutions, then nine tokens of the regions of a picture and one of where its features are.

    Nine and one are the numbers of GR-1's latents and class token. The places of features (spatial softmax, Finn et al. 2016)
    are what a small network can learn from few demonstrations where a hand must go.
    """

    tokens = 10

    def __init__(self, width: int, channels: tuple[int, ...] = (32, 64, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        entering = 3
        # Coarse at once: on a CPU, large maps of few channels cost more than all the rest.
        for leaving, (kernel, stride) in zip(channels, ((8, 4), (3, 2), (3, 1)), strict=True):
            layers += [nn.Conv2d(entering, leaving, kernel, stride, (kernel - 1) // 2)]
            layers += [nn.GroupNorm(4, leaving), nn.ReLU()]
            entering = leaving
        self.layers = nn.Sequential(*layers)
        self.regions = nn.Linear(entering, width)
        self.attention = nn.Conv2d(entering, entering, 1)
        self.places = nn.Linear(2 * entering, width)
        self.positions = nn.Parameter(0.02 * torch.randn(9, width))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, 10, width)."""
        maps = self.layers(((images - 0.5) / 0.25).contiguous(memory_format=torch.channels_last))
        height, width = maps.shape[-2:]
        regions = nn.functional.adaptive_avg_pool2d(maps, 3).flatten(2).transpose(1, 2)
        weights = self.attention(maps).flatten(2).float().softmax(-1)
        rows = torch.linspace(-1, 1, height, device=maps.device)[:, None].expand(height, width).flatten()
        columns = torch.linspace(-1, 1, width, device=maps.device)[None].expand(height, width).flatten()
        places = torch.cat([weights @ columns, weights @ rows], dim=-1)
        return torch.cat([self.regions(regions) + self.positions, self.places(places)[:, None]], dim=1)


class FrozenMae(nn.Module):
    """MAE's ViT-B/16, frozen and outside of checkpoints, and GR-1's resampler of its patches, which is trained."""

    tokens = 10

    def __init__(self, width: int, path: str = "") -> None:
        super().__init__()
        self.resampler = PerceiverResampler(768, GR1_PERCEIVER)
        self.latents = nn.Linear(768, width)
        self.whole = nn.Linear(768, width)
        self._path = path or MAE_MODEL
        self._frozen: list[nn.Module] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, 10, width)."""
        side = (MAE_SIDE_PX, MAE_SIDE_PX)
        images = nn.functional.interpolate(images, side, mode="bicubic", antialias=True)
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (_MEAN, _STD))
        with torch.no_grad():
            hidden = self._mae(images.device)((images - mean) / std).last_hidden_state
        latents = self.latents(self.resampler(hidden[:, 1:]))
        return torch.cat([latents, self.whole(hidden[:, :1])], dim=1)

    def _mae(self, device: torch.device) -> nn.Module:
        """Load the frozen network when it is first needed.

        Raises:
            DataError: If its weights are not on this machine.
        """
        if not self._frozen:
            try:
                from transformers import ViTMAEModel
            except ImportError as error:
                raise missing_extra("Image encoder mae", "agents", error) from error
            try:
                # Without masking, every patch in its place.
                model = ViTMAEModel.from_pretrained(self._path, local_files_only=True, mask_ratio=0.0)
            except (OSError, ValueError) as error:
                raise DataError(
                    f"The image encoder mae needs the weights of {self._path}, which is neither a folder nor in the cache of the "
                    f"Hugging Face hub. Download them once: hf download {MAE_MODEL}; or give a folder with --set "
                    "encoder_path=FOLDER; or use --set encoder=conv, which needs none."
                ) from error
            self._frozen.append(model.eval().requires_grad_(False))
        return self._frozen[0].to(device)
