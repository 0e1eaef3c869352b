"""RAFT as a flow estimator: torchvision's published weights, a file of them, or a checkpoint of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from flowbench.agents.flow.network import EncodedFrames, RaftConfig, build_raft, estimate
from flowbench.agents.flow.weights import PUBLISHED, published_state, state_of_file, state_sha256
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError, shipped_checkpoints
from flowbench.agents.training.devices import checked_device
from flowbench.errors import BadValue, UnknownName
from flowbench.flow.estimators import FramesFlow, check_frames
from flowbench.flow.opencv import DisRefinement

#: The checkpoint that ships with FlowBench, trained on exact flow of the simulators.
SHIPPED = "raft-small-sim"
RECIPE = "flow"
#: Torch on a CPU gains nothing from more, and a GPU has room for many.
_BATCH = {"cpu": 4, "cuda": 64}


class _Raft:
    """Loads one size of RAFT from wherever its weights are."""

    size: str
    default: str

    def __init__(
        self,
        checkpoint: str | None = None,
        device: str = "cpu",
        upsample: float | None = None,
        updates: int | None = None,
        dis_px: float | None = None,
    ) -> None:
        """Load the weights.

        Args:
            checkpoint: A name of published weights (`C_T_V2`), a `.pth` or `.safetensors` file of them, or a checkpoint of
                `flowbench train flow`: its folder, or the name of a shipped one. None takes the shipped one if there is one.
            device: Where to run.
            upsample: How much images are enlarged first; None takes what the checkpoint was trained for, else 1.
            updates: Refinements of the flow; None takes the checkpoint's, else 12.
            dis_px: How far DIS may move the flow where something moves (`DisRefinement`); None takes the checkpoint's, else 0.

        Raises:
            BadValue: If the weights are missing, damaged, or of another network.
        """
        estimator = f"raft-{self.size}"
        source = checkpoint or (SHIPPED if self.size == "small" and SHIPPED in shipped_checkpoints() else self.default)
        config, state = self._load(estimator, source)
        changes = {"upsample": upsample, "updates": updates, "dis_px": dis_px}
        config = replace(config, **{name: value for name, value in changes.items() if value is not None})
        self.config = config
        self.name = estimator + ("" if source == SHIPPED else f"({Path(source).stem})")
        self.name += f"-{upsample:g}x" if upsample is not None else ""
        self.name += f"-dis{dis_px:g}" if dis_px is not None else ""
        self._refinement = DisRefinement(config.dis_px) if config.dis_px else None
        self.weights_sha256 = state_sha256(state)
        self._device = checked_device(device)
        self._network = build_raft(config)
        try:
            self._network.load_state_dict(state)
        except RuntimeError as error:
            raise BadValue(
                f"The weights {source} are not those of {estimator}: {str(error).splitlines()[1].strip()}"
            ) from error
        self._network.to(self._device).eval().requires_grad_(False)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """See `FlowEstimator`."""
        check_frames(first, second)
        flow_px = estimate(
            self._network,
            first,
            second,
            upsample=self.config.upsample,
            updates=self.config.updates,
            device=self._device,
            batch_size=_BATCH.get(self._device.type, 16),
        )
        return self._refinement.refine(first, second, flow_px) if self._refinement else flow_px

    def open(self, frames: np.ndarray) -> FramesFlow:
        """See `LocalFlowEstimator`."""
        check_frames(frames, frames)
        encoded = EncodedFrames(
            self._network,
            frames,
            upsample=self.config.upsample,
            device=self._device,
            batch_size=_BATCH.get(self._device.type, 16),
        )

        def flow(first: Sequence[int], second: Sequence[int], box: tuple[int, int, int, int]) -> np.ndarray:
            flow_px = encoded.flow(first, second, self.config.updates, box)
            if self._refinement is None:
                return flow_px
            return self._refinement.refine(frames[list(first)], frames[list(second)], flow_px)

        return flow

    def _load(self, estimator: str, source: str) -> tuple[RaftConfig, dict[str, torch.Tensor]]:
        if source in PUBLISHED[estimator]:
            return RaftConfig(size=self.size), published_state(estimator, source)
        path = Path(source)
        if path.suffix in (".pth", ".pt", ".safetensors") or path.is_file():
            state = state_of_file(path)
            convex = self.size == "small" and any(name.startswith("mask_predictor.") for name in state)
            return RaftConfig(size=self.size, convex=convex), state
        try:
            opened = Checkpoint.open(source, RECIPE)
        except (CheckpointError, UnknownName) as error:
            names = ", ".join(PUBLISHED[estimator])
            raise BadValue(f"{error} Published weights of {estimator} are: {names}.") from error
        known = {name: opened.config[name] for name in RaftConfig.__dataclass_fields__ if name in opened.config}
        config = RaftConfig(**known)
        if config.size != self.size:
            raise BadValue(f"Checkpoint {source} is a raft-{config.size}; estimate with --flow raft-{config.size}.")
        return config, opened.weights


class RaftSmall(_Raft):
    """RAFT with 1 million parameters."""

    size = "small"
    default = "C_T_V2"


class RaftLarge(_Raft):
    """RAFT with 5.3 million parameters; torchvision's default weights."""

    size = "large"
    default = "C_T_SKHT_V2"
