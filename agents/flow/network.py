"""RAFT (Teed and Deng, ECCV 2020) in torchvision's implementation, made fit for pictures of small things.

RAFT looks for motion on an eighth of the image's resolution, and the objects of a robot scene are six to thirty pixels wide.
So images are enlarged before they enter (`upsample`), and the small network, which torchvision enlarges its result of
bilinearly, gets the large one's learned (convex) upsampling if `convex` is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torchvision.models import optical_flow

from flowbench.errors import BadValue

#: RAFT's correlation pyramid halves the features three times, and they are an eighth of the image: torchvision refuses less.
SMALLEST_SIDE_PX = 128
#: RAFT wants sides that are multiples of this.
STRIDE_PX = 8
_MEAN, _RANGE = 127.5, 127.5


@dataclass(frozen=True)
class RaftConfig:
    """What a network is.

    Attributes:
        size: `small` (1.0 million parameters) or `large` (5.3 million).
        convex: Whether the small network has learned upsampling (0.2 million parameters more).
        upsample: How much images are enlarged before they enter.
        updates: Refinements of the flow when it estimates.
        dis_px: How far DIS may move the estimated flow where something moves, in pixels; 0 leaves it alone.
    """

    size: Literal["small", "large"] = "small"
    convex: bool = False
    upsample: float = 1.0
    updates: int = 12
    dis_px: float = 0.0

    def __post_init__(self) -> None:
        if self.size not in ("small", "large"):
            raise BadValue(f"size is {self.size!r}; expected small or large.")
        if not 0.25 <= self.upsample <= 8 or self.updates < 1:
            raise BadValue(
                f"upsample is {self.upsample} and updates {self.updates}; expected 0.25 to 8, and at least 1."
            )
        if self.dis_px < 0:
            raise BadValue(f"dis_px is {self.dis_px}; expected 0 (DIS is not asked) or more.")


def build_raft(config: RaftConfig) -> optical_flow.RAFT:
    """Build the network, untrained."""
    make = {"small": optical_flow.raft_small, "large": optical_flow.raft_large}[config.size]
    network = make(weights=None)
    if config.size == "small" and config.convex:
        # The large network's own part, fed with the small one's 96 hidden channels; `multiplier` as there.
        network.mask_predictor = optical_flow.raft.MaskPredictor(in_channels=96, hidden_size=128, multiplier=0.25)
    return network


def to_input(frames: torch.Tensor) -> torch.Tensor:
    """Return float (B, 3, H, W) in [-1, 1] of uint8 (B, H, W, 3)."""
    return (frames.permute(0, 3, 1, 2).float() - _MEAN) / _RANGE


def enlarged(images: torch.Tensor, scale: float) -> torch.Tensor:
    """Return (B, C, h, w) images enlarged by about `scale`, to sides that RAFT takes."""
    size = [max(SMALLEST_SIDE_PX, STRIDE_PX * round(side * scale / STRIDE_PX)) for side in images.shape[-2:]]
    if size == list(images.shape[-2:]):
        return images
    return nn.functional.interpolate(images, size, mode="bicubic", align_corners=False, antialias=scale < 1)


def shrunk_flow(flow_px: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return (B, 2, h, w) flow as that of images of another size, in its pixels."""
    before = flow_px.shape[-2:]
    if tuple(before) == (height, width):
        return flow_px
    flow_px = nn.functional.interpolate(flow_px, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return flow_px * flow_px.new_tensor([width / before[1], height / before[0]])[:, None, None]


@torch.no_grad()
def estimate(
    network: optical_flow.RAFT,
    first: np.ndarray,
    second: np.ndarray,
    *,
    upsample: float,
    updates: int,
    device: torch.device,
    batch_size: int,
) -> np.ndarray:
    """Return the float32 (B, H, W, 2) flow between uint8 (B, H, W, 3) images, in their own pixels.

    A plan's or a video's pictures belong to up to four pairs, so each is encoded once, and only the last refinement is
    enlarged: the network's own `forward`, with less to do.
    """
    height, width = first.shape[1:3]
    flow_px = np.empty((*first.shape[:3], 2), np.float32)
    frames, (of_first, of_second) = _different(first, second)
    features, contexts = [], []
    for start in range(0, len(frames), batch_size):
        images = enlarged(to_input(torch.from_numpy(frames[start : start + batch_size]).to(device)), upsample)
        features.append(network.feature_encoder(images))
        contexts.append(network.context_encoder(images))
    if frames.size:
        features, contexts = torch.cat(features), torch.cat(contexts)
    for start in range(0, len(first), batch_size):
        part = slice(start, start + batch_size)
        found = _refined(
            network, features[of_first[part]], features[of_second[part]], contexts[of_first[part]], updates
        )
        flow_px[part] = shrunk_flow(found, height, width).permute(0, 2, 3, 1).cpu().numpy()
    return flow_px


def _refined(
    network: optical_flow.RAFT, first: torch.Tensor, second: torch.Tensor, context: torch.Tensor, updates: int
) -> torch.Tensor:
    """Return the (B, 2, h, w) flow of enlarged images after the last update, from what the encoders made of them."""
    network.corr_block.build_pyramid(first, second)
    hidden_size = network.update_block.hidden_state_size
    hidden, context = context[:, :hidden_size].tanh(), context[:, hidden_size:].relu()
    start = optical_flow.raft.make_coords_grid(len(first), *first.shape[-2:]).to(first.device)
    there = start
    for _ in range(updates):
        matches = network.corr_block.index_pyramid(centroids_coords=there)
        hidden, step = network.update_block(hidden, context, matches, there - start)
        there = there + step
    mask = None if network.mask_predictor is None else network.mask_predictor(hidden)
    return optical_flow.raft.upsample_flow(flow=there - start, up_mask=mask)


def _different(*batches: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """Return the images of all batches (B, H, W, 3) without repetitions, and where those of each batch are among them."""
    numbers: dict[bytes, int] = {}
    found = [[numbers.setdefault(image.tobytes(), len(numbers)) for image in batch] for batch in batches]
    images = [np.frombuffer(image, np.uint8).reshape(batches[0].shape[1:]) for image in numbers]
    return np.stack(images) if images else batches[0], found
