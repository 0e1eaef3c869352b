"""Training of AVDC's planner, on videos without actions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flowbench.agent import Agent
from flowbench.agents.training.checkpoint import Checkpoint, suite_facts
from flowbench.agents.training.imitation import demo_labels, image_facts
from flowbench.agents.training.recipe import Batch, Moment, Recipe, Split
from flowbench.agents.training.sources import Sources
from flowbench.agents.video_diffusion.clips import VIDEO, VideoClips, spacing_of
from flowbench.agents.video_diffusion.model import VideoDiffusion, VideoDiffusionConfig
from flowbench.data.dataset import DemoDataset
from flowbench.flow.estimators import make_estimator


class AvdcRecipe(Recipe):
    """The video model (or flow model) of agent `avdc`; everything after it is not learned."""

    name = "avdc"
    config_class = VideoDiffusionConfig
    presets = Path(__file__).with_name("presets.toml")

    def facts(self, config: VideoDiffusionConfig, sources: Sources) -> dict[str, Any]:
        """Return views and sentences of the training split."""
        dataset = open_videos(sources, "train")
        facts = suite_facts(sources) | image_facts(dataset, sources)
        dataset.close()
        return facts

    def data(
        self, config: VideoDiffusionConfig, facts: Mapping[str, Any], sources: Sources, split: Split, stage: str
    ) -> VideoClips:
        """Open the clips."""
        return open_clips(config, facts, sources, split)

    def build(self, config: VideoDiffusionConfig, facts: Mapping[str, Any]) -> VideoDiffusion:
        """Build the network."""
        return VideoDiffusion(config, facts)

    def prepare(
        self, model: VideoDiffusion, config: VideoDiffusionConfig, facts: Mapping[str, Any], stage: str
    ) -> None:
        """Embed the sentences, if a language model does."""
        model.text.prepare()

    def loss(
        self, model: VideoDiffusion, batch: Batch, moment: Moment
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the weighted error of the velocity, and the unweighted one."""
        return model.loss(batch, moment.training, moment.generator)

    def agent(self, checkpoint: Checkpoint, device: str = "cpu") -> Agent:
        """Make the agent that plans with it, with the arguments that the agent has by default."""
        from flowbench.agents.avdc.agent import AvdcAgent

        variant = "flow" if checkpoint.config_as(VideoDiffusionConfig).content == "flow" else "full"
        return AvdcAgent(checkpoint=str(checkpoint.folder), variant=variant, device=device)


def open_videos(
    sources: Sources, split: Split, *, labelled: bool = False, keys: tuple[str, ...] = (VIDEO,)
) -> DemoDataset:
    """Open every camera of every demonstration as a video of its own."""
    return sources.open(keys, split=split, labelled=labelled, cameras="each")


def open_clips(config: VideoDiffusionConfig, facts: Mapping[str, Any], sources: Sources, split: Split) -> VideoClips:
    """Open the clips that a video model learns from."""
    dataset = open_videos(sources, split)
    flow = make_estimator(config.flow) if config.content == "flow" else None
    labels = demo_labels(dataset, facts)
    return VideoClips(dataset, config.training_fit, config.frames, labels, sources.frame_cache, flow, spacing_of(facts))
