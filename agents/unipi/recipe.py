"""Training of UniPi: the video model on every video, then the inverse dynamics on those with actions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowbench.agent import Agent
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError, suite_facts
from flowbench.agents.training.imitation import demo_labels, image_facts, vector_statistics
from flowbench.agents.training.recipe import Batch, Moment, Recipe, Split, TrainingData, numbers_of_part
from flowbench.agents.training.sources import Sources
from flowbench.agents.unipi.model import UniPiConfig, UniPiNetwork
from flowbench.agents.unipi.pairs import NextPictures, PicturePairs
from flowbench.agents.video_diffusion.clips import VIDEO
from flowbench.agents.video_diffusion.model import VideoDiffusionConfig
from flowbench.agents.video_diffusion.recipe import open_clips, open_videos
from flowbench.agents.video_diffusion.saved import VIDEO_FACT, load_video_model
from flowbench.errors import BadValue, DataError

VIDEO_STAGE, INVERSE_STAGE = "video", "inverse"


class UniPiRecipe(Recipe):
    """UniPi with AVDC's video model."""

    name = "unipi"
    config_class = UniPiConfig
    presets = Path(__file__).with_name("presets.toml")

    def stages(self, config: UniPiConfig) -> tuple[str, ...]:
        """Return the stages; a video model that is given is not trained."""
        return (INVERSE_STAGE,) if config.video_checkpoint else (VIDEO_STAGE, INVERSE_STAGE)

    def facts(self, config: UniPiConfig, sources: Sources) -> dict[str, Any]:
        """Return views, sentences and the video model's settings, and statistics of the actions.

        Raises:
            CheckpointError: If a video model is given that was trained for other pictures.
        """
        videos = open_videos(sources, "train")
        facts = suite_facts(sources) | image_facts(videos, sources)
        videos.close()
        facts[VIDEO_FACT] = config.own_video
        if config.video_checkpoint:
            _take_over(facts, Checkpoint.open(config.video_checkpoint, "avdc"))
        try:
            labelled = open_videos(sources, "train", labelled=True, keys=(VIDEO, "actions"))
        except DataError:
            # The video model needs no actions; the inverse dynamics says what is missing.
            size = len(facts["action_low"])
            return facts | {"actions": {"mean": [0.0] * size, "std": [1.0] * size}, "steps_per_picture": 1.0}
        facts["actions"] = vector_statistics(labelled, "actions", facts["action_low"], facts["action_high"])
        steps = np.array([info.steps for info in labelled.infos])
        # From one picture of a plan to the next, where it begins with a demonstration.
        facts["steps_per_picture"] = float(np.median((steps - 1) / (facts[VIDEO_FACT]["frames"] - 1)))
        if facts.get("action_choices"):
            facts["steps_per_picture"] = 1.0
        labelled.close()
        return facts

    def carried_facts(
        self, config: UniPiConfig, facts: dict[str, Any], before: Mapping[str, Any], stages: Collection[str]
    ) -> dict[str, Any]:
        """Keep the sentences of the video model, or the actions and cameras of the inverse dynamics.

        Raises:
            DataError: If the data have a sentence or a camera that the other part does not know.
        """
        if VIDEO_STAGE not in stages:
            part, how = "the video model of --init-from", f"--stage {VIDEO_STAGE}"
            return facts | numbers_of_part(facts, before, ("instructions",), part, how)
        kept = {name: before[name] for name in ("actions", "steps_per_picture")}
        part, how = "the inverse dynamics of --init-from", f"--stage {INVERSE_STAGE}"
        return facts | kept | numbers_of_part(facts, before, ("cameras",), part, how)

    def data(
        self, config: UniPiConfig, facts: Mapping[str, Any], sources: Sources, split: Split, stage: str
    ) -> TrainingData:
        """Open clips for the video model, or pairs of pictures for the inverse dynamics."""
        video = VideoDiffusionConfig(**facts[VIDEO_FACT])
        if stage == VIDEO_STAGE:
            return open_clips(video, facts, sources, split)
        dataset = open_videos(sources, split, labelled=True, keys=(VIDEO, "actions"))
        labels = demo_labels(dataset, facts)
        if facts.get("action_choices"):
            return NextPictures(dataset, video.fit, labels, sources.frame_cache)
        return PicturePairs(dataset, video.fit, video.frames, config.reached_within, labels, sources.frame_cache)

    def build(self, config: UniPiConfig, facts: Mapping[str, Any]) -> UniPiNetwork:
        """Build both networks."""
        return UniPiNetwork(config, facts)

    def parameters(self, model: UniPiNetwork, stage: str) -> Iterable[torch.nn.Parameter]:
        """Return those of one of the two networks."""
        return (model.video if stage == VIDEO_STAGE else model.inverse).parameters()

    def prepare(self, model: UniPiNetwork, config: UniPiConfig, facts: Mapping[str, Any], stage: str) -> None:
        """Embed the sentences, or load the video model that is given."""
        if stage == VIDEO_STAGE:
            model.video.text.prepare()
        elif config.video_checkpoint:
            given = load_video_model(Checkpoint.open(config.video_checkpoint, "avdc"))
            model.video.load_state_dict(given.state_dict())

    def loss(
        self, model: UniPiNetwork, batch: Batch, moment: Moment
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the loss of the stage's network."""
        network = model.video if moment.stage == VIDEO_STAGE else model.inverse
        return network.loss(batch, moment.training, moment.generator)

    def agent(self, checkpoint: Checkpoint, device: str = "cpu") -> Agent:
        """Make the agent."""
        from flowbench.agents.unipi.agent import UniPiAgent

        return UniPiAgent(checkpoint, device=device)


def _take_over(facts: dict[str, Any], video: Checkpoint) -> None:
    """Put the settings and sentences of a trained video model into the facts, after checking that it fits."""
    config = video.config_as(VideoDiffusionConfig)
    if config.content == "flow":
        raise BadValue(f"UniPi follows pictures, and {video.folder} imagines flow. Give one that imagines pictures.")
    for name in ("family", "image_size", "image_view"):
        if video.facts[name] != facts[name]:
            raise CheckpointError(
                f"Video model {video.folder} was trained for {name} {video.facts[name]}, and the data has {facts[name]}. Train "
                "it on the same data, or record the data alike."
            )
    facts[VIDEO_FACT] = asdict(config)
    how = "flowbench train --agent avdc"
    facts |= numbers_of_part(facts, video.facts, ("instructions",), f"video model {video.folder}", how)
