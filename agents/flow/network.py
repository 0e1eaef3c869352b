"""RAFT (Teed and Deng, ECCV 2020) in torchvision's implementation, made fit for pictures of small things.

RAFT looks for motion on an eighth of the image's resolution, and the objects of a robot scene are six to thirty pixels wide.
So images are enlarged before they enter (`upsample`), and the small network, which torchvision enlarges its result of
bilinearly, gets the large one's learned (convex) upsampling if `convex` is set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
#: Where the flow of a part is wanted, features around it take part, too: a refinement looks two of them far.
RIM_CELLS = 4
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


class EncodedFrames:
    """Frames as RAFT's encoders see them, each encoded once; flow between any two of them, of all of it or of a part.

    The network's own `forward` does the same with more work: it encodes both images of every pair, enlarges the result of
    every refinement, and refines the whole image.
    """

    def __init__(
        self, network: optical_flow.RAFT, frames: np.ndarray, *, upsample: float, device: torch.device, batch_size: int
    ) -> None:
        """Encode uint8 (N, H, W, 3) frames, `batch_size` at a time."""
        self._network, self._batch_size = network, batch_size
        self._shape = frames.shape[1:3]
        features, contexts = [], []
        with torch.no_grad():
            for start in range(0, len(frames), batch_size):
                images = enlarged(to_input(torch.from_numpy(frames[start : start + batch_size]).to(device)), upsample)
                features.append(network.feature_encoder(images))
                contexts.append(network.context_encoder(images))
        self._features, self._contexts = (torch.cat(parts) if parts else None for parts in (features, contexts))

    @torch.no_grad()
    def flow(
        self, first: Sequence[int], second: Sequence[int], updates: int, box: tuple[int, int, int, int] | None = None
    ) -> np.ndarray:
        """Return the float32 (B, H, W, 2) flow in pixels of the frames.

        Args:
            first: Indices of the frames that flow starts in.
            second: Indices of those it leads to, as many.
            updates: Refinements.
            box: Left, top, width and height of the part that is wanted, in pixels; flow is 0 elsewhere. None wants all.
        """
        height, width = self._shape
        flow_px = np.zeros((len(first), height, width, 2), np.float32)
        for start in range(0, len(first), self._batch_size):
            part = slice(start, start + self._batch_size)
            found = self._refined(list(first[part]), list(second[part]), updates, box)
            flow_px[part] = shrunk_flow(found, height, width).permute(0, 2, 3, 1).cpu().numpy()
        if box is not None:
            left, top, box_width, box_height = box
            outside = np.ones((height, width), bool)
            outside[top : top + box_height, left : left + box_width] = False
            flow_px[:, outside] = 0.0
        return flow_px

    def _refined(
        self, first: list[int], second: list[int], updates: int, box: tuple[int, int, int, int] | None
    ) -> torch.Tensor:
        """Return the (B, 2, h, w) flow of enlarged images after the last update."""
        network = self._network
        rows, columns = self._cells(box)
        _fill_pyramid(network.corr_block, self._features[first][:, :, rows, columns], self._features[second])
        context = self._contexts[first][:, :, rows, columns]
        hidden_size = network.update_block.hidden_state_size
        hidden, context = context[:, :hidden_size].tanh(), context[:, hidden_size:].relu()
        grid = optical_flow.raft.make_coords_grid(len(first), *self._features.shape[-2:]).to(self._features.device)
        start = there = grid[:, :, rows, columns]
        for _ in range(updates):
            matches = network.corr_block.index_pyramid(centroids_coords=there)
            hidden, step = network.update_block(hidden, context, matches, there - start)
            there = there + step
        mask = None if network.mask_predictor is None else network.mask_predictor(hidden)
        found = optical_flow.raft.upsample_flow(flow=there - start, up_mask=mask)
        if box is None:
            return found
        height, width = (STRIDE_PX * side for side in self._features.shape[-2:])
        whole = found.new_zeros(len(first), 2, height, width)
        whole[..., *(slice(cells.start * STRIDE_PX, cells.stop * STRIDE_PX) for cells in (rows, columns))] = found
        return whole

    def _cells(self, box: tuple[int, int, int, int] | None) -> tuple[slice, slice]:
        """Return the rows and columns of features that the flow in a box is refined from."""
        sides = self._features.shape[-2:]
        if box is None:
            return slice(0, sides[0]), slice(0, sides[1])
        left, top, width, height = box
        found = []
        for start, length, pixels, cells in zip((top, left), (height, width), self._shape, sides):
            scale = cells / pixels
            lowest, highest = math.floor(start * scale), math.ceil((start + length) * scale)
            found.append(slice(max(0, lowest - RIM_CELLS), min(cells, highest + RIM_CELLS)))
        return found[0], found[1]


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

    A plan's or a video's pictures belong to up to four pairs; each is encoded once.
    """
    frames, (of_first, of_second) = _different(first, second)
    encoded = EncodedFrames(network, frames, upsample=upsample, device=device, batch_size=batch_size)
    return encoded.flow(of_first, of_second, updates)


def _fill_pyramid(block: optical_flow.raft.CorrBlock, first: torch.Tensor, second: torch.Tensor) -> None:
    """Do what `CorrBlock.build_pyramid` does, for (B, C, h, w) features of a part of the first images."""
    count, channels, height, width = second.shape
    volume = torch.matmul(first.flatten(2).transpose(1, 2), second.flatten(2)) / torch.tensor(channels).sqrt()
    volume = volume.reshape(-1, 1, height, width)
    block.corr_pyramid = [volume]
    for _ in range(block.num_levels - 1):
        volume = nn.functional.avg_pool2d(volume, kernel_size=2, stride=2)
        block.corr_pyramid.append(volume)


def _different(*batches: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """Return the images of all batches (B, H, W, 3) without repetitions, and where those of each batch are among them."""
    numbers: dict[bytes, int] = {}
    found = [[numbers.setdefault(image.tobytes(), len(numbers)) for image in batch] for batch in batches]
    images = [np.frombuffer(image, np.uint8).reshape(batches[0].shape[1:]) for image in numbers]
    return np.stack(images) if images else batches[0], found
