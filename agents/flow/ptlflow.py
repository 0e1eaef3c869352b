"""Flow networks of PTLFlow (Morimitsu), a collection of some fifty published ones with their weights.

PTLFlow is installed by hand: its limits on the versions of OpenCV, h5py and others are narrower than FlowBench's (docs/flow.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowbench.agents.flow.network import enlarged, shrunk_flow
from flowbench.agents.flow.weights import state_sha256
from flowbench.agents.training.devices import checked_device
from flowbench.errors import BadValue, MissingExtra, unknown_name
from flowbench.flow.estimators import check_frames

#: Weights that most networks have: trained on FlyingThings3D, the last synthetic stage before a benchmark's own data.
DEFAULT_WEIGHTS = "things"
_BATCH = {"cpu": 2, "cuda": 16}


class PtlFlow:
    """Any network of PTLFlow, by its name there: model=NAME."""

    def __init__(
        self, model: str, checkpoint: str | None = None, device: str = "cpu", upsample: float = 1.0, name: str = ""
    ) -> None:
        """Build it and load its weights; published ones are downloaded once, and checked by the hash in their name.

        Args:
            model: Name in PTLFlow, e.g. `neuflow2`.
            checkpoint: Name of published weights (`things`, `sintel`, `kitti`), or a checkpoint file of PTLFlow.
            device: Where to run.
            upsample: How much images are enlarged first.
            name: What tables call it; empty for `model`.

        Raises:
            MissingExtra: If PTLFlow is not installed.
            UnknownName: If it has no such network.
            BadValue: If there are no such weights, or they cannot be downloaded.
        """
        try:
            import ptlflow
        except ImportError as error:
            raise MissingExtra(
                f"Flow estimator {name or model} needs PTLFlow, which is not installed ({error}). Install it in an environment "
                "of its own: docs/flow.md says how."
            ) from error
        names = ptlflow.get_model_names()
        if model not in names:
            raise unknown_name("network", model, names, "PTLFlow")
        reference = ptlflow.get_model_reference(model)
        published = getattr(reference, "pretrained_checkpoints", {})
        # Some networks have no weights of that name; every one has a first.
        weights = checkpoint or (DEFAULT_WEIGHTS if DEFAULT_WEIGHTS in published else next(iter(published), None))
        if weights is None or (weights not in published and not Path(weights).is_file()):
            raise BadValue(
                f"{model} has no weights {weights!r}. Published are: {', '.join(published) or 'none'}; or give the path of a "
                "checkpoint file of PTLFlow."
            )
        try:
            self._network: Any = ptlflow.get_model(model, ckpt_path=weights)
        except (OSError, RuntimeError) as error:
            where = published.get(weights, weights)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadValue(
                f"The weights {weights} of {model} cannot be loaded ({reason}). Without a network, fetch {where} elsewhere, and "
                "give its path as the checkpoint."
            ) from error
        self.weights_sha256 = state_sha256(self._network.state_dict())
        self._device = checked_device(device)
        self._network.to(self._device).eval().requires_grad_(False)
        self._upsample = upsample
        self.name = (name or model) + ("" if checkpoint is None else f"({Path(checkpoint).stem})")
        self.name += "" if upsample == 1 else f"-{upsample:g}x"

    @torch.no_grad()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """See `FlowEstimator`."""
        check_frames(first, second)
        height, width = first.shape[1:3]
        flow_px = np.empty((*first.shape[:3], 2), np.float32)
        size = _BATCH.get(self._device.type, 4)
        for start in range(0, len(first), size):
            part = slice(start, start + size)
            pair = [self._to_input(frames[part]) for frames in (first, second)]
            # (B, 2, 3, h, w); networks pad to the multiples that they need, and take it off again.
            found = self._network({"images": torch.stack(pair, dim=1)})["flows"][:, 0]
            flow_px[part] = shrunk_flow(found.float(), height, width).permute(0, 2, 3, 1).cpu().numpy()
        return flow_px

    def _to_input(self, frames: np.ndarray) -> torch.Tensor:
        """Return float (B, 3, h, w) in [0, 1]; PTLFlow's channels are in OpenCV's order."""
        images = torch.from_numpy(np.ascontiguousarray(frames[..., ::-1])).to(self._device)
        # PTLFlow pads with views, which want memory in order.
        return enlarged(images.permute(0, 3, 1, 2).float() / 255, self._upsample).clamp(0, 1).contiguous()


def gmflow(checkpoint: str | None = None, device: str = "cpu", upsample: float = 1.0) -> PtlFlow:
    """GMFlow (Xu et al., CVPR 2022; AVDC's own choice), through PTLFlow."""
    return PtlFlow("gmflow", checkpoint, device, upsample)


def neuflow2(checkpoint: str | None = None, device: str = "cpu", upsample: float = 1.0) -> PtlFlow:
    """NeuFlow v2 (Zhang et al., 2024), the fast one, through PTLFlow."""
    return PtlFlow("neuflow2", checkpoint, device, upsample)


def flowformer_plus_plus(checkpoint: str | None = None, device: str = "cpu", upsample: float = 1.0) -> PtlFlow:
    """FlowFormer++ (Shi et al., CVPR 2023), through PTLFlow."""
    return PtlFlow("flowformer_pp", checkpoint, device, upsample, name="flowformer++")


def sea_raft(checkpoint: str | None = None, device: str = "cpu", upsample: float = 1.0) -> PtlFlow:
    """SEA-RAFT, middle size (Wang et al., ECCV 2024), through PTLFlow."""
    return PtlFlow("sea_raft_m", checkpoint, device, upsample, name="sea-raft")
