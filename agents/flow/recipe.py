"""Training of RAFT on exact flow: `flowbench train flow --data PAIRS`.

The pairs come from `flowbench.flow.generate`; what differs from RAFT's own training is written beside `loss`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from flowbench.agents.flow.augment import degrade, mirrored, photometric
from flowbench.agents.flow.network import RaftConfig, build_raft, enlarged, shrunk_flow, to_input
from flowbench.agents.training.recipe import Batch, Moment, Recipe, Split
from flowbench.agents.training.sources import Sources
from flowbench.errors import DataError
from flowbench.flow.pairs import MOVING, ROBOT, VISIBLE, PairSet
from flowbench.flow.splits import HoldOut, split_pairs

#: Errors of an earlier refinement count this much less than those of the next (RAFT, section 3.3).
GAMMA = 0.8


@dataclass(frozen=True)
class FlowConfig(RaftConfig):
    """A network and how it is trained.

    Attributes:
        training_updates: Refinements of the flow while training.
        crop: Side in pixels of the windows that are cut out of the pairs while training; 0 takes them whole.
        first_limit_px: Points that move farther than this do not count at first.
        last_limit_px: Nor, in the end, do those beyond this.
        curriculum_steps: Steps until the limit has risen from the first to the last.
        moving_weight: Weight of a pixel that moves against one that does not.
        relative_px: A pixel that moves by this much weighs half of what one at rest would, one by three times as much a quarter.
        thing_area: Moving things (what moves and is not the robot) of fewer pixels weigh as much as one of this many.
        whole: Share of the training pairs that are shrunk to `crop` as a whole instead of being cut.
        degraded: Share of the training pairs whose images may be blurred, compressed and noisy.
        matching: Weight of finding each cell of the first image among all cells of the second by their features alone.
        held_out_every_seed: See `HoldOut`.
        held_out_views: Cameras that are not trained on.
        held_out_tasks: Tasks that are not trained on.
        held_out_suites: Suites that are not trained on.
    """

    size: str = "small"
    convex: bool = True
    upsample: float = 2.0
    updates: int = 8
    training_updates: int = 5
    crop: int = 80
    first_limit_px: float = 10.0
    last_limit_px: float = 80.0
    curriculum_steps: int = 3000
    moving_weight: float = 4.0
    relative_px: float = 8.0
    thing_area: int = 600
    whole: float = 0.5
    degraded: float = 1.0
    matching: float = 0.0
    held_out_every_seed: int = 4
    held_out_views: tuple[str, ...] = ("corner4", "frontview")
    held_out_tasks: tuple[str, ...] = (
        "hammer",
        "faucet-open",
        "coffee-push",
        "drawer-open",
        "plate-slide-side",
        "stick-pull",
    )
    held_out_suites: tuple[str, ...] = ("libero-object",)

    @property
    def hold_out(self) -> HoldOut:
        """What is not trained on."""
        return HoldOut(self.held_out_every_seed, self.held_out_views, self.held_out_tasks, self.held_out_suites)


class FlowRecipe(Recipe):
    """RAFT, from scratch or from given weights (--init-from)."""

    name = "flow"
    config_class = FlowConfig
    presets = Path(__file__).with_name("presets.toml")

    def facts(self, config: FlowConfig, sources: Sources) -> dict[str, Any]:
        """Say what the network learned from; it needs to know nothing to work."""
        pairs = _open(sources)
        numbers = split_pairs(pairs, config.hold_out)["train"]
        facts = {
            "pairs": len(numbers),
            "suites": sorted(set(pairs.column("suite")[numbers].tolist())),
            "tasks": len(set(pairs.column("task")[numbers].tolist())),
            "cameras": sorted(set(pairs.column("view")[numbers].tolist())),
        }
        pairs.close()
        return facts

    def data(
        self, config: FlowConfig, facts: Mapping[str, Any], sources: Sources, split: Split, stage: str
    ) -> PairBatches:
        """Open the pairs; everything held out, in whatever respect, is for validation."""
        pairs = _open(sources)
        splits = split_pairs(pairs, config.hold_out)
        if split == "train":
            return PairBatches(pairs, splits["train"])
        held_out = np.concatenate([numbers for name, numbers in splits.items() if name != "train"])
        if not len(held_out):
            raise DataError("all pairs are trained on.")
        return PairBatches(pairs, held_out)

    def build(self, config: FlowConfig, facts: Mapping[str, Any]) -> nn.Module:
        """Build the network."""
        network = build_raft(config)
        network.config = config
        return network

    def demonstrations(self, sources: Sources) -> int:
        """Pairs are not demonstrations."""
        return 0

    def loss(self, model: nn.Module, batch: Batch, moment: Moment) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return RAFT's loss, and end-point errors in pixels of the pair: of all, of moving pixels, of moving things.

        What differs from RAFT (section 3.3): pixels are weighted, because in most pairs nearly everything stands still and
        what matters is a few dozen pixels, and because an arm that swings by 30 px would otherwise drown whatever moves by
        3; a point that is hidden in the second image counts a third; and large motion comes in gradually, without which a
        network from scratch first learns to predict none.
        """
        config: FlowConfig = model.config
        flow_px, masks = batch["flow_px"].permute(0, 3, 1, 2).float(), batch["masks"]
        arrays = {"first": to_input(batch["first"]), "second": to_input(batch["second"]), "masks": masks[:, None]}
        if moment.training:
            arrays, flow_px = _cut(arrays, flow_px, config.crop, config.whole, moment.generator)
            arrays, flow_px = mirrored(arrays, flow_px, moment.generator)
            images = photometric(arrays["first"], arrays["second"], moment.generator)
            images = [degrade(image, config.degraded, moment.generator) for image in images]
        else:
            images = [arrays["first"], arrays["second"]]
        first, second = (enlarged(image.contiguous(), config.upsample) for image in images)
        updates = config.training_updates if moment.training else config.updates
        with _outputs_of(model.feature_encoder) as features:
            estimates = model(first, second, num_flow_updates=updates)
        estimates = [shrunk_flow(estimate.float(), *flow_px.shape[-2:]) for estimate in estimates]

        weight = _weights(config, arrays["masks"][:, 0], flow_px)
        if moment.training:
            progress = min(1.0, moment.step / max(1, config.curriculum_steps))
            limit_px = config.first_limit_px + progress * (config.last_limit_px - config.first_limit_px)
            weight = weight * (flow_px.norm(dim=1) <= limit_px)
        total = weight.sum().clamp_min(1)
        loss = flow_px.new_zeros(())
        for place, estimate in enumerate(reversed(estimates)):
            loss = loss + GAMMA**place * ((estimate - flow_px).abs().sum(dim=1) * weight).sum() / total
        if moment.training and config.matching:
            loss = loss + config.matching * _matching(features[0].float(), flow_px, weight)
        return loss, _errors(estimates[-1].detach(), flow_px, arrays["masks"][:, 0])


class PairBatches:
    """Some pairs of a set as training data."""

    def __init__(self, pairs: PairSet, numbers: np.ndarray) -> None:
        self._pairs, self._numbers = pairs, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def batch(self, indices: np.ndarray) -> Batch:
        """See `TrainingData`."""
        pairs = self._pairs.read(self._numbers[indices])
        return {name: torch.from_numpy(getattr(pairs, name)) for name in ("first", "second", "flow_px", "masks")}


def _open(sources: Sources) -> PairSet:
    if len(sources.paths) != 1:
        raise DataError(
            "Flow is trained on one folder of pairs: make it with flowbench flow-pairs, and give it with --data DIR."
        )
    return PairSet(sources.paths[0])


@contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what a module returns meanwhile; torchvision's RAFT keeps its features to itself."""
    outputs: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


def _things(masks: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    return moves & ((masks & MOVING) > 0) & ((masks & ROBOT) == 0)


def _weights(config: FlowConfig, masks: torch.Tensor, flow_px: torch.Tensor) -> torch.Tensor:
    """Return the (B, H, W) weight of each pixel."""
    visible, moves = (masks & VISIBLE) > 0, flow_px.norm(dim=1) > 0.5
    things = _things(masks, moves)
    weight = 1 + (config.moving_weight - 1) * moves
    area = things.flatten(1).sum(dim=1).clamp_min(1)[:, None, None]
    weight = torch.where(things, weight * (config.thing_area / area).clamp(1, 8), weight)
    weight = weight / (1 + flow_px.norm(dim=1) / config.relative_px)
    return torch.where(visible, weight, weight / 3)


def _matching(features: torch.Tensor, flow_px: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of where each cell's own features are found in the second image.

    Args:
        features: (2 B, C, h, w) of all first images, then of all second ones.
        flow_px: (B, 2, H, W).
        weight: (B, H, W).
    """
    first, second = (part.flatten(2) for part in features.chunk(2))
    height, width = features.shape[-2:]
    # The pixel in the middle of each cell stands for it; what ends between cells is shared by the four around it.
    across = flow_px.shape[-1] / width
    flow = functional.interpolate(flow_px, (height, width), mode="nearest-exact") / across
    weight = functional.interpolate(weight[:, None], (height, width), mode="nearest-exact")[:, 0].flatten(1)
    rows, columns = torch.meshgrid(
        torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
    )
    x, y = (columns + flow[:, 0]).flatten(1), (rows + flow[:, 1]).flatten(1)
    weight = weight * (x >= 0) * (x <= width - 1) * (y >= 0) * (y <= height - 1)
    scores = (first.transpose(1, 2) @ second / features.shape[1] ** 0.5).log_softmax(dim=-1)
    left, top = x.clamp(0, width - 1).floor(), y.clamp(0, height - 1).floor()
    loss = torch.zeros_like(x)
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = (left + right).clamp(max=width - 1), (top + below).clamp(max=height - 1)
        share = (1 - (x - left - right).abs()).clamp(0, 1) * (1 - (y - top - below).abs()).clamp(0, 1)
        place = (row * width + column).long()
        loss = loss - share * scores.gather(2, place[..., None])[..., 0]
    return (loss * weight).sum() / weight.sum().clamp_min(1)


def _errors(estimate: torch.Tensor, flow_px: torch.Tensor, masks: torch.Tensor) -> dict[str, torch.Tensor]:
    error_px = (estimate - flow_px).norm(dim=1)
    visible, moves = (masks & VISIBLE) > 0, flow_px.norm(dim=1) > 0.5
    groups = {"epe": visible, "epe_moving": visible & moves, "epe_things": visible & _things(masks, moves)}
    return {name: (error_px * group).sum() / group.sum().clamp_min(1) for name, group in groups.items()}


def _cut(
    arrays: dict[str, torch.Tensor], flow_px: torch.Tensor, side: int, whole: float, generator: torch.Generator
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Make samples as small as `side`: some as a whole, others by a window mostly around something that moves.

    A window shows small things in full detail, but what moves far leaves it; in a shrunk pair it stays.
    """
    height, width = flow_px.shape[-2:]
    if not side or side >= min(height, width):
        return arrays, flow_px
    tops, lefts = _windows(arrays["masks"][:, 0], flow_px, side, generator)

    def cut(images: torch.Tensor) -> torch.Tensor:
        windows = zip(images, tops, lefts, strict=True)
        return torch.stack([image[..., top : top + side, left : left + side] for image, top, left in windows])

    def choose(images: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        return torch.where(shrunk[:, None, None, None], small.to(images.dtype), cut(images))

    shrunk = torch.rand(len(flow_px), generator=generator, device=flow_px.device) < whole
    # Mixed flow at an edge is nobody's, and masks are bits: those of the nearest pixel are taken, images are averaged.
    scale = flow_px.new_tensor([side / width, side / height])[:, None, None]
    made = {
        name: choose(value, functional.interpolate(value, (side, side), mode="area"))
        for name, value in arrays.items()
        if name != "masks"
    }
    made["masks"] = choose(arrays["masks"], functional.interpolate(arrays["masks"], (side, side), mode="nearest-exact"))
    small_flow = functional.interpolate(flow_px, (side, side), mode="nearest-exact") * scale
    return made, choose(flow_px, small_flow)


def _windows(
    masks: torch.Tensor, flow_px: torch.Tensor, side: int, generator: torch.Generator
) -> tuple[list[int], list[int]]:
    """Return the top and the left of a window of each sample."""
    height, width = flow_px.shape[-2:]
    moves = (flow_px.norm(dim=1) > 0.5) & ((masks & VISIBLE) > 0)
    # Half of the draws go to things, if there are any, a third to what moves, the others anywhere.
    chances = torch.ones_like(masks, dtype=torch.float32) / moves[0].numel()
    for group, share in ((moves, 2.0), (_things(masks, moves), 3.0)):
        chances = chances + share * group / group.flatten(1).sum(dim=1).clamp_min(1)[:, None, None]
    places = torch.multinomial(chances.flatten(1), 1, generator=generator)[:, 0]
    jitter = torch.randint(-side // 3, side // 3 + 1, (len(places), 2), generator=generator, device=places.device)
    tops = (places // width - side // 2 + jitter[:, 0]).clamp(0, height - side).tolist()
    lefts = (places % width - side // 2 + jitter[:, 1]).clamp(0, width - side).tolist()
    return tops, lefts
