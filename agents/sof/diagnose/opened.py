"""A checkpoint with the demonstrations that it is asked about; what was held out in training stays held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowbench.agents.nets.observation import to_float
from flowbench.agents.sof.config import SofConfig
from flowbench.agents.sof.network import SofNetwork
from flowbench.agents.sof.segments import CONTENT, VIDEO, SkillBlocks
from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.recipe import Split
from flowbench.agents.training.sources import Sources
from flowbench.cache import cache_folder
from flowbench.data.demonstration import DemoInfo
from flowbench.registry import get_suite


@dataclass(frozen=True)
class Skills:
    """The networks of a checkpoint.

    Attributes:
        checkpoint: Where they come from.
        config: Their hyper-parameters.
        model: They themselves, in evaluation mode.
    """

    checkpoint: Checkpoint
    config: SofConfig
    model: SofNetwork

    @classmethod
    def open(cls, source: str) -> Skills:
        """Load a checkpoint.

        Raises:
            CheckpointError: If it is missing, damaged, or of another agent.
        """
        checkpoint = Checkpoint.open(source, "sof")
        config = checkpoint.config_as(SofConfig)
        model = SofNetwork(config, checkpoint.facts)
        checkpoint.fill(model)
        return cls(checkpoint, config, model)


@dataclass(frozen=True)
class Block:
    """One skill block of a demonstration, as the networks see it.

    Attributes:
        info: The demonstration.
        camera: Its camera.
        step: Where the block begins.
        frame: Float (3, H, W) in [0, 1].
        content: Float (H, C, h, w): flow as a share of the image, or differences of pixels.
    """

    info: DemoInfo
    camera: str
    step: int
    frame: torch.Tensor
    content: torch.Tensor

    @property
    def task(self) -> str:
        """Name of the task, or its sentence."""
        return self.info.task or self.info.instruction or ""


def blocks_of(
    skills: Skills,
    paths: Sequence[Path],
    *,
    split: Split | None,
    tasks: Sequence[str] = (),
    per_task: int,
    every: int,
    suite: str | None = None,
) -> Iterator[Block]:
    """Yield blocks of some demonstrations, demonstration by demonstration.

    Args:
        skills: Whose sizes, horizon and flow estimator are used.
        paths: Demonstrations; with those of the training, `split` means what it meant there.
        split: Which of them; None for all.
        tasks: Names; empty for all.
        per_task: Demonstrations of each task, of every camera in turn.
        every: Steps from one block to the next.
        suite: Of the demonstrations; None for the checkpoint's.

    Raises:
        FlowBenchError: If there is no such data.
    """
    training = skills.checkpoint.training
    sources = Sources(
        tuple(paths),
        get_suite(suite or skills.checkpoint.facts["suite"]),
        tasks=tuple(tasks),
        limit_per_task=training.get("limit_per_task") if suite is None else None,
        validation_fraction=training.get("validation_fraction", 0.1),
        seed=training.get("seed", 0),
        cache=cache_folder() / "frames",
    )
    cameras = {skills.config.camera: "camera"} if skills.config.camera and suite is None else "each"
    dataset = sources.open((VIDEO,), split=split, labelled=False, cameras=cameras)
    chosen = _chosen([info.task or info.instruction or "" for info in dataset.infos], per_task)
    blocks = SkillBlocks(dataset, skills.config, cache=sources.frame_cache, only=chosen)
    places = blocks.dataset.places
    for demo in chosen:
        for number in np.flatnonzero((places[:, 0] == demo) & (places[:, 1] % every == 0)):
            batch = blocks.batch(np.array([number]))
            yield Block(
                blocks.dataset.infos[demo],
                blocks.dataset.origins[demo].camera or skills.config.camera,
                int(places[number, 1]),
                to_float(batch[VIDEO][0, 0]),
                batch[CONTENT][0].float(),
            )


def _chosen(tasks: Sequence[str], per_task: int) -> list[int]:
    """Return demonstrations of each task, those of successive tasks beginning with successive cameras."""
    by_task: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        by_task.setdefault(task, []).append(number)
    return [
        numbers[(turn + index) % len(numbers)]
        for turn, numbers in enumerate(by_task.values())
        for index in range(min(per_task, len(numbers)))
    ]
