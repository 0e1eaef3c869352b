"""What policies that learn from demonstrations see: frames of one or more cameras, a sentence, a camera identity, proprioception.

Behaviour cloning and diffusion policies differ in how they predict actions, not in this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from flowbench.agents.nets.augment import AugmentConfig, augment
from flowbench.agents.nets.proprio import ProprioEncoder
from flowbench.agents.nets.text import make_text_encoder
from flowbench.agents.nets.vision import ImageEncoder, VisionConfig
from flowbench.errors import BadValue


@dataclass(frozen=True)
class ObservationConfig:
    """What a policy sees, and how many actions it predicts and executes at a look.

    Attributes:
        camera: The camera to look through, where there are extra cameras; "" takes every camera of the data in turn, with
            an identity, so that one network serves all of them.
        extra_cameras: Cameras seen at the same time, e.g. a wrist camera.
        crop: (width, height) cut out of the middle of a frame first; () keeps the whole frame.
        image_size: (width, height) in pixels that the network sees.
        history: Number of frames, `frame_step` steps apart; the last one is the current.
        proprio: Whether the network sees the robot's state.
        proprio_parts: Which components of it; () for all.
        backbone: As `VisionConfig`.
        norm: As `VisionConfig`.
        pool: As `VisionConfig`.
        width_factor: As `VisionConfig`.
        vision_stages: `VisionConfig.stages`.
        vision_output: Width of a camera's features.
        weights: As `VisionConfig`.
        weights_path: As `VisionConfig`; "" for none.
        film: Whether the sentence scales and shifts the last feature map (FiLM, Perez et al. 2018), as in LIBERO's networks.
        text: Name of the text encoder.
        text_width: Width of a learned sentence embedding (`vocab`).
        camera_width: Width of a camera's embedding.
        chunk: Number of actions that are predicted at a look.
        execute: Number of them that are executed before the next look.
        shift_px: As `AugmentConfig`.
        brightness: As `AugmentConfig`.
        contrast: As `AugmentConfig`.
        saturation: As `AugmentConfig`.
        hue: As `AugmentConfig`.
        proprio_noise: Standard deviation of noise on the robot's state in training, in its own standard deviations.
    """

    camera: str = ""
    extra_cameras: tuple[str, ...] = ()
    crop: tuple[int, ...] = ()
    image_size: tuple[int, int] = (128, 128)
    history: int = 1
    proprio: bool = False
    proprio_parts: tuple[int, ...] = ()
    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    norm: Literal["batch", "group"] = "group"
    pool: Literal["average", "spatial-softmax"] = "average"
    width_factor: float = 1.0
    vision_stages: int = 4
    vision_output: int = 256
    weights: Literal["none", "imagenet", "r3m"] = "none"
    weights_path: str = ""
    film: bool = False
    text: str = "vocab"
    text_width: int = 64
    camera_width: int = 16
    chunk: int = 1
    execute: int = 1
    shift_px: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    proprio_noise: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.execute <= self.chunk:
            raise BadValue(f"execute is {self.execute}; it is from 1 to chunk, which is {self.chunk}.")
        if self.crop and len(self.crop) != 2:
            raise BadValue(f"crop is {list(self.crop)}; it is [width, height] in pixels, or [] for the whole frame.")
        if self.history < 1:
            raise BadValue(f"history is {self.history}; it is at least 1, the current frame.")

    @property
    def frame_step(self) -> int:
        """Steps between two frames of the history."""
        return 1

    @property
    def vision(self) -> VisionConfig:
        """The encoder of one camera."""
        return VisionConfig(
            backbone=self.backbone,
            norm=self.norm,
            pool=self.pool,
            width_factor=self.width_factor,
            stages=self.vision_stages,
            output=self.vision_output,
            weights=self.weights,
            weights_path=self.weights_path or None,
        )

    @property
    def augmentation(self) -> AugmentConfig:
        """What training does to images."""
        return AugmentConfig(self.shift_px, self.brightness, self.contrast, self.saturation, self.hue)


class ObservationNetwork(nn.Module):
    """The part of a policy that looks; a base class, so that weights keep their names whatever predicts the actions.

    Attributes:
        sentences: The instructions of the training data.
        observed_width: Length of what `observe` returns.
    """

    def __init__(self, config: ObservationConfig, facts: Mapping[str, Any]) -> None:
        """Build encoders and embeddings.

        Args:
            config: Hyper-parameters.
            facts: `instructions`, `cameras`, statistics of `actions` and `proprio`, bounds of the actions.
        """
        super().__init__()
        self.config = config
        self.sentences: list[str] = facts["instructions"]
        self.encoders = nn.ModuleList(ImageEncoder(config.vision) for _ in range(1 + len(config.extra_cameras)))
        options = {"width": config.text_width} if config.text == "vocab" else {}
        self.text = make_text_encoder(config.text, self.sentences, **options)
        self.camera = nn.Embedding(len(facts["cameras"]), config.camera_width)
        maps = self.encoders[0]
        self.films = (
            nn.ModuleList(_Film(self.text.width, maps.channels) for _ in self.encoders) if config.film else None
        )
        self.register_buffer("action_low", torch.tensor(facts["action_low"]), persistent=False)
        self.register_buffer("action_high", torch.tensor(facts["action_high"]), persistent=False)
        width = len(self.encoders) * config.history * maps.width + self.text.width + config.camera_width
        if config.proprio:
            self.proprio = ProprioEncoder(facts["proprio"], config.proprio_parts)
            width += self.proprio.width
        self.observed_width = width

    def embed(self, sentences: Sequence[str]) -> torch.Tensor:
        """Turn sentences into (B, D)."""
        return self.text(sentences)

    def observe(
        self,
        images: Sequence[torch.Tensor],
        sentence_features: torch.Tensor,
        cameras: torch.Tensor,
        proprio: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return (B, observed_width): all that is seen, side by side.

        Args:
            images: Float (B, history, 3, H, W) in [0, 1] of the camera and every extra camera.
            sentence_features: (B, D).
            cameras: (B,) numbers of the camera among `facts["cameras"]`.
            proprio: (B, P) robot state as recorded; needed if the config says so.
        """
        features = [sentence_features, self.camera(cameras)]
        for number, (encoder, frames) in enumerate(zip(self.encoders, images, strict=True)):
            maps = encoder.features(frames.flatten(0, 1))  # (B * history, C, h, w)
            if self.films is not None:
                maps = self.films[number](maps, sentence_features.repeat_interleave(frames.shape[1], dim=0))
            features.append(encoder.project(encoder.pool(maps)).unflatten(0, frames.shape[:2]).flatten(1))
        if self.config.proprio:
            features.append(self.proprio(proprio))
        return torch.cat(features, dim=1)

    def inputs(
        self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return the arguments of `observe` for a batch of `flowbench.agents.training.imitation`, augmented for training."""
        keys = ["camera/rgb", *(f"{name}/rgb" for name in self.config.extra_cameras)]
        images = [to_float(batch[key]) for key in keys]
        if training:
            images = [augment(frames, self.config.augmentation, generator) for frames in images]
        proprio = None
        if self.config.proprio:
            proprio = batch["proprio"][:, -1]
            if training and self.config.proprio_noise:
                proprio = self.proprio.disturbed(proprio, self.config.proprio_noise, generator)
        # Every sentence is embedded once per batch, however many samples have it.
        return images, self.embed(self.sentences)[batch["sentence"]], batch["camera"], proprio

    def possible(self, actions: torch.Tensor) -> torch.Tensor:
        """Clip recorded actions: Meta-World's experts ask for more than the action space allows, and the simulator clips it."""
        return actions.clamp(self.action_low, self.action_high)


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 (..., H, W, 3) into float (..., 3, H, W) in [0, 1]."""
    return images.movedim(-1, -3).float() / 255


class _Film(nn.Module):
    """A sentence scales and shifts every channel; at the start it changes nothing."""

    def __init__(self, text_width: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(text_width, 2 * channels)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, maps: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
        scale, shift = self.affine(sentences)[..., None, None].chunk(2, dim=1)
        return functional.relu(maps * (1 + scale) + shift)
