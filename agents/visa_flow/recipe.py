"""Training of ViSA-Flow: first what will move, from videos without actions; then actions, from few demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowbench.agent import Agent
from flowbench.agents.training.checkpoint import Checkpoint, suite_facts
from flowbench.agents.training.imitation import MIN_STD
from flowbench.agents.training.recipe import Batch, Moment, Recipe, Split, TrainingData
from flowbench.agents.training.sources import Sources
from flowbench.agents.visa_flow.data import ACTION_KEYS, lends_actions, open_looks, robot_cameras, with_clips
from flowbench.agents.visa_flow.extract import CLIPS
from flowbench.agents.visa_flow.model import VisaFlowConfig, VisaFlowNetwork
from flowbench.data.dataset import DemoDataset
from flowbench.data.demonstration import DemoReader

PRETRAIN, FINETUNE = "pretrain", "finetune"


class VisaFlowRecipe(Recipe):
    """ViSA-Flow, with the architecture of GR-1."""

    name = "visa-flow"
    config_class = VisaFlowConfig
    presets = Path(__file__).with_name("presets.toml")
    # Cameras are what it looks through, one set of queries each: those of the data.
    numbered = ("instructions",)

    def stages(self, config: VisaFlowConfig) -> tuple[str, ...]:
        """Return the stages; without pre-training there is one."""
        return (PRETRAIN, FINETUNE) if config.pretrain else (FINETUNE,)

    def facts(self, config: VisaFlowConfig, sources: Sources) -> dict[str, Any]:
        """Return cameras and sentences of all clips; statistics and names of the demonstrations whose actions are used."""
        clips = with_clips(sources, config)
        cameras = robot_cameras(config, clips)
        facts = suite_facts(clips, cameras)
        videos = clips.open((), labelled=False)
        facts["instructions"] = sorted({info.instruction or "" for info in videos.infos})
        shape = videos.readers[0].demos[0].arrays[f"{_shown(videos.readers[0], cameras)}/rgb"].shape
        facts["image_size"], facts["image_view"] = [shape[1], shape[0]], videos.readers[0].image_view
        videos.close()
        return facts | self._labels(facts, clips)

    def _labels(self, facts: Mapping[str, Any], clips: Sources) -> dict[str, Any]:
        """Return what is learned from actions alone; nothing where there are only videos, to pre-train on."""
        if not any(lends_actions(clips, reader) for reader in clips.readers):
            return {"actions": None, "proprio": None, "state_size": 1, "labelled": []}
        labelled = clips.open(ACTION_KEYS, split="train", labelled=True)
        proprio = _statistics(labelled, "proprio")
        bounds = np.array(facts["action_low"]), np.array(facts["action_high"])
        found = {
            "actions": _statistics(labelled, "action_chunk", *bounds),
            "proprio": proprio,
            "state_size": len(proprio["mean"]),
            # Which tenth of the data was labelled decides as much as how much of it.
            "labelled": [_name(origin.reader, origin.demo) for origin in labelled.origins],
        }
        labelled.close()
        return found

    def data(
        self, config: VisaFlowConfig, facts: Mapping[str, Any], sources: Sources, split: Split, stage: str
    ) -> TrainingData:
        """Open all clips without actions, or the labelled ones with them."""
        return open_looks(config, facts, with_clips(sources, config), split, labelled=stage == FINETUNE)

    def build(self, config: VisaFlowConfig, facts: Mapping[str, Any]) -> VisaFlowNetwork:
        """Build the network."""
        return VisaFlowNetwork(config, facts)

    def prepare(self, model: VisaFlowNetwork, config: VisaFlowConfig, facts: Mapping[str, Any], stage: str) -> None:
        """Embed the sentences, where a frozen language model does it."""
        model.text.prepare()

    def loss(
        self, model: VisaFlowNetwork, batch: Batch, moment: Moment
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the loss of a stage."""
        return model.loss(batch, moment.training, moment.generator, with_actions=moment.stage == FINETUNE)

    def agent(self, checkpoint: Checkpoint, device: str = "cpu") -> Agent:
        """Make the agent."""
        from flowbench.agents.visa_flow.agent import VisaFlowAgent

        return VisaFlowAgent(checkpoint, device)


def _shown(reader: DemoReader, cameras: Sequence[str]) -> str:
    """Return the first of the robot's cameras that a file shows, or else its own first."""
    shown = reader.demos[0].cameras
    return next((camera for camera in cameras if camera in shown), shown[0])


def _name(reader: DemoReader, demo: int) -> str:
    """Return a demonstration's name: its file, or the folder where every file of clips has the same name."""
    file = reader.path.parent.name if reader.path.name == CLIPS else reader.path.name
    return f"{file}/{reader.demos[demo].name}"


def _statistics(
    dataset: DemoDataset, key: str, low: np.ndarray | None = None, high: np.ndarray | None = None
) -> dict[str, list[float]]:
    """Return mean and standard deviation of the last axis of an array over the data, clipped to bounds first."""
    parts = [origin.reader.read(origin.demo, origin.keys[key], slice(None)) for origin in dataset.origins]
    rows = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts]).astype(np.float64)
    rows = rows if low is None else np.clip(rows, low, high)
    return {"mean": rows.mean(0).tolist(), "std": np.maximum(rows.std(0), MIN_STD).tolist()}
