"""The paper's ablations, trained like the checkpoint that they are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flowbench.agents.sof.config import SofConfig
from flowbench.agents.sof.network import FLOW2ACTION
from flowbench.agents.sof.recipe import SofRecipe
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError, make_config
from flowbench.agents.training.loop import TrainOptions, train
from flowbench.agents.training.presets import Settings, TrainConfig
from flowbench.agents.training.sources import Sources
from flowbench.cache import cache_folder
from flowbench.cli.parsing import parse_names
from flowbench.errors import unknown_name
from flowbench.registry import get_suite

#: What each variant changes, and which stages it trains; () for all. The others are the checkpoint's.
TRAINED: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "skill2action": ({"act_from": "skill"}, (FLOW2ACTION,)),
    "pixels": ({"content": "pixels"}, ()),
}
VARIANTS = ("geometry", *TRAINED)


def variant_names(text: str) -> tuple[str, ...]:
    """Return the names of variants in a comma-separated list.

    Raises:
        UnknownName: With the nearest name.
    """
    names = parse_names(text)
    for name in names:
        if name not in VARIANTS:
            raise unknown_name("variant", name, VARIANTS, "SOF")
    return names


def train_variant(
    name: str, source: str, paths: tuple[Path, ...], out: Path, *, steps: int | None, threads: int | None, quiet: bool
) -> Checkpoint:
    """Train a variant with the settings, data and labels of a checkpoint; goes on where it was interrupted.

    Args:
        name: One of `TRAINED`.
        source: The checkpoint.
        paths: Its demonstrations.
        out: Folder of the training.
        steps: Of every stage, instead of the checkpoint's.
        threads: CPU threads; None for all cores.
        quiet: No progress bar.

    Raises:
        CheckpointError: If the checkpoint does not say how it was trained.
    """
    import torch

    base = Checkpoint.open(source, "sof")
    if "stages" not in base.training:
        raise CheckpointError(
            f"Checkpoint {base.folder} does not say how it was trained, so nothing can be trained like it."
        )
    if threads:
        torch.set_num_threads(threads)
    changes, only = TRAINED[name]
    config: SofConfig = replace(base.config_as(SofConfig), **changes)
    stages = {stage: make_config(TrainConfig, own) for stage, own in base.training["stages"].items()}
    if steps:
        stages = {stage: replace(own, steps=steps) for stage, own in stages.items()}
    chosen = {stage: own for stage, own in stages.items() if stage in only or not only}
    sources = Sources(
        paths,
        get_suite(base.facts["suite"]),
        tuple(base.training["tasks"]),
        base.training["limit_per_task"],
        base.training["label_fraction"],
        base.training["validation_fraction"],
        base.training["seed"],
        cache_folder() / "frames",
    )
    options = TrainOptions(out, init_from=str(base.folder) if only else None, progress=not quiet)
    return train(SofRecipe(), Settings(base.training["preset"], config, chosen), sources, options)
