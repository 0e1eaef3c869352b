"""UniPi's networks: AVDC's video model, and inverse dynamics from two pictures to an action.

AVDC evaluated UniPi (Du et al., arXiv 2302.00111) with its own video model and an inverse dynamics whose code and weights it
does not publish. Known are its inputs and outputs (`IDPolicy`, `experiment/mypolicy.py` of AVDC_experiments): the present
picture, the picture to reach, a one-hot camera; an action, and a logit that the picture is reached. Two ResNet-18 and an MLP
between them are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from flowbench.agents.nets.augment import random_shift
from flowbench.agents.nets.observation import to_float
from flowbench.agents.nets.vision import ImageEncoder, VisionConfig
from flowbench.agents.training.checkpoint import make_config
from flowbench.agents.video_diffusion.clips import VIDEO
from flowbench.agents.video_diffusion.model import VideoDiffusion, VideoDiffusionConfig
from flowbench.agents.video_diffusion.saved import VIDEO_FACT
from flowbench.errors import BadValue

#: Name of its part of the network, besides `VIDEO_PART`.
INVERSE_PART = "inverse"


@dataclass(frozen=True)
class UniPiConfig(VideoDiffusionConfig):
    """Hyper-parameters: those of the video model, and those of the inverse dynamics.

    Attributes:
        video_checkpoint: Folder of a trained video model (`flowbench train --agent avdc`) to take instead of training one;
            then the settings of the video model are those of that checkpoint. "" trains one.
        inverse_size: (width, height) in pixels to which both pictures are enlarged (AVDC: 128 to 224).
        inverse_width_factor: `VisionConfig.width_factor` of both ResNet-18.
        hidden: Widths of the MLP.
        shift_px: As `AugmentConfig`, for both pictures alike.
        reached_within: A picture counts as reached this many steps before it. AVDC's labels are not published.
    """

    video_checkpoint: str = ""
    inverse_size: tuple[int, int] = (224, 224)
    inverse_width_factor: float = 1.0
    hidden: tuple[int, ...] = (512, 512)
    shift_px: int = 0
    reached_within: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.content == "flow":
            raise BadValue("UniPi follows pictures, and content is flow. Choose content=frames or content=changes.")
        if self.reached_within < 0:
            raise BadValue(f"reached_within is {self.reached_within} steps; it is at least 0.")

    @property
    def own_video(self) -> dict[str, Any]:
        """The settings of the video model."""
        return {field.name: getattr(self, field.name) for field in fields(VideoDiffusionConfig)}


class InverseDynamics(nn.Module):
    """Which action leads from one picture to another, and whether it is reached.

    Where an action is one of a few it is classified, and `raw` actions are a logit for each.
    """

    def __init__(self, config: UniPiConfig, facts: Mapping[str, Any]) -> None:
        """Build the network.

        Args:
            config: Hyper-parameters.
            facts: `cameras`, statistics of `actions`, their bounds and choices.
        """
        super().__init__()
        self.config = config
        self.choices = len(facts.get("action_choices", ()))
        self.cameras = len(facts["cameras"])
        vision = VisionConfig(norm="group", width_factor=config.inverse_width_factor)
        self.seen, self.wanted = ImageEncoder(vision), ImageEncoder(vision)
        layers: list[nn.Module] = []
        width = self.seen.width + self.wanted.width + self.cameras
        for hidden in config.hidden:
            layers += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU()]
            width = hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, (self.choices or len(facts["action_low"])) + 1))
        for name, values in (("mean", facts["actions"]["mean"]), ("std", facts["actions"]["std"])):
            self.register_buffer(name, torch.tensor(values), persistent=False)
        self.register_buffer("low", torch.tensor(facts["action_low"]), persistent=False)
        self.register_buffer("high", torch.tensor(facts["action_high"]), persistent=False)

    def forward(
        self, seen: torch.Tensor, wanted: torch.Tensor, cameras: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return raw actions, normalised (B, A) or logits (B, choices), and logits (B,) that the wanted picture is reached.

        Args:
            seen: (B, 3, H, W) in [0, 1], the present.
            wanted: (B, 3, H, W) in [0, 1].
            cameras: (B,) numbers of the camera among `facts["cameras"]`.
        """
        size = self.config.inverse_size[::-1]
        pictures = [functional.interpolate(part, size, mode="bilinear", align_corners=False) for part in (seen, wanted)]
        known = functional.one_hot(cameras, self.cameras).to(seen.dtype)
        answer = self.head(torch.cat([self.seen(pictures[0]), self.wanted(pictures[1]), known], dim=1))
        return answer[:, :-1], answer[:, -1]

    def loss(
        self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the error of raw actions plus the cross-entropy of "reached", for a batch of `PicturePairs`."""
        pictures = to_float(batch[VIDEO])
        if training and self.config.shift_px:
            pictures = random_shift(pictures, self.config.shift_px, generator)
        raw, logit = self(pictures[:, 0], pictures[:, 1], batch["camera"])
        raw, logit = raw.float(), logit.float()
        actions = batch["actions"][:, 0].clamp(self.low, self.high)
        if self.choices:
            error = functional.cross_entropy(raw, actions[:, 0].round().long())
        else:
            error = functional.mse_loss(raw, (actions - self.mean) / self.std)
        reached = functional.binary_cross_entropy_with_logits(logit, batch["reached"])
        with torch.no_grad():
            logged = {
                "action_error": (self.actions(raw) - actions).abs().mean(),
                "reached_correct": ((logit > 0) == (batch["reached"] > 0.5)).float().mean(),
            }
        return error + reached, logged

    def actions(self, raw: torch.Tensor) -> torch.Tensor:
        """Turn raw actions into actions (B, A) within the bounds of the suite."""
        if self.choices:
            return raw.argmax(dim=-1, keepdim=True).float()
        return (raw.float() * self.std + self.mean).clamp(self.low, self.high)


class UniPiNetwork(nn.Module):
    """The video model and the inverse dynamics, trained one after the other."""

    def __init__(self, config: UniPiConfig, facts: Mapping[str, Any]) -> None:
        """Build both; the settings of the video model are in `facts`, because they may be another checkpoint's."""
        super().__init__()
        self.video = VideoDiffusion(make_config(VideoDiffusionConfig, facts[VIDEO_FACT]), facts)
        self.inverse = InverseDynamics(config, facts)
