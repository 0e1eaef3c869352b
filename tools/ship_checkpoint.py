"""Copy a trained checkpoint to where those lie that come with FlowBench, with its larger weights in half precision.

Run as `python tools/ship_checkpoint.py TRAINING agents/checkpoints/AGENT-SUITE`. Networks compute in the precision that they are
built in, so nothing else changes; evaluate the copy, because its weights are rounded.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from flowbench.agents.training.checkpoint import Checkpoint, write_checkpoint
from flowbench.agents.training.recipe import get_recipe


def ship(source: str, target: Path) -> Checkpoint:
    """Write the copy, with the training's story and the log of every stage.

    Args:
        source: Folder of a training.
        target: Folder of the copy.
    """
    trained = Checkpoint.open(source)
    recipe = get_recipe(trained.recipe)
    # Vectors are small: norms' running statistics, for one, keep their range.
    weights = {
        name: value.half() if value.dtype == torch.float32 and value.dim() > 1 else value
        for name, value in trained.weights.items()
    }
    config = trained.config_as(recipe.config_class)
    copy = write_checkpoint(target, recipe, config, trained.facts, weights, trained.training)
    for log in trained.folder.glob("log*.csv"):
        shutil.copyfile(log, target / log.name)
    return copy


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    shipped = ship(sys.argv[1], Path(sys.argv[2]))
    print(f"{shipped.description}: {shipped.weights_bytes / 1e6:.1f} MB")
