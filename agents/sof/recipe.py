"""Training of SOF: skills from every video, the policy on their tokens, Flow2Action on what has actions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowbench.agent import Agent
from flowbench.agents.sof.config import SofConfig
from flowbench.agents.sof.network import FLOW2ACTION, POLICY, SKILLS, STAGES, SofNetwork
from flowbench.agents.sof.segments import VIDEO, SkillBlocks, content_scale
from flowbench.agents.training.checkpoint import Checkpoint, suite_facts
from flowbench.agents.training.imitation import demo_labels, image_facts, vector_statistics
from flowbench.agents.training.recipe import Batch, Moment, Recipe, Split, numbers_of_part
from flowbench.agents.training.sources import Sources
from flowbench.data.dataset import DemoDataset, Window
from flowbench.errors import DataError


class SofRecipe(Recipe):
    """SOF's three stages."""

    name = "sof"
    config_class = SofConfig
    presets = Path(__file__).with_name("presets.toml")

    def stages(self, config: SofConfig) -> tuple[str, ...]:
        """Return the three stages."""
        return STAGES

    def facts(self, config: SofConfig, sources: Sources) -> dict[str, Any]:
        """Return views and sentences of the videos, the size of their flow, and statistics of what has actions."""
        videos = _open(config, sources, "train", SKILLS)
        facts = suite_facts(sources) | image_facts(videos, sources, config.camera)
        facts["content_scale"] = content_scale(SkillBlocks(videos, config, cache=sources.frame_cache), config)
        if config.proprio:
            facts["proprio"] = {"mean": [], "std": []}
            if config.policy_proprio:
                # Of all videos, so that a policy means the same whatever share of the actions a later stage may see.
                facts["proprio"] = vector_statistics(_open(config, sources, "train", POLICY), "proprio")
        try:
            labelled = _open(config, sources, "train", FLOW2ACTION)
        except DataError:
            # The first two stages need no actions; the third says what is missing.
            size = len(facts["action_low"])
            facts["actions"] = {"mean": [0.0] * size, "std": [1.0] * size}
            facts["gripper_values"] = []
            return facts
        low, high = facts["action_low"], facts["action_high"]
        facts["actions"] = vector_statistics(labelled, "actions", low, high)
        facts["gripper_values"] = _two_values(labelled, low[-1], high[-1])
        if config.proprio and not config.policy_proprio:
            facts["proprio"] = vector_statistics(labelled, "proprio")
        labelled.close()
        return facts

    def carried_facts(
        self, config: SofConfig, facts: dict[str, Any], before: Mapping[str, Any], stages: Collection[str]
    ) -> dict[str, Any]:
        """Keep the unit that skills were learned in, and the sentences and cameras that the policy knows by number.

        Raises:
            DataError: If the data have a sentence or camera that the policy does not know.
        """
        kept = {} if SKILLS in stages else {"content_scale": before["content_scale"]}
        if POLICY not in stages:
            part, how = "the policy of --init-from", f"--stage {POLICY}"
            kept |= numbers_of_part(facts, before, ("instructions", "cameras"), part, how)
            if config.proprio and config.policy_proprio:
                kept["proprio"] = before["proprio"]
        return facts | kept

    def data(
        self, config: SofConfig, facts: Mapping[str, Any], sources: Sources, split: Split, stage: str
    ) -> SkillBlocks:
        """Open the blocks of a stage: all videos, or those whose actions may be used."""
        dataset = _open(config, sources, split, stage)
        return SkillBlocks(dataset, config, demo_labels(dataset, facts, config.camera), sources.frame_cache)

    def build(self, config: SofConfig, facts: Mapping[str, Any]) -> SofNetwork:
        """Build all three networks."""
        return SofNetwork(config, facts)

    def parameters(self, model: SofNetwork, stage: str) -> Iterable[torch.nn.Parameter]:
        """Return those of one of the three networks."""
        return model.get_submodule(stage).parameters()

    def prepare(self, model: SofNetwork, config: SofConfig, facts: Mapping[str, Any], stage: str) -> None:
        """Load published image weights and embed the sentences; let Flow2Action's eyes start from the policy's."""
        if stage == POLICY:
            model.policy.eyes.encoders[0].load_pretrained()
            model.policy.eyes.text.prepare()
        if stage == FLOW2ACTION:
            if config.eyes_from_policy:
                model.flow2action.encoder.load_state_dict(model.policy.eyes.encoders[0].state_dict(), strict=False)
            else:
                model.flow2action.encoder.load_pretrained()
            for encoder in model.flow2action.extra:
                encoder.load_pretrained()

    def loss(self, model: SofNetwork, batch: Batch, moment: Moment) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the loss of the stage's network."""
        return model.loss(batch, moment)

    def agent(self, checkpoint: Checkpoint, device: str = "cpu") -> Agent:
        """Make the agent."""
        from flowbench.agents.sof.agent import SofAgent

        return SofAgent(checkpoint, device=device)


def _open(config: SofConfig, sources: Sources, split: Split, stage: str) -> DemoDataset:
    """Open the demonstrations of a stage: only the last one reads actions."""
    keys = [VIDEO]
    if stage == FLOW2ACTION:
        keys += ["actions", *(f"{camera}/rgb" for camera in config.extra_cameras)]
    if config.proprio and (stage == FLOW2ACTION or (stage == POLICY and config.policy_proprio)):
        keys.append("proprio")
    cameras = {config.camera: "camera"} if config.camera else "each"
    window = Window(horizon=config.chunk, offsets={"proprio": (0,)})
    return sources.open(keys, window=window, split=split, labelled=stage == FLOW2ACTION, cameras=cameras)


def _two_values(labelled: DemoDataset, low: float, high: float) -> list[float]:
    """Return the two values that the gripper's component takes, or nothing if it takes more."""
    values: set[float] = set()
    for origin in labelled.origins:
        column = origin.reader.read(origin.demo, origin.keys["actions"], slice(None))[:, -1]
        values |= set(np.unique(np.clip(column, low, high).round(4)).tolist())
        if len(values) > 2:
            return []
    return sorted(values) if len(values) == 2 else []
