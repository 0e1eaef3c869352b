"""Image encoders: ResNets in the variants that robot learning uses, so that every agent names its encoder in one config.

Parameters have torchvision's names, so its ImageNet weights load as they are; the ResNets of R3M have the same names
behind a prefix. Pretrained weights are loaded once, when training starts; afterwards they are part of the checkpoint.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torchvision.models import get_model_weights
from torchvision.models.resnet import BasicBlock, Bottleneck

from flowbench.errors import BadValue, DataError, unknown_name

#: Blocks of each stage (He et al. 2016, table 1).
BACKBONES = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
#: Of the images that torchvision's and R3M's networks were trained on.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: Channels per group of GroupNorm: Diffusion Policy, `replace_submodules` of its `multi_image_obs_encoder.py`.
GROUP_CHANNELS = 16


@dataclass(frozen=True)
class VisionConfig:
    """An image encoder.

    Attributes:
        backbone: `resnet18`, `resnet34` or `resnet50`.
        norm: `batch`, or `group`, which does not depend on the other images of a batch.
        pool: `average` over positions, or `spatial-softmax`: the expected (x, y) of every channel.
        width_factor: Scales the number of channels; below 1 for CPUs. Pretrained weights need 1.
        stages: How many of the four stages are kept; 3 keeps positions twice as fine.
        output: Width of a linear layer at the end; None leaves the pooled features.
        weights: `none`, `imagenet` or `r3m`: what training starts from.
        weights_path: File of these weights. None lets torchvision download `imagenet`; `r3m` needs a file.
    """

    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    norm: Literal["batch", "group"] = "batch"
    pool: Literal["average", "spatial-softmax"] = "average"
    width_factor: float = 1.0
    stages: int = 4
    output: int | None = None
    weights: Literal["none", "imagenet", "r3m"] = "none"
    weights_path: str | None = None

    def __post_init__(self) -> None:
        allowed = {
            "backbone": tuple(BACKBONES),
            "norm": ("batch", "group"),
            "pool": ("average", "spatial-softmax"),
            "weights": ("none", "imagenet", "r3m"),
        }
        for field, names in allowed.items():
            if getattr(self, field) not in names:
                raise unknown_name(field, str(getattr(self, field)), names, "An image encoder")
        if not 1 <= self.stages <= 4:
            raise BadValue(f"stages of an image encoder is {self.stages}; it is 1 to 4.")
        if round(64 * self.width_factor) % GROUP_CHANNELS or self.width_factor <= 0:
            raise BadValue(f"width_factor of an image encoder is {self.width_factor}; it is a multiple of 0.25.")
        if self.weights != "none" and (self.width_factor != 1 or self.norm != "batch"):
            raise BadValue(
                f"weights={self.weights!r} are those of a full-width network with batch norm, but width_factor is "
                f"{self.width_factor} and norm is {self.norm!r}. Use width_factor=1 and norm='batch', or weights='none'."
            )


class ImageEncoder(nn.Module):
    """A ResNet from images to vectors.

    Attributes:
        width: Length D of a vector.
        channels: Channels C of the map before pooling.
    """

    def __init__(self, config: VisionConfig = VisionConfig()) -> None:
        """Build the network with random weights; `load_pretrained` gives it those of its config."""
        super().__init__()
        self.config = config
        block, blocks = BACKBONES[config.backbone]
        channels = round(64 * config.width_factor)
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = _norm(config.norm, channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        entering = channels
        for stage in range(config.stages):
            planes = channels * 2**stage
            layer = _stage(block, entering, planes, blocks[stage], stride=1 if stage == 0 else 2, norm=config.norm)
            self.add_module(f"layer{stage + 1}", layer)
            entering = planes * block.expansion
        self.pool = SpatialSoftmax() if config.pool == "spatial-softmax" else _AveragePool()
        self.channels = entering
        pooled = 2 * entering if config.pool == "spatial-softmax" else entering
        self.project = nn.Identity() if config.output is None else nn.Linear(pooled, config.output)
        self.width = config.output or pooled
        self._initialise()
        # Not in the checkpoint: constants of the code.
        normalised = config.weights != "none"
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if normalised else ((0.5,) * 3, (0.5,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode float (B, 3, H, W) images in [0, 1] as (B, D) vectors."""
        return self.project(self.pool(self.features(images)))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the (B, C, H / 2 ** (stages + 1), W / 2 ** (stages + 1)) map before pooling."""
        return self.stages(self.stem(images))

    def stem(self, images: torch.Tensor) -> torch.Tensor:
        """Return the first feature map, a quarter as high and wide as the images."""
        if self.training:
            # Channels last in memory: two thirds of the time of a training step in bf16 on a CPU.
            images = images.contiguous(memory_format=torch.channels_last)
        return self.maxpool(self.relu(self.bn1(self.conv1((images - self.mean) / self.std))))

    def stages(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the last feature map, of the first one."""
        for stage in range(self.config.stages):
            maps = self.get_submodule(f"layer{stage + 1}")(maps)
        return maps

    def load_pretrained(self) -> None:
        """Load the weights that the config names; does nothing for `none`.

        Raises:
            DataError: If they cannot be had, or do not fit: how to give a file.
        """
        if self.config.weights == "imagenet":
            self._load(_imagenet_weights(self.config), "ImageNet")
        elif self.config.weights == "r3m":
            self._load(_r3m_weights(self.config), "R3M")

    def _load(self, state: Mapping[str, torch.Tensor], origin: str) -> None:
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("project.")}
        missing = [name for name in own if name not in state]
        wrong = [name for name in own if name in state and state[name].shape != own[name].shape]
        if missing or wrong:
            what = f"lack {missing[0]}" if missing else f"have {wrong[0]} of shape {tuple(state[wrong[0]].shape)}"
            where = self.config.weights_path or "torchvision"
            raise DataError(
                f"The {origin} weights of {where} {what}; they are not those of a {self.config.backbone}. Set backbone to the "
                "network of the file."
            )
        self.load_state_dict({name: state[name] for name in own}, strict=False)

    def _initialise(self) -> None:
        # As torchvision initialises its ResNets.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class SpatialSoftmax(nn.Module):
    """Where each channel is active: the mean position under the softmax of its activations (Levine et al. 2016)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) maps into (B, 2 C): all x, then all y, each in [-1, 1]."""
        height, width = maps.shape[-2:]
        weights = maps.flatten(2).softmax(dim=-1).unflatten(2, (height, width))
        x = torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype)
        y = torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype)
        return torch.cat([(weights.sum(dim=2) * x).sum(-1), (weights.sum(dim=3) * y).sum(-1)], dim=-1)


class _AveragePool(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(-2, -1))


def _norm(kind: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(channels // GROUP_CHANNELS, channels)


def _stage(block: type, entering: int, planes: int, count: int, *, stride: int, norm: str) -> nn.Sequential:
    def norm_layer(channels: int) -> nn.Module:
        return _norm(norm, channels)

    leaving = planes * block.expansion
    downsample = None
    if stride != 1 or entering != leaving:
        downsample = nn.Sequential(nn.Conv2d(entering, leaving, 1, stride=stride, bias=False), norm_layer(leaving))
    first = block(entering, planes, stride, downsample, norm_layer=norm_layer)
    return nn.Sequential(first, *(block(leaving, planes, norm_layer=norm_layer) for _ in range(count - 1)))


def _imagenet_weights(config: VisionConfig) -> Mapping[str, torch.Tensor]:
    if config.weights_path:
        return _read_tensors(config.weights_path)
    weights = get_model_weights(config.backbone).DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not cached.is_file():
        print(f"Downloading {weights.url} ({weights.meta['_file_size']:.0f} MB) to {cached}", file=sys.stderr)
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise DataError(
            f"The ImageNet weights of {config.backbone} could not be downloaded from {weights.url} ({error}). Download that "
            f"file elsewhere and name it with weights_path, put it at {cached}, or train with weights='none'."
        ) from error


def _r3m_weights(config: VisionConfig) -> Mapping[str, torch.Tensor]:
    if not config.weights_path:
        raise DataError(
            f"R3M publishes its {config.backbone} on Google Drive only, which FlowBench does not download from. Fetch "
            "model.pt with R3M's own loader (github.com/facebookresearch/r3m puts it under ~/.r3m) and name it with "
            "weights_path."
        )
    state = _read_tensors(config.weights_path)
    state = state.get("r3m", state)
    # Upstream saves `module.convnet.` (a DataParallel of the R3M module); copies on model hubs drop parts of it.
    anchors = [name for name in state if name.endswith("convnet.conv1.weight") or name == "conv1.weight"]
    if not anchors:
        raise DataError(
            f"{config.weights_path} holds no R3M network: no entry ends in 'convnet.conv1.weight'. Expected the model.pt of "
            "github.com/facebookresearch/r3m."
        )
    prefix = anchors[0].removesuffix("conv1.weight")
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _read_tensors(path: str) -> Mapping[str, torch.Tensor]:
    if not Path(path).is_file():
        raise DataError(f"The weights file {path!r} does not exist. Name another with weights_path.")
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    try:
        # These files are pickles; weights_only reads tensors and containers and runs nothing that is in them.
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} is no file of tensors ({reason}). Anything beyond tensors would have to be unpickled, which can run "
            "code, and is refused."
        ) from error
