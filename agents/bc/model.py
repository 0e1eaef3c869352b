"""The network of behaviour cloning: one ResNet per camera, text, camera identity, an MLP, and a head for action chunks.

AVDC's BC-Scratch is a ResNet-18 on one image, CLIP text and an MLP (arXiv 2310.08576, section 4.1); optimiser, epochs and
loss are not published. What goes beyond it (chunks, proprioception, several cameras, frame history, heads) is off unless
the config asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from flowbench.agents.nets.augment import AugmentConfig, augment
from flowbench.agents.nets.text import make_text_encoder
from flowbench.agents.nets.vision import ImageEncoder, VisionConfig
from flowbench.errors import BadValue, unknown_name

HEADS = ("l1", "mse", "gmm", "discrete")
#: A mode of the mixture is at least this wide, in standard deviations of the actions (robomimic's `GMMActorNetwork`:
#: min_std 1e-4 on actions in [-1, 1]; wider here, because ours are learned from tens of demonstrations).
MIN_STD = 0.01


@dataclass(frozen=True)
class BCConfig:
    """Hyper-parameters of behaviour cloning.

    Attributes:
        camera: The camera to look through, where there are extra cameras; "" takes every camera of the data in turn, with
            an identity, so that one network serves all of them.
        extra_cameras: Cameras seen at the same time, e.g. a wrist camera.
        crop: (width, height) cut out of the middle of a frame first; () keeps the whole frame.
        image_size: (width, height) in pixels that the network sees.
        history: Number of frames: the current one and those of the agent's previous looks.
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
        hidden: Widths of the MLP.
        dropout: In the MLP.
        chunk: Number of actions that are predicted at a look.
        execute: Number of them that are executed before the next look; the step between frames of the history.
        ensemble: ACT's temporal ensembling: at every step, the mean of all predictions for it, weighted by
            exp(-ensemble * age), oldest first (arXiv 2304.13705, section 4.2: 0.01); needs execute 1. 0 is off.
        head: `l1` and `mse` regress, `gmm` is a mixture of Gaussians per step, `discrete` classifies a single component
            of whole numbers.
        modes: Of the mixture.
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
    hidden: tuple[int, ...] = (512, 512)
    dropout: float = 0.0
    chunk: int = 1
    execute: int = 1
    ensemble: float = 0.0
    head: Literal["l1", "mse", "gmm", "discrete"] = "mse"
    modes: int = 5
    shift_px: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    proprio_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise unknown_name("head", self.head, HEADS, "Agent bc")
        if not 1 <= self.execute <= self.chunk:
            raise BadValue(f"execute is {self.execute}; it is from 1 to chunk, which is {self.chunk}.")
        if self.ensemble and (self.execute != 1 or self.head == "discrete"):
            raise BadValue(
                f"ensemble averages what was predicted for a step at earlier looks, so it needs execute=1 (it is "
                f"{self.execute}) and a head other than discrete (it is {self.head})."
            )
        if self.crop and len(self.crop) != 2:
            raise BadValue(f"crop is {list(self.crop)}; it is [width, height] in pixels, or [] for the whole frame.")
        if self.history < 1:
            raise BadValue(f"history is {self.history}; it is at least 1, the current frame.")

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


class BCNetwork(nn.Module):
    """Frames, a sentence, a camera and the robot's state to a chunk of actions."""

    def __init__(self, config: BCConfig, facts: Mapping[str, Any]) -> None:
        """Build the network.

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
            nn.ModuleList(_Film(self.text.width, _channels(maps)) for _ in self.encoders) if config.film else None
        )
        self.register_buffer("action_mean", torch.tensor(facts["actions"]["mean"]), persistent=False)
        self.register_buffer("action_std", torch.tensor(facts["actions"]["std"]), persistent=False)
        self.register_buffer("action_low", torch.tensor(facts["action_low"]), persistent=False)
        self.register_buffer("action_high", torch.tensor(facts["action_high"]), persistent=False)
        width = len(self.encoders) * config.history * maps.width + self.text.width + config.camera_width
        if config.proprio:
            parts = list(config.proprio_parts or range(len(facts["proprio"]["mean"])))
            self.register_buffer("proprio_parts", torch.tensor(parts), persistent=False)
            self.register_buffer("proprio_mean", torch.tensor(facts["proprio"]["mean"])[parts], persistent=False)
            self.register_buffer("proprio_std", torch.tensor(facts["proprio"]["std"])[parts], persistent=False)
            self.proprio = nn.Sequential(nn.Linear(len(parts), 64), nn.ReLU())
            width += 64
        layers: list[nn.Module] = []
        for hidden in config.hidden:
            layers += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(config.dropout)]
            width = hidden
        self.trunk = nn.Sequential(*layers)
        self.head = make_head(config, width, facts)

    def forward(
        self,
        images: Sequence[torch.Tensor],
        sentence_features: torch.Tensor,
        cameras: torch.Tensor,
        proprio: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return what the head makes of each sample.

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
            features.append(self.proprio((proprio[:, self.proprio_parts] - self.proprio_mean) / self.proprio_std))
        return self.head(self.trunk(torch.cat(features, dim=1)))

    def loss(
        self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the mean loss over the actions of a batch of `flowbench.agents.bc.recipe`, and numbers to log."""
        keys = ["camera/rgb", *(f"{name}/rgb" for name in self.config.extra_cameras)]
        images = [to_float(batch[key]) for key in keys]
        if training:
            images = [augment(frames, self.config.augmentation, generator) for frames in images]
        proprio = None
        if self.config.proprio:
            proprio = batch["proprio"][:, -1]
            if training and self.config.proprio_noise:
                std = torch.zeros_like(proprio)
                std[:, self.proprio_parts] = self.config.proprio_noise * self.proprio_std
                proprio = proprio + std * torch.randn(proprio.shape, generator=generator, device=proprio.device)
        # Every sentence is embedded once per batch, however many samples have it.
        sentences = self.text(self.sentences)[batch["sentence"]]
        raw = self(images, sentences, batch["camera"], proprio)
        # Meta-World's experts ask for more than the action space allows, and the simulator clips it.
        actions = batch["actions"].clamp(self.action_low, self.action_high)
        normalised = (actions - self.action_mean) / self.action_std
        valid = ~batch["actions_is_pad"]
        loss = (self.head.loss(raw, normalised, actions) * valid).sum() / valid.sum()
        with torch.no_grad():
            error = ((self.actions(raw) - actions).abs().mean(-1) * valid).sum() / valid.sum()
        return loss, {"action_error": error}

    def actions(self, raw: torch.Tensor) -> torch.Tensor:
        """Turn what `forward` returned into (B, T, A) actions within the bounds of the suite."""
        chosen = self.head.choose(raw.float())
        if self.config.head != "discrete":
            chosen = chosen * self.action_std + self.action_mean
        return chosen.clamp(self.action_low, self.action_high)


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


class RegressionHead(nn.Module):
    """One chunk of actions."""

    def __init__(self, width: int, chunk: int, size: int, kind: str) -> None:
        super().__init__()
        self.linear = nn.Linear(width, chunk * size)
        self._shape, self._kind = (chunk, size), kind

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, T, A) normalised actions."""
        return self.linear(features).unflatten(1, self._shape)

    def loss(self, raw: torch.Tensor, normalised: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the (B, T) mean loss over components."""
        function = functional.l1_loss if self._kind == "l1" else functional.mse_loss
        return function(raw.float(), normalised, reduction="none").mean(-1)

    def choose(self, raw: torch.Tensor) -> torch.Tensor:
        """Return (B, T, A) normalised actions."""
        return raw


class MixtureHead(nn.Module):
    """A mixture of Gaussians with diagonal covariance for every step; the most likely mode is executed.

    After robomimic's `GMMActorNetwork`, which LIBERO's BC uses with 5 modes.
    """

    def __init__(self, width: int, chunk: int, size: int, modes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, chunk * modes * (2 * size + 1))
        self._shape = (chunk, modes, 2 * size + 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, T, modes, 2 A + 1): means, widths before softplus, and a logit."""
        return self.linear(features).unflatten(1, self._shape)

    def loss(self, raw: torch.Tensor, normalised: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the (B, T) negative log-likelihood per component."""
        size = normalised.shape[-1]
        mean, spread, logit = raw.float().split([size, size, 1], dim=-1)
        components = torch.distributions.Independent(
            torch.distributions.Normal(mean, functional.softplus(spread) + MIN_STD), 1
        )
        mixture = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(logits=logit.squeeze(-1)), components
        )
        return -mixture.log_prob(normalised) / size

    def choose(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the (B, T, A) mean of the most likely mode."""
        size = (raw.shape[-1] - 1) // 2
        mode = raw[..., -1].argmax(dim=-1)[..., None, None].expand(*raw.shape[:2], 1, size)
        return raw[..., :size].gather(2, mode).squeeze(2)


class DiscreteHead(nn.Module):
    """One of the whole numbers that a single action component can be, for navigation."""

    def __init__(self, width: int, chunk: int, low: int, high: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, chunk * (high - low + 1))
        self._shape, self._low = (chunk, high - low + 1), low

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, T, number of choices) logits."""
        return self.linear(features).unflatten(1, self._shape)

    def loss(self, raw: torch.Tensor, normalised: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the (B, T) cross-entropy."""
        wanted = actions.squeeze(-1).round().long() - self._low
        return functional.cross_entropy(raw.float().flatten(0, 1), wanted.flatten(), reduction="none").view(
            wanted.shape
        )

    def choose(self, raw: torch.Tensor) -> torch.Tensor:
        """Return (B, T, 1) most likely actions."""
        return (raw.argmax(dim=-1, keepdim=True) + self._low).to(raw.dtype)


def make_head(config: BCConfig, width: int, facts: Mapping[str, Any]) -> RegressionHead | MixtureHead | DiscreteHead:
    """Build the head that the config names.

    Raises:
        BadValue: If a discrete head is asked for actions that are not one component of whole numbers.
    """
    low, high = facts["action_low"], facts["action_high"]
    if config.head == "discrete":
        if len(low) != 1 or low[0] != round(low[0]) or high[0] != round(high[0]):
            raise BadValue(
                f"head=discrete chooses one whole number, and the actions of {facts['suite']} are "
                f"({', '.join(facts['action_labels'])}) from {low} to {high}. Choose head=l1, mse or gmm."
            )
        return DiscreteHead(width, config.chunk, round(low[0]), round(high[0]))
    if config.head == "gmm":
        return MixtureHead(width, config.chunk, len(low), config.modes)
    return RegressionHead(width, config.chunk, len(low), config.head)


def _channels(encoder: ImageEncoder) -> int:
    """Return the number of channels of an encoder's last feature map."""
    last = encoder.get_submodule(f"layer{encoder.config.stages}")[-1]
    convolutions = [module for module in last.modules() if isinstance(module, nn.Conv2d)]
    return max(convolution.out_channels for convolution in convolutions)
