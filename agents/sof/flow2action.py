"""Stage 3: imagined flow to actions, learned from demonstrations with actions.

Confirmed (arXiv 2512.20052): a small ResNet on the predicted flow and the current frame; the instruction is not among its
inputs, so whatever the robot does, it does because of the plan. Chunks of actions, the gripper's own head (fingers that stay
closed do not flow), and proprioception (off in the paper's preset) are ours. `act_from="skill"` is the paper's ablation
Skill2Action: the tokens in place of the flow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from flowbench.agents.nets.proprio import ProprioEncoder
from flowbench.agents.nets.vision import ImageEncoder, VisionConfig
from flowbench.agents.sof.config import SofConfig


class Flow2Action(nn.Module):
    """The current frame and a plan to a chunk of actions."""

    def __init__(self, config: SofConfig, facts: Mapping[str, Any]) -> None:
        """Build it, untrained.

        Args:
            config: Hyper-parameters.
            facts: `cameras`, bounds of the actions, statistics of `actions` and `proprio`, and `gripper_values`.
        """
        super().__init__()
        self.config = config
        self._from_flow = config.act_from == "flow"
        for name, values in (
            ("action_low", facts["action_low"]),
            ("action_high", facts["action_high"]),
            ("action_mean", facts["actions"]["mean"]),
            ("action_std", facts["actions"]["std"]),
        ):
            self.register_buffer(name, torch.tensor(values), persistent=False)
        #: The two values of a gripper that is either open or closed; empty where it is a number.
        self.gripper_values: list[float] = facts["gripper_values"]
        planned = config.channels * len(config.plan_frames) if self._from_flow else 0
        self.encoder = FlowImageEncoder(config.vision, planned)
        self.camera = nn.Embedding(len(facts["cameras"]), config.camera_width)
        self.extra = nn.ModuleList(ImageEncoder(config.vision) for _ in config.extra_cameras)
        width = self.encoder.width * (1 + len(self.extra)) + config.camera_width
        if self._from_flow:
            self.summary = nn.Sequential(
                nn.Conv2d(planned, 32, 3, stride=2, padding=1),
                nn.GroupNorm(4, 32),
                nn.ReLU(),
                nn.Conv2d(32, 64, 3, stride=2, padding=1),
                nn.GroupNorm(4, 64),
                nn.ReLU(),
            )
            width += 64
        else:
            self.skill = nn.Linear(config.tokens * config.skill_width, 128)
            width += 128
        if config.proprio:
            self.proprio = ProprioEncoder(facts["proprio"], config.proprio_parts)
            width += self.proprio.width
        layers: list[nn.Module] = []
        for hidden in config.hidden:
            layers += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU()]
            width = hidden
        self.trunk = nn.Sequential(*layers)
        self.motion = nn.Linear(width, config.chunk * (len(facts["action_low"]) - 1))
        self.gripper = nn.Linear(width, config.chunk)

    def forward(
        self,
        frames: torch.Tensor,
        plan: torch.Tensor,
        cameras: torch.Tensor,
        proprio: torch.Tensor | None = None,
        extra: Sequence[torch.Tensor] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return normalised motion (B, T, A - 1), and of the gripper (B, T) a normalised value or a logit.

        Args:
            frames: Float (B, 3, H, W) in [0, 1].
            plan: Flow (B, K, C, h, w) in the unit of `SkillAutoencoder.scale`, or codes (B, n, D).
            cameras: (B,) numbers among `facts["cameras"]`.
            proprio: (B, P) robot state as recorded; needed if the config says so.
            extra: Frames (B, 3, H, W) of every extra camera.
        """
        if self._from_flow:
            flow = plan.flatten(1, 2)
            maps = self.encoder.features(frames, flow)
            read = self.summary(flow).mean(dim=(-2, -1))
        else:
            maps = self.encoder.features(frames, None)
            read = functional.relu(self.skill(plan.flatten(1)))
        features = [self.encoder.project(self.encoder.pool(maps)), self.camera(cameras), read]
        features += [encoder(seen) for encoder, seen in zip(self.extra, extra, strict=True)]
        if self.config.proprio:
            features.append(self.proprio(proprio))
        hidden = self.trunk(torch.cat(features, dim=1))
        return self.motion(hidden).unflatten(1, (self.config.chunk, -1)), self.gripper(hidden)

    def loss(
        self, motion: torch.Tensor, gripper: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean losses of motion and gripper of actions (B, T, A) within the bounds, where `valid` (B, T)."""
        wanted = (actions - self.action_mean) / self.action_std
        of_motion = (motion.float() - wanted[..., :-1]).abs().mean(-1)
        if self.gripper_values:
            closed = (actions[..., -1] > sum(self.gripper_values) / 2).float()
            of_gripper = functional.binary_cross_entropy_with_logits(gripper.float(), closed, reduction="none")
        else:
            of_gripper = (gripper.float() - wanted[..., -1]).abs()
        count = valid.sum().clamp(min=1)
        return (of_motion * valid).sum() / count, (of_gripper * valid).sum() / count

    def actions(self, motion: torch.Tensor, gripper: torch.Tensor) -> torch.Tensor:
        """Turn what `forward` returned into (B, T, A) actions within the bounds of the suite."""
        if self.gripper_values:
            low, high = self.gripper_values
            fingers = torch.where(gripper.float() > 0, high, low)
        else:
            fingers = gripper.float() * self.action_std[-1] + self.action_mean[-1]
        moves = motion.float() * self.action_std[:-1] + self.action_mean[:-1]
        return torch.cat([moves, fingers[..., None]], dim=-1).clamp(self.action_low, self.action_high)

    def possible(self, actions: torch.Tensor) -> torch.Tensor:
        """Clip recorded actions, as the simulator does."""
        return actions.clamp(self.action_low, self.action_high)


class FlowImageEncoder(ImageEncoder):
    """A ResNet on a frame, to whose first feature map that of the planned flow is added."""

    def __init__(self, config: VisionConfig, planned: int) -> None:
        """Build it.

        Args:
            config: Of the ResNet.
            planned: Channels of the plan; 0 for none.
        """
        super().__init__(config)
        channels = self.conv1.out_channels
        self.flow = nn.Conv2d(planned, channels, 3, padding=1) if planned else None

    def features(self, images: torch.Tensor, flow: torch.Tensor | None = None) -> torch.Tensor:
        """Return the last feature map of images (B, 3, H, W) in [0, 1] and the plan (B, planned, h, w)."""
        maps = self.stem(images)
        if flow is not None and self.flow is not None:
            planned = self.flow(flow)
            if planned.shape[-2:] != maps.shape[-2:]:
                planned = functional.interpolate(planned, maps.shape[-2:], mode="bilinear", antialias=True)
            maps = maps + planned
        return self.stages(maps)
