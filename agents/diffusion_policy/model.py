"""The network of the diffusion policy: what is seen becomes the condition under which a U-Net denoises actions.

AVDC's baseline (arXiv 2310.08576, appendix; `diffusion_policy_baseline/unet.py` of AVDC_experiments): two frames, each
through a ResNet-18 with group norm and spatial softmax to 512 numbers, CLIP's tokens through a Perceiver to 512 more, and a
U-Net over 16 actions.

Departures, besides those in `noise` and `ActionRange`:
- The camera's identity belongs to the condition: one network serves three cameras. Whether AVDC's baseline was told, its
  code does not say.
- Images keep their aspect; AVDC's transform gives (320, 240) as (height, width) and so squeezes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from flowbench.agents.diffusion_policy.noise import TARGETS, denoise, loss_weights, make_scheduler, noised
from flowbench.agents.diffusion_policy.unet import ConditionalUNet1D
from flowbench.agents.nets.observation import ObservationConfig, ObservationNetwork
from flowbench.agents.nets.perceiver import AVDC_PERCEIVER, PerceiverResampler
from flowbench.errors import BadValue, unknown_name

#: Components that hardly ever change are not blown up by normalising them: half of this range is one.
MIN_RANGE = 0.02


@dataclass(frozen=True)
class DiffusionPolicyConfig(ObservationConfig):
    """Hyper-parameters of a diffusion policy, besides what it sees.

    Attributes:
        history: Number of frames of successive steps.
        chunk: Number of actions that are drawn at a look.
        execute: Number of them that are executed before the next look.
        perceiver: Whether a Perceiver resampler condenses the sentence's tokens; else the encoder's own vector is taken.
        widths: Channels of the U-Net at full, half, quarter ... length.
        kernel: Steps that its convolutions see.
        step_width: Width of the embedding of the diffusion step.
        target: What it predicts: `velocity` (Salimans and Ho 2022) or `epsilon`.
        train_steps: Diffusion steps of training.
        sample_steps: DDIM steps of a look.
        min_snr: The loss of a step is weighted by its signal-to-noise ratio up to this (Hang et al. 2023); 0 is off.
    """

    history: int = 2
    chunk: int = 16
    execute: int = 8
    perceiver: bool = False
    widths: tuple[int, ...] = (256, 512, 1024)
    kernel: int = 3
    step_width: int = 256
    target: str = "velocity"
    train_steps: int = 100
    sample_steps: int = 10
    min_snr: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target not in TARGETS:
            raise unknown_name("target", self.target, TARGETS, "A diffusion policy")
        factor = 2 ** (len(self.widths) - 1)
        if self.chunk % factor:
            raise BadValue(
                f"chunk is {self.chunk}; a U-Net of {len(self.widths)} widths takes a multiple of {factor} actions."
            )
        if not 1 <= self.sample_steps <= self.train_steps:
            raise BadValue(
                f"sample_steps is {self.sample_steps}; it is from 1 to train_steps, which is {self.train_steps}."
            )


class DiffusionPolicyNetwork(ObservationNetwork):
    """Frames, a sentence, a camera and the robot's state to drawn chunks of actions."""

    def __init__(self, config: DiffusionPolicyConfig, facts: Mapping[str, Any]) -> None:
        """Build the network; arguments as `ObservationNetwork`."""
        super().__init__(config, facts)
        self.resampler = PerceiverResampler(self.text.width, AVDC_PERCEIVER) if config.perceiver else None
        self.range = ActionRange(facts["actions"]["min"], facts["actions"]["max"])
        self.unet = ConditionalUNet1D(
            len(facts["action_low"]),
            self.observed_width,
            config.widths,
            kernel=config.kernel,
            step_width=config.step_width,
        )
        self.scheduler = make_scheduler(config.train_steps, config.target)

    def embed(self, sentences: Sequence[str]) -> torch.Tensor:
        """Turn sentences into (B, D)."""
        if self.resampler is None:
            return super().embed(sentences)
        # Departure: AVDC gives no mask, so that padding is attended to and a sentence's embedding depends on the length of
        # the others in its batch.
        return self.resampler(*self.text.tokens(sentences)).mean(dim=1)

    def forward(self, noisy: torch.Tensor, steps: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Predict the target of (B, T, A) noisy actions at (B,) steps, given what `observe` returned."""
        return self.unet(noisy, steps, condition)

    def loss(self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator) -> torch.Tensor:
        """Return the weighted mean squared error of the target.

        What follows the end of a demonstration counts, as in Diffusion Policy: to repeat the last action.
        """
        condition = self.observe(*self.inputs(batch, training, generator))
        actions = self.range.normalise(self.possible(batch["actions"]))
        noisy, steps, target = noised(self.scheduler, actions, generator)
        errors = (self(noisy, steps, condition).float() - target).square().mean(dim=(1, 2))
        return (errors * loss_weights(self.scheduler, steps, self.config.min_snr)).mean()

    def draw(self, condition: torch.Tensor, noise: torch.Tensor, sample_steps: int) -> torch.Tensor:
        """Turn (B, T, A) Gaussian noise into actions within the suite's bounds, given what `observe` returned."""

        def network(noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
            return self(noisy, steps, condition).float()

        return self.possible(self.range.restore(denoise(self.scheduler, network, noise, sample_steps)))


class ActionRange(nn.Module):
    """Actions to [-1, 1] and back, by the smallest and largest value of each component in the training data.

    Departure: AVDC's wrapper maps x to 2 x - 1, made for images in [0, 1]; actions in [-1, 1] become [-3, 1], which its
    sampler with clamping then cuts to actions in [0, 1].
    """

    def __init__(self, smallest: Sequence[float], largest: Sequence[float]) -> None:
        super().__init__()
        low, high = torch.tensor(smallest), torch.tensor(largest)
        # Not in the checkpoint's weights: its facts have them.
        self.register_buffer("middle", (low + high) / 2, persistent=False)
        self.register_buffer("half_range", ((high - low) / 2).clamp(min=MIN_RANGE / 2), persistent=False)

    def normalise(self, actions: torch.Tensor) -> torch.Tensor:
        """Map (..., A) recorded actions to [-1, 1]; held-out ones beyond the range go to its end, as far as can be drawn."""
        return ((actions - self.middle) / self.half_range).clamp(-1, 1)

    def restore(self, normalised: torch.Tensor) -> torch.Tensor:
        """Map [-1, 1] back to (..., A) actions."""
        return normalised * self.half_range + self.middle
