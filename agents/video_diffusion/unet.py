"""The U-Net that denoises a short clip, given its first frame, a diffusion step and a sentence.

After AVDC (`flowdiffusion/guided_diffusion/guided_diffusion/unet.py` and `nn.py`, `UnetMW` in `flowdiffusion/unet.py`): the
U-Net of guided-diffusion in which every 3x3 convolution is followed by one over time. Diffusers' clip U-Nets are other
networks and cannot be set to this one (docs/decisions says where they differ); its attention and step embedding are used.

Everything runs on (B * T, C, H, W) tensors in channels-last memory, in which both "frames as batch" and "time as an axis" are
views: no convolution, norm or attention copies its input. On a CPU that is half of the speed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn
from torch.nn import functional

from flowbench.agents.video_diffusion.norm import group_norm
from flowbench.errors import BadValue

#: Groups of guided-diffusion's GroupNorm (`normalization` in its `nn.py`), and the least channels of one in the widths that
#: it was used with. A norm of single channels would take away what the embedding adds to them.
NORM_GROUPS, GROUP_CHANNELS = 32, 4


class SpaceTimeUNet(nn.Module):
    """Noisy clips to velocity (or noise) of the same shape.

    Attributes:
        embedding_width: Width of the embedding of step and sentence.
        factor: Height and width of a clip are multiples of this.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        frames: int,
        *,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 3, 4, 5),
        blocks: int = 2,
        attention_at: Sequence[int] = (8, 16),
        head_width: int = 32,
        dropout: float = 0.0,
    ) -> None:
        """Build the network; the defaults are AVDC's for Meta-World.

        Args:
            channels_in: Channels of a noisy frame and what is put beside it.
            channels_out: Channels of a denoised frame.
            frames: Length T of a clip.
            channels: Width at full resolution, in multiples of which the other widths are given.
            multipliers: Widths at full, half, quarter ... resolution.
            blocks: Residual blocks at each resolution, one more on the way up.
            attention_at: Downsampling factors at which positions of a frame attend to each other, besides the coarsest.
            head_width: Channels of an attention head.
            dropout: In residual blocks.

        Raises:
            BadValue: If attention heads do not divide a width.
        """
        super().__init__()
        self.frames = frames
        self.embedding_width = 4 * channels
        self.factor = 2 ** (len(multipliers) - 1)
        self.step_waves = Timesteps(channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.step = TimestepEmbedding(channels, self.embedding_width)

        def level(entering: int, leaving: int, factor: int) -> nn.ModuleList:
            parts = [_Block(entering, leaving, self.embedding_width, frames, dropout)]
            if factor in attention_at:
                parts.append(_attention(leaving, head_width))
            return nn.ModuleList(parts)

        widths = [multiplier * channels for multiplier in multipliers]
        self.enter = _SpaceTimeConv(channels_in, widths[0], frames)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        across, width = [widths[0]], widths[0]
        for depth, own in enumerate(widths):
            parts = nn.ModuleList()
            for _ in range(blocks):
                parts.append(level(width, own, 2**depth))
                across.append(width := own)
            self.down.append(parts)
            if depth + 1 < len(widths):
                self.shrink.append(_SpaceTimeConv(own, own, frames, stride=2))
                across.append(own)
        self.middle = nn.ModuleList(
            [
                _Block(width, width, self.embedding_width, frames, dropout),
                _attention(width, head_width),
                _Block(width, width, self.embedding_width, frames, dropout),
            ]
        )
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for depth in reversed(range(len(widths))):
            parts = nn.ModuleList()
            for _ in range(blocks + 1):
                parts.append(level(width + across.pop(), widths[depth], 2**depth))
                width = widths[depth]
            self.up.append(parts)
            if depth:
                self.grow.append(_SpaceTimeConv(width, width, frames))
        self.leave_norm = _SpaceTimeNorm(width, frames)
        self.leave = _SpaceTimeConv(width, channels_out, frames)
        self.to(memory_format=torch.channels_last)

    def forward(self, clips: torch.Tensor, steps: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Denoise.

        Args:
            clips: (B, T, channels_in, H, W).
            steps: (B,) diffusion steps.
            embedding: (B, embedding_width), added to that of the step: the sentence.

        Returns:
            (B, T, channels_out, H, W).

        Raises:
            BadValue: If height or width cannot be halved as often as the network does.
        """
        if clips.shape[-1] % self.factor or clips.shape[-2] % self.factor:
            raise BadValue(
                f"Frames of {clips.shape[-1]}x{clips.shape[-2]} cannot be halved {len(self.shrink)} times. Choose an "
                f"image_size in multiples of {self.factor}, or fewer multipliers."
            )
        embedding = self.step(self.step_waves(steps).to(embedding.dtype)) + embedding
        embedding = embedding.repeat_interleave(self.frames, dim=0)  # (B * T, width)
        maps = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        maps = self.enter(maps)
        across = [maps]
        for depth, parts in enumerate(self.down):
            for part in parts:
                maps = _through(part, maps, embedding)
                across.append(maps)
            if depth < len(self.shrink):
                maps = self.shrink[depth](maps)
                across.append(maps)
        maps = _through(self.middle, maps, embedding)
        for depth, parts in enumerate(self.up):
            for part in parts:
                maps = _through(part, torch.cat([maps, across.pop()], dim=1), embedding)
            if depth < len(self.grow):
                maps = self.grow[depth](functional.interpolate(maps, scale_factor=2.0, mode="nearest"))
        maps = self.leave(functional.silu(self.leave_norm(maps)))
        return maps.unflatten(0, (-1, self.frames))


def _through(parts: nn.ModuleList, maps: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    for part in parts:
        maps = part(maps, embedding) if isinstance(part, _Block) else part(maps)
    return maps


class _SpaceTimeConv(nn.Module):
    """A 3x3 convolution of every frame, then one over three frames at every position, which at first changes nothing.

    The convolution over time looks one frame back and one ahead, as AVDC's code does (`Conv3d` pads both sides), although a
    comment there calls it causal.
    """

    def __init__(self, entering: int, leaving: int, frames: int, stride: int = 1) -> None:
        super().__init__()
        self.frames = frames
        self.space = nn.Conv2d(entering, leaving, 3, stride=stride, padding=1)
        self.time = nn.Conv2d(leaving, leaving, (3, 1), padding=(1, 0))  # of (B, C, T, H * W)
        nn.init.zeros_(self.time.weight)
        with torch.no_grad():
            self.time.weight[:, :, 1, 0].fill_diagonal_(1.0)
        nn.init.zeros_(self.time.bias)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = self.space(maps)
        height, width = maps.shape[-2:]
        rows = maps.permute(0, 2, 3, 1).reshape(-1, self.frames, height * width, maps.shape[1])
        moved = self.time(rows.permute(0, 3, 1, 2))
        return moved.permute(0, 2, 3, 1).reshape(-1, height, width, maps.shape[1]).permute(0, 3, 1, 2)


class _SpaceTimeNorm(nn.GroupNorm):
    """A group norm whose statistics are those of a whole clip, not of a frame."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__(_groups(channels), channels)
        self.frames = frames

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        count, channels, height, width = maps.shape
        clips = maps.permute(0, 2, 3, 1).reshape(-1, self.frames * height, width, channels).permute(0, 3, 1, 2)
        normed = group_norm(clips, self.num_groups, self.weight, self.bias, self.eps)
        return normed.permute(0, 2, 3, 1).reshape(count, height, width, channels).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """Two convolutions with a residual; the embedding is added between them."""

    def __init__(self, entering: int, leaving: int, embedding_width: int, frames: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = _SpaceTimeNorm(entering, frames)
        self.first = _SpaceTimeConv(entering, leaving, frames)
        self.embedding = nn.Linear(embedding_width, leaving)
        self.second_norm = _SpaceTimeNorm(leaving, frames)
        self.dropout = nn.Dropout(dropout)
        self.second = _SpaceTimeConv(leaving, leaving, frames)
        # Without time: AVDC's convolutions have it only where their kernel is larger than 1.
        self.residual = nn.Conv2d(entering, leaving, 1) if entering != leaving else nn.Identity()

    def forward(self, maps: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        moved = self.first(functional.silu(self.first_norm(maps)))
        moved = moved + self.embedding(functional.silu(embedding))[:, :, None, None]
        moved = self.second(self.dropout(functional.silu(self.second_norm(moved))))
        return moved + self.residual(maps)


def _groups(channels: int) -> int:
    """Return into how many groups channels are normed: 32 from 128 channels on, fewer in narrower networks.

    >>> [_groups(channels) for channels in (128, 160, 640, 96, 32, 8)]
    [32, 32, 32, 16, 8, 2]
    """
    groups = NORM_GROUPS
    while groups > 1 and (channels % groups or channels // groups < GROUP_CHANNELS):
        groups //= 2
    return groups


def _attention(channels: int, head_width: int) -> Attention:
    """Return attention between the positions of each frame, with a group norm before and a residual around it."""
    if channels % head_width:
        raise BadValue(
            f"Attention heads of {head_width} channels do not divide a width of {channels}. Choose another head_width or "
            "channels."
        )
    return Attention(
        channels,
        heads=channels // head_width,
        dim_head=head_width,
        norm_num_groups=_groups(channels),
        bias=True,
        residual_connection=True,
    )
