"""`--agent trained --checkpoint DIR`: the agent of any checkpoint, whatever recipe made it."""

from __future__ import annotations

from flowbench.agent import Agent
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointAgent
from flowbench.agents.training.recipe import get_recipe, recipe_names
from flowbench.errors import unknown_name


def trained(checkpoint: str, recipe: str | None = None, device: str = "cpu") -> Agent:
    """Make the agent of a checkpoint.

    Args:
        checkpoint: Folder, name of a shipped one, or `hf://organisation/name`.
        recipe: What made it, where that is not registered: `package.module:NAME` or `path/to/file.py:NAME`. A checkpoint
            never says itself what code to load.
        device: Where it runs.
    """
    opened = Checkpoint.open(checkpoint)
    if recipe is None and opened.recipe not in recipe_names():
        step = "If it is your own, name it with --agent-args recipe=path/to/file.py:NAME."
        raise unknown_name("trainable agent", opened.recipe, recipe_names(), next_step=step)
    return get_recipe(recipe or opened.recipe).agent(opened, device)


trained.checkpoint_files = CheckpointAgent.checkpoint_files
trained.describe_checkpoint = CheckpointAgent.describe_checkpoint
