"""Skill blocks of demonstrations: the current frame and the flow of the next H steps, computed once and kept.

Flow is estimated between successive frames as the network sees them, divided by their size (so that it means the same at any
resolution), averaged down to the size that is encoded, and kept beside the decoded frames. Past the last frame of a
demonstration nothing moves: a block that ended with it repeats its last frame, whose flow is zero.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from flowbench.agents.sof.config import SofConfig
from flowbench.agents.training.images import ImageFit
from flowbench.agents.training.recipe import Batch
from flowbench.agents.training.windows import FrameCache, WindowedDemos
from flowbench.data.dataset import DemoDataset, Origin
from flowbench.flow.estimators import FlowEstimator, make_estimator

VIDEO = "camera/rgb"
#: Name of the content in a batch: float16 (B, H, C, h, w).
CONTENT = "content"
#: Number of a sample in its data set, int64 (B,).
NUMBER = "number"


class SkillBlocks(WindowedDemos):
    """Every step of every demonstration, with what happens from there on.

    A batch holds, besides what `WindowedDemos` gives, `content` float16 (B, H, C, h, w): flow as a share of the image's width and
    height, or the difference of the next frames from the present one in [-1, 1]; and `number` int64 (B,).
    """

    def __init__(
        self,
        dataset: DemoDataset,
        config: SofConfig,
        labels: Mapping[str, np.ndarray] | None = None,
        cache: FrameCache | None = None,
        *,
        only: Sequence[int] | None = None,
    ) -> None:
        """Decode and estimate what is not there yet.

        Args:
            dataset: With `camera/rgb`, and whatever else a stage needs.
            config: Sizes, horizon and estimator.
            labels: As `WindowedDemos`.
            cache: Where decoded frames and flow are kept; None keeps flow in memory.
            only: Demonstrations whose content is worked out; None for all. Batches of others have none.
        """
        fits = {key: frame_fit(config) for key in dataset.keys if key.endswith("/rgb")}
        super().__init__(dataset, fits, labels, cache)
        self._config = config
        self._content = self._open_content(only)

    def batch(self, indices: np.ndarray) -> Batch:
        """See `TrainingData.batch`."""
        batch = super().batch(indices) | {NUMBER: torch.from_numpy(np.asarray(indices, np.int64))}
        demos, steps = self.places(indices)
        blocks = [self.content(demo, step) for demo, step in zip(demos, steps, strict=True)]
        return batch | {CONTENT: torch.from_numpy(np.stack(blocks))}

    def content(self, demo: int, step: int) -> np.ndarray:
        """Return the float16 (H, C, h, w) content of one block."""
        source, horizon = self._content[demo], self._config.horizon
        if self._config.content != "pixels":
            there = source[step : step + horizon]
            block = np.zeros((horizon, *source.shape[1:]), np.float16)
            block[: len(there)] = there
            return block
        wanted = np.minimum(step + 1 + np.arange(horizon), len(source) - 1)
        return ((source[wanted].astype(np.float32) - source[step].astype(np.float32)) / 255).astype(np.float16)

    @property
    def content_parts(self) -> list[np.ndarray]:
        """Of every demonstration: float16 (T - 1, 2, h, w) flow, or uint8 (T, 3, h, w) frames."""
        return self._content

    def _open_content(self, only: Sequence[int] | None) -> list[np.ndarray]:
        parts: list[np.ndarray | None] = []
        missing = []
        tag = self._content_tag() if self._cache else ""
        for number, origin in enumerate(self.dataset.origins):
            path = self._content_path(origin, tag) if self._cache else None
            parts.append(np.load(path, mmap_mode="r") if path and path.exists() else None)
            if parts[-1] is None and (only is None or number in only):
                missing.append((number, origin, path))
        if not missing:
            return parts
        name, make = self._maker()
        interval_s = 0.2 if sys.stderr.isatty() else 30.0
        for number, origin, path in tqdm(
            missing, name, unit="demo", disable=len(missing) < 2, leave=False, mininterval=interval_s
        ):
            made = make(origin)
            if path:
                self._write(path, made)
                made = np.load(path, mmap_mode="r")
            parts[number] = made
        self.dataset.close()
        return parts

    def _maker(self) -> tuple[str, Callable[[Origin], np.ndarray]]:
        """Return what makes the content of a demonstration, and what a progress bar calls it."""
        config, fit = self._config, content_fit(self._config)

        def frames_of(origin: Origin) -> np.ndarray:
            return fit(origin.reader.read(origin.demo, origin.keys[VIDEO], slice(None)))

        if config.exact:
            # Simulators are needed here alone.
            from flowbench.agents.sof.exact_content import ExactContent

            exact = ExactContent(config, self.dataset.specs[VIDEO].shape[1::-1])
            return "exact flow", lambda origin: exact(origin, origin.camera or config.camera)
        if config.content == "flow":
            estimate = make_flow(config)
            return f"flow by {estimate.name}", lambda origin: block_flow(estimate, frames_of(origin), config)
        return "small frames", lambda origin: np.ascontiguousarray(np.moveaxis(frames_of(origin), -1, 1))

    def _content_tag(self) -> str:
        """Return a hash of everything besides the frames that content depends on."""
        config = self._config
        facts: list[Any] = [config.content, config.flow_size]
        if config.exact:
            facts.append("exact")
        elif config.content == "flow":
            weights = getattr(make_flow(config), "weights_sha256", "")
            facts += [config.flow, weights, config.flow_upsample, config.flow_floor_px]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:10]

    def _content_path(self, origin: Origin, tag: str) -> Path:
        """Return where the content of one demonstration is kept: beside its frames."""
        path = self._cache.path(origin, VIDEO, content_fit(self._config))
        return path.with_name(f"{path.stem}-{self._config.content}-{tag}.npy")


def frame_fit(config: SofConfig) -> ImageFit:
    """Return how a frame becomes what the networks see."""
    return ImageFit(tuple(config.image_size), tuple(config.crop) or None)


def content_fit(config: SofConfig) -> ImageFit:
    """Return the size in which flow is estimated (that of the networks' frames), or in which pixels are kept."""
    if config.content != "pixels":
        return frame_fit(config)
    return ImageFit(tuple(config.flow_size), tuple(config.crop) or None)


def make_flow(config: SofConfig) -> FlowEstimator:
    """Build the estimator that the config names."""
    options: dict[str, Any] = {"upsample": config.flow_upsample} if config.flow_upsample else {}
    return make_estimator(config.flow, checkpoint=config.flow_checkpoint or None, **options)


def block_flow(estimate: FlowEstimator, frames: np.ndarray, config: SofConfig) -> np.ndarray:
    """Return float16 (T - 1, 2, h, w): the flow from each frame to the next, as a share of the image's width and height.

    Args:
        estimate: The estimator.
        frames: uint8 (T, H, W, 3), as the networks see them.
        config: The size h x w, and what is too little motion.
    """
    width, height = config.flow_size
    if len(frames) < 2:
        return np.zeros((0, 2, height, width), np.float16)
    # A few at a time: a network's memory grows with the batch.
    flow_px = np.concatenate(
        [
            estimate(frames[first : first + 9][:-1], frames[first : first + 9][1:])
            for first in range(0, len(frames) - 1, 8)
        ]
    )
    return shrink_flow(flow_px, config)


def shrink_flow(flow_px: np.ndarray, config: SofConfig) -> np.ndarray:
    """Return float16 (N, 2, h, w) shares of the image of float (N, H, W, 2) flow in pixels.

    Besides the estimator's noise (below the floor), an estimate can be wildly wrong where something appears; nothing moves
    farther than a quarter of the image in a step.
    """
    full = np.array(flow_px.shape[2:0:-1], np.float32)
    width, height = config.flow_size
    moving = np.linalg.norm(flow_px, axis=-1, keepdims=True) >= config.flow_floor_px
    share = np.clip(flow_px * moving / full, -0.25, 0.25)
    factor_y, factor_x = flow_px.shape[1] // height, flow_px.shape[2] // width
    small = share.reshape(len(share), height, factor_y, width, factor_x, 2).mean((2, 4))
    return np.ascontiguousarray(np.moveaxis(small, -1, 1)).astype(np.float16)


def content_scale(blocks: SkillBlocks, config: SofConfig, demonstrations: int = 60) -> float:
    """Return the root mean square of the content where it is not zero, over some demonstrations.

    Networks see the content divided by it.
    """
    if config.content == "pixels":
        return 0.1
    chosen: Iterable[int] = np.unique(np.linspace(0, len(blocks.content_parts) - 1, demonstrations).astype(int))
    total, count = 0.0, 0
    for number in chosen:
        part = np.asarray(blocks.content_parts[number], np.float32)
        moving = np.abs(part).max(1) > 0
        total += float((part**2).sum())
        count += part.shape[1] * int(moving.sum())
    return float(np.sqrt(total / count)) if count else 1.0
