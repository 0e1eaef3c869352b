"""Stage 1: flow sequences to a few discrete tokens and back, given the first frame.

Confirmed (arXiv 2512.20052): a convolutional and transformer encoder, causal in time; finite scalar quantisation; a decoder that
sees the initial frame, because a relative motion needs to know where things are. Layers and widths are QueST's (arXiv
2407.15840), whose skill autoencoder this is with flow in the place of actions; the two-dimensional parts are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from vector_quantize_pytorch import FSQ

from flowbench.agents.sof.config import SofConfig

#: (kernel, stride) of the causal convolutions over time (QueST).
TEMPORAL = ((5, 2), (3, 2), (3, 1))
#: A frame of content is read in this many patches a side, each as a few numbers.
PATCHES, PATCH_CHANNELS = 8, 8
#: Most of a patch stands still, so what is read from it starts out larger.
PATCH_GAIN = 4.0
#: Motion of the frame's features is predicted on a grid of this side, in units of this share of the half image.
WARP_SIDE, WARP_UNIT = 4, 0.25


class SkillAutoencoder(nn.Module):
    """Blocks of flow (or of pixel changes) to skill tokens and back.

    The content goes in and comes out in the unit of the data (`SkillBlocks`); inside it is divided by `scale`.
    """

    def __init__(self, config: SofConfig, scale: float) -> None:
        """Build it, untrained.

        Args:
            config: Hyper-parameters.
            scale: Size of the content (`content_scale`).
        """
        super().__init__()
        self.config = config
        # A buffer that is saved: whoever starts from these weights keeps their unit, whatever the data.
        self.register_buffer("scale", torch.tensor(scale))
        self.encoder = SkillEncoder(config)
        # FSQ is said to use its codebook without help; here most of it stayed unused (17 %), because nothing keeps what is
        # quantised centred and wide. Each component is brought to the distribution that rounds to equally likely levels.
        self.components = nn.Linear(config.skill_width, len(config.levels))
        self.balance = nn.BatchNorm1d(len(config.levels), affine=False)
        self.quantiser = FSQ(levels=list(config.levels))
        self.spread = nn.Linear(len(config.levels), config.skill_width)
        self.latents = FrameLatents(config)
        self.decoder = FlowDecoder(config)

    @property
    def codebook_size(self) -> int:
        """Number of different tokens."""
        return math.prod(self.config.levels)

    def tokens(self, content: torch.Tensor) -> torch.Tensor:
        """Return int64 (B, n) tokens of content (B, H, C, h, w)."""
        return self._quantised(content)[1].long()

    def codes(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, n, D): what the decoder makes of tokens (B, n)."""
        return self.spread(self.quantiser.indices_to_codes(tokens))

    def decode(self, tokens: torch.Tensor, frames: torch.Tensor, steps: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Return the content (B, K, C, h, w) of some steps of the blocks that tokens stand for.

        Args:
            tokens: (B, n).
            frames: Float (B, 3, H, W) in [0, 1]: the first frame of each.
            steps: The K steps of every block, or (B, K).
        """
        return self.decode_codes(self.codes(tokens), frames, steps)

    def decode_codes(
        self, codes: torch.Tensor, frames: torch.Tensor, steps: Sequence[int] | torch.Tensor
    ) -> torch.Tensor:
        """As `decode`, from codes (B, n, D)."""
        steps = torch.as_tensor(steps, device=codes.device)
        if steps.dim() == 1:
            steps = steps.expand(len(codes), -1)
        latents = self.latents(codes)
        chosen = latents.gather(1, steps[..., None].expand(-1, -1, latents.shape[-1]))
        return self.decoder(chosen, frames).float() * self.scale

    def reconstruct(
        self, content: torch.Tensor, frames: torch.Tensor, steps: Sequence[int] | torch.Tensor
    ) -> torch.Tensor:
        """Return content (B, K, C, h, w) of some steps after quantisation; gradients pass straight through it."""
        return self.decode_codes(self.spread(self._quantised(content)[0]), frames, steps)

    def _quantised(self, content: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the quantised components (B, n, levels), through which gradients pass straight, and their numbers (B, n)."""
        components = self.components(self.encoder(content / self.scale)).float()
        return self.quantiser(self.balance(components.transpose(1, 2)).transpose(1, 2))


class SkillEncoder(nn.Module):
    """Content (B, H, C, h, w) to (B, H / 4, D); token i sees frames up to 4 i + 3 and none after."""

    def __init__(self, config: SofConfig) -> None:
        super().__init__()
        width = config.skill_width
        # Linear, because how fast something moves must survive: a norm here would divide by it.
        width_px, height_px = config.flow_size
        patch = (height_px // PATCHES, width_px // PATCHES)
        self.patches = nn.Conv2d(config.channels, PATCH_CHANNELS, patch, stride=patch)
        with torch.no_grad():
            self.patches.weight.mul_(PATCH_GAIN)
        self.project = nn.Sequential(nn.Linear(PATCH_CHANNELS * PATCHES**2, width), nn.GELU(), nn.Linear(width, width))
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, kernel, stride) for kernel, stride in TEMPORAL)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in TEMPORAL)
        self.register_buffer("positions", sinusoids(config.tokens, width), persistent=False)
        layer = nn.TransformerEncoderLayer(
            width, config.skill_heads, 4 * width, config.skill_dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, config.encoder_layers, enable_nested_tensor=False)
        mask = nn.Transformer.generate_square_subsequent_mask(config.tokens)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, content: torch.Tensor) -> torch.Tensor:
        """Return (B, n, D) of content (B, H, C, h, w)."""
        flat = self.patches(content.flatten(0, 1)).flatten(1)
        hidden = self.project(flat).unflatten(0, content.shape[:2])  # (B, H, D)
        for (kernel, stride), convolution, norm in zip(TEMPORAL, self.convolutions, self.norms, strict=True):
            # Padded so that the last input of an output is the last of its own stride, and none after it.
            padded = functional.pad(hidden.transpose(1, 2), (kernel - stride, 0))
            # Norms over channels only: GroupNorm, as in QueST, averages over time and lets the future leak.
            hidden = functional.mish(norm(convolution(padded).transpose(1, 2)))
        return self.transformer(hidden + self.positions.to(hidden.dtype), mask=self.mask, is_causal=True)


class FrameLatents(nn.Module):
    """Codes (B, n, D) to one latent per frame (B, H, D): queries are positions, which attend to the codes."""

    def __init__(self, config: SofConfig) -> None:
        super().__init__()
        width = config.skill_width
        self.register_buffer("positions", sinusoids(config.horizon, width), persistent=False)
        self.register_buffer("code_positions", sinusoids(config.tokens, width), persistent=False)
        layer = nn.TransformerDecoderLayer(
            width, config.skill_heads, 4 * width, config.skill_dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerDecoder(layer, config.decoder_layers)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return (B, H, D) of codes (B, n, D)."""
        queries = self.positions.to(codes.dtype).expand(len(codes), -1, -1)
        return self.transformer(queries, codes + self.code_positions.to(codes.dtype))


class FlowDecoder(nn.Module):
    """A latent per frame and the first frame to content: features of the frame, moved and modulated, on 1/4 and 1/2 of its size.

    Flow of a later frame is seen where things are by then, so the latent says how far features have moved (a smooth warp). It
    also says how a few layers move, and the maps how much of each is seen at a pixel: with free maps instead, that an arm moves
    as a whole has to be learned at every place where an arm can be.
    """

    #: Motions of a frame.
    LAYERS = 8
    #: Channels and side of the coarse map that a latent is spread to: it says where, besides what.
    SPREAD = (16, 4)

    def __init__(self, config: SofConfig) -> None:
        super().__init__()
        channels, half = config.decoder_channels, config.decoder_channels // 2
        # Of the image to the flow: the stem leads to half of the flow's size.
        ratio = config.image_size[0] // config.flow_size[0]
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(ratio),
            nn.Conv2d(3 * ratio**2, half, 3, padding=1),
            nn.GroupNorm(4, half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, stride=2, padding=1),
            nn.GroupNorm(4, half),
            nn.ReLU(),
        )
        self.down = nn.Sequential(
            nn.Conv2d(half, channels, 3, stride=2, padding=1), nn.GroupNorm(4, channels), nn.ReLU()
        )
        spread, side = self.SPREAD
        self.spread = nn.Linear(config.skill_width, spread * side * side)
        self.enter = nn.Conv2d(channels + spread, channels, 3, padding=1)
        self.blocks = nn.ModuleList(_Modulated(channels, config.skill_width) for _ in range(2))
        self.up = nn.Conv2d(channels, half, 1)
        self.fine = _Modulated(half, config.skill_width)
        self.motions = nn.Linear(config.skill_width, self.LAYERS * config.channels)
        self.warp = nn.Linear(config.skill_width, 2 * WARP_SIDE * WARP_SIDE)
        # Nothing moves at first; the maps are not small, or neither factor of the product would learn.
        for layer in (self.motions, self.warp):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.leave = nn.Conv2d(half, 4 * self.LAYERS, 3, padding=1)

    def forward(self, latents: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Return (B, K, C, h, w) of latents (B, K, D) and frames (B, 3, H, W) in [0, 1]."""
        count, steps = latents.shape[:2]
        fine = self.stem(frames * 2 - 1)
        coarse = self.down(fine)
        flat = latents.flatten(0, 1)
        spread, side = self.SPREAD
        where = functional.interpolate(
            self.spread(flat).unflatten(1, (spread, side, side)), coarse.shape[-2:], mode="bilinear"
        )
        offsets = self.warp(flat).float().unflatten(1, (2, WARP_SIDE, WARP_SIDE)) * WARP_UNIT
        coarse, fine = (moved(maps.repeat_interleave(steps, 0), offsets) for maps in (coarse, fine))
        hidden = self.enter(torch.cat([coarse.to(where.dtype), where], 1))
        for block in self.blocks:
            hidden = block(hidden, flat)
        hidden = functional.interpolate(self.up(hidden), fine.shape[-2:], mode="nearest")
        hidden = self.fine(hidden + fine.to(hidden.dtype), flat)
        shares = functional.pixel_shuffle(self.leave(functional.relu(hidden)), 2)  # (B K, L, h, w)
        motions = self.motions(flat).unflatten(1, (self.LAYERS, -1)).to(shares.dtype)
        return torch.einsum("blhw,blc->bchw", shares, motions).unflatten(0, (count, steps))


class _Modulated(nn.Module):
    """A residual block whose channels a latent scales and shifts."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(4, channels) for _ in range(2))
        self.affine = nn.Linear(width, 2 * channels)

    def forward(self, maps: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        scale, shift = self.affine(latents)[..., None, None].to(maps.dtype).chunk(2, dim=1)
        hidden = self.first(functional.relu(self.norms[0](maps)))
        return maps + self.second(functional.relu(self.norms[1](hidden) * (1 + scale) + shift))


def moved(maps: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Return float32 maps (B, C, h, w) read at places that are off by offsets (B, 2, n, n), right and down, in half images."""
    height, width = maps.shape[-2:]
    rows, columns = (
        (torch.arange(side, device=maps.device, dtype=torch.float32) + 0.5) * 2 / side - 1 for side in (height, width)
    )
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]
    places = places + functional.interpolate(offsets, (height, width), mode="bilinear")
    # Autocast on a CPU knows no grid_sample in bfloat16.
    return functional.grid_sample(maps.float(), places.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Return (length, width) sine and cosine positions (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]
