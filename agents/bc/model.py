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

from flowbench.agents.nets.observation import ObservationConfig, ObservationNetwork
from flowbench.errors import BadValue, unknown_name

HEADS = ("l1", "mse", "gmm")
#: A mode of the mixture is at least this wide, in standard deviations of the actions (robomimic's `GMMActorNetwork`:
#: min_std 1e-4 on actions in [-1, 1]; wider here, because ours are learned from tens of demonstrations).
MIN_STD = 0.01


@dataclass(frozen=True)
class BCConfig(ObservationConfig):
    """Hyper-parameters of behaviour cloning, besides what it sees.

    Attributes:
        hidden: Widths of the MLP.
        dropout: In the MLP.
        ensemble: ACT's temporal ensembling: at every step, the mean of all predictions for it, weighted by
            exp(-ensemble * age), oldest first (arXiv 2304.13705, section 4.2: 0.01); needs execute 1. 0 is off.
        head: `l1` and `mse` regress, `gmm` is a mixture of Gaussians per step. Where a suite's actions are one of a few
            choices, they are classified instead, whatever this says.
        modes: Of the mixture.
    """

    hidden: tuple[int, ...] = (512, 512)
    dropout: float = 0.0
    ensemble: float = 0.0
    head: Literal["l1", "mse", "gmm"] = "mse"
    modes: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in HEADS:
            raise unknown_name("head", self.head, HEADS, "Agent bc")
        if self.ensemble and self.execute != 1:
            raise BadValue(
                f"ensemble averages what was predicted for a step at earlier looks, so it needs execute=1; it is {self.execute}."
            )

    @property
    def frame_step(self) -> int:
        """Steps between two frames of the history: those of the agent's looks."""
        return self.execute


class BCNetwork(ObservationNetwork):
    """Frames, a sentence, a camera and the robot's state to a chunk of actions."""

    def __init__(self, config: BCConfig, facts: Mapping[str, Any]) -> None:
        """Build the network; arguments as `ObservationNetwork`."""
        super().__init__(config, facts)
        self.register_buffer("action_mean", torch.tensor(facts["actions"]["mean"]), persistent=False)
        self.register_buffer("action_std", torch.tensor(facts["actions"]["std"]), persistent=False)
        width = self.observed_width
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
        """Return what the head makes of each sample; arguments as `observe`."""
        return self.head(self.trunk(self.observe(images, sentence_features, cameras, proprio)))

    def loss(
        self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the mean loss over the actions of a batch of `ImitationRecipe.data`, and numbers to log."""
        raw = self(*self.inputs(batch, training, generator))
        actions = self.possible(batch["actions"])
        normalised = (actions - self.action_mean) / self.action_std
        valid = ~batch["actions_is_pad"]
        loss = (self.head.loss(raw, normalised, actions) * valid).sum() / valid.sum()
        with torch.no_grad():
            error = ((self.actions(raw) - actions).abs().mean(-1) * valid).sum() / valid.sum()
        return loss, {"action_error": error}

    def actions(self, raw: torch.Tensor) -> torch.Tensor:
        """Turn what `forward` returned into (B, T, A) actions within the bounds of the suite."""
        chosen = self.head.choose(raw.float())
        if not isinstance(self.head, ChoiceHead):
            chosen = chosen * self.action_std + self.action_mean
        return chosen.clamp(self.action_low, self.action_high)


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


class ChoiceHead(nn.Module):
    """One of a few choices, for navigation."""

    def __init__(self, width: int, chunk: int, choices: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, chunk * choices)
        self._shape = (chunk, choices)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, T, number of choices) logits."""
        return self.linear(features).unflatten(1, self._shape)

    def loss(self, raw: torch.Tensor, normalised: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the (B, T) cross-entropy."""
        wanted = actions.squeeze(-1).round().long()
        return functional.cross_entropy(raw.float().flatten(0, 1), wanted.flatten(), reduction="none").view(
            wanted.shape
        )

    def choose(self, raw: torch.Tensor) -> torch.Tensor:
        """Return (B, T, 1) most likely choices."""
        return raw.argmax(dim=-1, keepdim=True).to(raw.dtype)


def make_head(config: BCConfig, width: int, facts: Mapping[str, Any]) -> RegressionHead | MixtureHead | ChoiceHead:
    """Build the head for a suite's actions."""
    choices, size = facts.get("action_choices"), len(facts["action_low"])
    if choices:
        return ChoiceHead(width, config.chunk, len(choices))
    if config.head == "gmm":
        return MixtureHead(width, config.chunk, size, config.modes)
    return RegressionHead(width, config.chunk, size, config.head)
