"""The three networks of SOF as one, with what is worked out once and kept while the skills stand still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from flowbench.agents.nets.augment import AugmentConfig, augment, random_shift
from flowbench.agents.nets.observation import to_float
from flowbench.agents.sof.config import SofConfig
from flowbench.agents.sof.flow2action import Flow2Action
from flowbench.agents.sof.policy import SkillPolicy
from flowbench.agents.sof.segments import CONTENT, NUMBER, VIDEO
from flowbench.agents.sof.skills import SkillAutoencoder
from flowbench.agents.training.recipe import Moment

SKILLS, POLICY, FLOW2ACTION = STAGES = ("skills", "policy", "flow2action")
#: How much smaller than the image the plan is that Flow2Action sees, as its ResNet's first map; smaller flow stays as it is.
PLAN_SHARE = 4
#: Share of the components of a code that `token_noise` puts off by one level.
NOISY_COMPONENTS = 0.3


class SofNetwork(nn.Module):
    """Skills, policy and Flow2Action."""

    def __init__(self, config: SofConfig, facts: Mapping[str, Any]) -> None:
        """Build all three, untrained.

        Args:
            config: Hyper-parameters.
            facts: What the recipe found in the data.
        """
        super().__init__()
        self.config = config
        self.skills = SkillAutoencoder(config, facts["content_scale"])
        self.policy = SkillPolicy(config, facts, self.skills.codebook_size)
        self.flow2action = Flow2Action(config, facts)
        #: Tokens and plans of training samples, by stage, split and number: the skills stand still while they are used.
        self._kept: dict[tuple[str, bool, int], torch.Tensor] = {}

    # --- what the agent does

    @property
    def sentences(self) -> list[str]:
        """The instructions of the training data."""
        return self.policy.eyes.sentences

    def embed(self, sentences: Sequence[str]) -> torch.Tensor:
        """Turn sentences into (B, D)."""
        return self.policy.eyes.embed(sentences)

    def plan(self, tokens: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Return what Flow2Action sees of a plan: flow (B, K, C, h / 2, w / 2) in units of its scale, or codes (B, n, D).

        Args:
            tokens: (B, n).
            frames: Float (B, 3, H, W) in [0, 1].
        """
        if self.config.act_from == "skill":
            return self.skills.codes(tokens)
        return self.shown(self.skills.decode(tokens, frames, self.config.plan_frames))

    def shown(self, content: torch.Tensor) -> torch.Tensor:
        """Return decoded content (B, K, C, h, w) as Flow2Action sees it."""
        smaller = max(1, PLAN_SHARE * self.config.flow_size[0] // self.config.image_size[0])
        pooled = functional.avg_pool2d(content.flatten(0, 1), smaller)
        return pooled.unflatten(0, content.shape[:2]) / self.skills.scale

    # --- what the stages learn

    def loss(self, batch: Mapping[str, torch.Tensor], moment: Moment) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a moment's stage on a batch of `SkillBlocks`, and numbers to log."""
        if moment.stage == SKILLS:
            return self._skills_loss(batch, moment)
        # Frozen: without dropout, whatever mode the whole is in.
        self.skills.eval()
        if moment.stage == POLICY:
            return self._policy_loss(batch, moment.training, moment.generator)
        return self._flow2action_loss(batch, moment.training, moment.generator)

    def _skills_loss(
        self, batch: Mapping[str, torch.Tensor], moment: Moment
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        config, frames, content = self.config, to_float(batch[VIDEO][:, 0]), batch[CONTENT].float()
        training, generator = moment.training, moment.generator
        if training:
            frames, content = shifted_alike(frames, content, config.shift_px, generator)
            frames = augment(frames, self._colours, generator)
        steps = self._decoded_steps(len(frames), training, generator)
        made = self.skills.reconstruct(content, frames, steps)
        wanted = content.gather(1, steps[:, :, None, None, None].expand(-1, -1, *content.shape[2:]))
        error = (made - wanted) / self.skills.scale
        # QueST's loss is L1, for actions. Flow is zero at most pixels, and zero is then what L1 learns and stays at. So squares
        # come first; they alone leave edges blurred and still things flickering.
        progress = min(1.0, moment.step / max(1, config.l1_steps)) if training else 1.0
        loss = error.square().mean() + max(0.1, progress) * error.abs().mean()
        with torch.no_grad():
            error, still = end_point_errors(made, wanted)
        return loss, {"error_over_still": error.sum() / still.sum().clamp(min=1e-9)}

    def _policy_loss(
        self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        tokens = self._tokens(batch, POLICY, training)
        policy = self.policy
        logits = policy(policy.context(*policy.eyes.inputs(batch, training, generator)), tokens).float()
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
        with torch.no_grad():
            right = (logits.argmax(-1) == tokens).float()
        return loss, {"right": right.mean(), "right_first": right[:, 0].mean()}

    def _flow2action_loss(
        self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        config, network, device = self.config, self.flow2action, batch[VIDEO].device
        frames = to_float(batch[VIDEO][:, 0])
        tokens = self._tokens(batch, FLOW2ACTION, training)
        plan = self._plans(batch, tokens, frames, training)
        extra = [to_float(batch[f"{camera}/rgb"][:, 0]) for camera in config.extra_cameras]
        if training:
            extra = [augment(seen, config.augmentation, generator) for seen in extra]
            noisy = torch.rand(len(plan), generator=generator, device=device) < config.token_noise
            if noisy.any():
                wrong = self.wrong_tokens(tokens[noisy], generator)
                plan[noisy] = self.plan(wrong, frames[noisy]).to(plan.dtype)
            blind = torch.rand(len(plan), generator=generator, device=device) < config.plan_dropout
            plan[blind] = 0
            if config.act_from == "flow":
                frames, plan = shifted_alike(frames, plan, config.shift_px, generator)
                frames = random_shift(frames, frames.shape[-1] // plan.shape[-1] // 2, generator)
            elif config.shift_px:
                frames = random_shift(frames, config.shift_px, generator)
            frames = augment(frames, self._colours, generator)
        proprio = None
        if config.proprio:
            proprio = batch["proprio"][:, -1]
            if training and config.proprio_noise:
                proprio = network.proprio.disturbed(proprio, config.proprio_noise, generator)
        made = network(frames, plan, batch["camera"], proprio, extra)
        actions, valid = network.possible(batch["actions"]), ~batch["actions_is_pad"]
        motion, gripper = network.loss(*made, actions, valid)
        with torch.no_grad():
            error = ((network.actions(*made) - actions).abs().mean(-1) * valid).sum() / valid.sum()
        # Weighted by their number of components, as if they were one head.
        share = 1 / actions.shape[-1]
        return (1 - share) * motion + share * gripper, {
            "motion": motion.detach(),
            "gripper": gripper.detach(),
            "action_error": error,
        }

    def wrong_tokens(self, tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return tokens whose codes are off by one level here and there: what a policy that nearly knows would choose."""
        levels = torch.tensor(self.config.levels, device=tokens.device)
        # FSQ's numbering: mixed radix, the first component counts fastest (pinned by a test).
        basis = torch.cumprod(torch.cat([torch.ones_like(levels[:1]), levels[:-1]]), 0)
        digits = tokens[..., None] // basis % levels
        off = torch.rand(digits.shape, generator=generator, device=tokens.device) < NOISY_COMPONENTS
        sign = torch.randint(0, 2, digits.shape, generator=generator, device=tokens.device) * 2 - 1
        digits = (digits + off * sign).clamp(min=0).minimum(levels - 1)
        return (digits * basis).sum(-1)

    @property
    def _colours(self) -> AugmentConfig:
        config = self.config
        return AugmentConfig(0, config.brightness, config.contrast, config.saturation, config.hue)

    def _decoded_steps(self, count: int, training: bool, generator: torch.Generator) -> torch.Tensor:
        """Return the (B, K) steps that are decoded: drawn anew for every sample, or evenly spaced."""
        horizon, wanted, device = self.config.horizon, self.config.decoded_frames, self.skills.scale.device
        if not wanted or wanted >= horizon:
            return torch.arange(horizon, device=device).expand(count, -1)
        if not training:
            return torch.linspace(0, horizon - 1, wanted, device=device).long().expand(count, -1)
        return torch.rand(count, horizon, generator=generator, device=device).argsort(1)[:, :wanted]

    @torch.no_grad()
    def _tokens(self, batch: Mapping[str, torch.Tensor], stage: str, training: bool) -> torch.Tensor:
        """Return the (B, n) tokens of a batch."""
        scale = self.skills.scale

        def work_out(row: int) -> torch.Tensor:
            # In float32 and one by one, so that a token depends on nothing but its block.
            with torch.autocast(scale.device.type, enabled=False):
                return self.skills.tokens(batch[CONTENT][row : row + 1].float())[0]

        return self._keep(batch, ("tokens", stage), training, work_out)

    @torch.no_grad()
    def _plans(
        self, batch: Mapping[str, torch.Tensor], tokens: torch.Tensor, frames: torch.Tensor, training: bool
    ) -> torch.Tensor:
        """Return the plans of a batch's own tokens, as `plan` gives them."""

        def work_out(row: int) -> torch.Tensor:
            return self.plan(tokens[row : row + 1], frames[row : row + 1])[0].half()

        return self._keep(batch, ("plans", FLOW2ACTION), training, work_out).float()

    def _keep(self, batch: Mapping[str, torch.Tensor], name: Any, training: bool, work_out: Any) -> torch.Tensor:
        numbers: Sequence[int] = batch[NUMBER].tolist()
        for row, number in enumerate(numbers):
            if (name, training, number) not in self._kept:
                self._kept[name, training, number] = work_out(row)
        # Autocast on a CPU knows no float16, in which plans are kept.
        with torch.autocast(batch[NUMBER].device.type, enabled=False):
            return torch.stack([self._kept[name, training, number] for number in numbers])


def shifted_alike(
    frames: torch.Tensor, content: torch.Tensor, most_px: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift frames (B, 3, H, W) and what belongs to them (B, K, C, h, w) by the same draw, by whole pixels of the smaller."""
    ratio = frames.shape[-1] // content.shape[-1]
    most = most_px // ratio
    if not most:
        return frames, content
    offsets = torch.randint(0, 2 * most + 1, (len(frames), 2), generator=generator, device=frames.device).tolist()
    height, width = content.shape[-2:]
    padded = functional.pad(content.flatten(1, 2), (most,) * 4, mode="replicate")
    padded_frames = functional.pad(frames, (most * ratio,) * 4, mode="replicate")
    moved = torch.stack([p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, offsets, strict=True)])
    seen = torch.stack(
        [
            p[:, y * ratio : (y + height) * ratio, x * ratio : (x + width) * ratio]
            for p, (y, x) in zip(padded_frames, offsets, strict=True)
        ]
    )
    return seen, moved.unflatten(1, content.shape[1:3])


def end_point_errors(made: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the length of the error and of the truth at every pixel, each (B, K, h, w), of content (B, K, C, h, w)."""
    # Not `norm`, which takes ten times as long over a short axis.
    return (made - wanted).square().sum(2).sqrt(), wanted.square().sum(2).sqrt()
