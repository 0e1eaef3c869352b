"""Training of behaviour cloning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flowbench.agent import Agent
from flowbench.agents.bc.agent import BCAgent
from flowbench.agents.bc.model import BCConfig, BCNetwork
from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.imitation import ImitationRecipe
from flowbench.agents.training.recipe import Batch, Moment


class BCRecipe(ImitationRecipe):
    """BC from scratch."""

    name = "bc"
    config_class = BCConfig
    presets = Path(__file__).with_name("presets.toml")

    def build(self, config: BCConfig, facts: Mapping[str, Any]) -> BCNetwork:
        """Build the network."""
        return BCNetwork(config, facts)

    def loss(self, model: BCNetwork, batch: Batch, moment: Moment) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the head's loss, and the mean error of an action component."""
        return model.loss(batch, moment.training, moment.generator)

    def agent(self, checkpoint: Checkpoint, device: str = "cpu") -> Agent:
        """Make the agent."""
        return BCAgent(checkpoint, device)


class BCR3MRecipe(BCRecipe):
    """BC whose image encoder starts from R3M."""

    name = "bc-r3m"
    presets = Path(__file__).with_name("presets-r3m.toml")
