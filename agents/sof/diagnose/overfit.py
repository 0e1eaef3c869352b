"""One trajectory, learned by heart: whoever cannot do that has a fault in what he learns with, not in how much he has seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from flowbench.agents.nets.observation import to_float
from flowbench.agents.sof.config import SofConfig
from flowbench.agents.sof.diagnose.opened import Skills
from flowbench.agents.sof.network import FLOW2ACTION, STAGES, SofNetwork, end_point_errors
from flowbench.agents.sof.recipe import SofRecipe
from flowbench.agents.sof.segments import CONTENT, VIDEO, SkillBlocks
from flowbench.agents.training.loop import TrainOptions, train
from flowbench.agents.training.presets import Settings, TrainConfig
from flowbench.agents.training.sources import Sources
from flowbench.cache import cache_folder
from flowbench.registry import get_suite


@dataclass(frozen=True)
class Overfit:
    """How well one trajectory was learned.

    Attributes:
        task: Its task.
        ratio: End-point error of its flow after encoding and decoding, over that of saying that nothing moves.
        tokens: Share of its tokens that the policy gives as the most likely ones.
        action_error: Mean absolute error of an action component, with the policy's tokens.
        still_error: The same for the mean action of the trajectory.
        wanted: (T, A) its actions.
        made: (T, A) the agent's, at every step the first of a chunk.
    """

    task: str
    ratio: float
    tokens: float
    action_error: float
    still_error: float
    wanted: np.ndarray
    made: np.ndarray


def overfit(source: str, paths: list[Path], task: str, steps: int, out: Path, *, fresh: bool, quiet: bool) -> Overfit:
    """Train all stages on one demonstration of a task, and follow it.

    Args:
        source: Checkpoint whose hyper-parameters are used.
        paths: Demonstrations.
        task: The task.
        steps: Of each stage.
        out: Folder of the training.
        fresh: Start from random weights instead of the checkpoint's.
        quiet: No progress bar.
    """
    skills = Skills.open(source)
    # What keeps a network from learning by heart is left out.
    config = replace(
        skills.config, dropout=0.0, shift_px=0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0,
        proprio_noise=0.0, token_noise=0.0, plan_dropout=0.0,
    )  # fmt: skip
    suite = get_suite(skills.checkpoint.facts["suite"])
    sources = Sources(
        tuple(paths), suite, (task,), limit_per_task=1, validation_fraction=0.0, cache=cache_folder() / "frames"
    )
    stage = TrainConfig(
        steps=steps, batch_size=16, lr=1e-3, warmup_steps=min(20, steps), ema_decay=0.95, precision="auto"
    )
    settings = Settings("overfit", config, dict.fromkeys(STAGES, stage))
    options = TrainOptions(out, init_from=None if fresh else str(skills.checkpoint.folder), progress=not quiet)
    trained = Skills.open(str(train(SofRecipe(), settings, sources, options).folder))
    blocks = SofRecipe().data(config, trained.checkpoint.facts, sources, "train", FLOW2ACTION)
    return _followed(task, config, trained.model, blocks)


@torch.no_grad()
def _followed(task: str, config: SofConfig, model: SofNetwork, blocks: SkillBlocks) -> Overfit:
    # The first demonstration, seen through its first camera.
    numbers = np.flatnonzero(blocks.dataset.places[:, 0] == 0)
    error, still, right, wanted, made = 0.0, 0.0, [], [], []
    generator = torch.Generator().manual_seed(0)
    for number in numbers:
        batch = blocks.batch(np.array([number]))
        frames, content = to_float(batch[VIDEO][:, 0]), batch[CONTENT].float()
        tokens = model.skills.tokens(content)
        own, truth = end_point_errors(model.skills.decode(tokens, frames, range(config.horizon)), content)
        error, still = error + float(own.sum()), still + float(truth.sum())
        chosen = model.policy.choose(model.policy.context(*model.policy.eyes.inputs(batch, False, generator)), 0.0)
        right.append((chosen == tokens).float().mean().item())
        proprio = batch["proprio"][:, -1] if config.proprio else None
        extra = [to_float(batch[f"{camera}/rgb"][:, 0]) for camera in config.extra_cameras]
        action = model.flow2action(frames, model.plan(chosen, frames), batch["camera"], proprio, extra)
        made.append(model.flow2action.actions(*action)[0, 0].numpy())
        wanted.append(model.flow2action.possible(batch["actions"])[0, 0].numpy())
    truth, answer = np.stack(wanted), np.stack(made)
    return Overfit(
        task,
        error / still if still else float("nan"),
        float(np.mean(right)),
        float(np.abs(answer - truth).mean()),
        float(np.abs(truth.mean(0) - truth).mean()),
        truth,
        answer,
    )
