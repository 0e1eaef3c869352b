"""Training of the diffusion policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flowbench.agent import Agent
from flowbench.agents.diffusion_policy.agent import DiffusionPolicyAgent
from flowbench.agents.diffusion_policy.model import DiffusionPolicyConfig, DiffusionPolicyNetwork
from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.imitation import ImitationRecipe
from flowbench.agents.training.recipe import Batch, Moment
from flowbench.agents.training.sources import Sources
from flowbench.errors import BadValue


class DiffusionPolicyRecipe(ImitationRecipe):
    """Diffusion Policy as AVDC's baseline."""

    name = "diffusion-policy"
    config_class = DiffusionPolicyConfig
    presets = Path(__file__).with_name("presets.toml")

    def facts(self, config: DiffusionPolicyConfig, sources: Sources) -> dict[str, Any]:
        """Return what the network must know about the data.

        Raises:
            BadValue: If actions are one of a few: there is nothing to denoise.
        """
        if sources.suite is not None and (choices := sources.suite.tasks[0].action_spec.choices):
            raise BadValue(
                f"An action of suite {sources.suite.name} is one of {', '.join(choices)}; a diffusion policy draws continuous "
                "ones. Train --agent bc --set head=discrete."
            )
        return super().facts(config, sources)

    def build(self, config: DiffusionPolicyConfig, facts: Mapping[str, Any]) -> DiffusionPolicyNetwork:
        """Build the network."""
        return DiffusionPolicyNetwork(config, facts)

    def loss(
        self, model: DiffusionPolicyNetwork, batch: Batch, moment: Moment
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the error of the denoising target."""
        return model.loss(batch, moment.training, moment.generator), {}

    def agent(self, checkpoint: Checkpoint, device: str = "cpu") -> Agent:
        """Make the agent."""
        return DiffusionPolicyAgent(checkpoint, device)
