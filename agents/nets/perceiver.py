"""The Perceiver resampler: any number of tokens in, a fixed number out (Alayrac et al. 2022, Flamingo, section 3.1).

AVDC condenses CLIP's text tokens with it, in the variant of `imagen-pytorch`; GR-1 the patches of its image encoder, in
that of `flamingo-pytorch`. Both are one module here; `PerceiverConfig` names what differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from flowbench.errors import ShapeError


@dataclass(frozen=True)
class PerceiverConfig:
    """A resampler.

    Attributes:
        depth: Layers of attention and feed-forward.
        heads: Attention heads.
        head_width: Width of each.
        latents: Learned tokens that come out.
        pooled_latents: Further tokens, made from the mean of the tokens that came in.
        max_tokens: Learned positions; 0 for tokens whose order is not told.
        inner_norms: Unit-length queries and keys, and norms after attention and inside the feed-forward layer (Imagen);
            else one norm at the end (Flamingo).
        feedforward: Width of the feed-forward layer, in widths of a token.
    """

    depth: int
    heads: int
    head_width: int
    latents: int
    pooled_latents: int = 0
    max_tokens: int = 0
    inner_norms: bool = False
    feedforward: int = 4


#: AVDC, `flowdiffusion/unet.py` and its diffusion-policy baseline: `PerceiverResampler(dim=512, depth=2)`.
AVDC_PERCEIVER = PerceiverConfig(
    depth=2, heads=8, head_width=64, latents=64, pooled_latents=4, max_tokens=512, inner_norms=True
)
#: GR-1, `configs.json`: depth 3, 4 heads of 128, 9 latents.
GR1_PERCEIVER = PerceiverConfig(depth=3, heads=4, head_width=128, latents=9)


class PerceiverResampler(nn.Module):
    """Tokens of one width to a fixed number of tokens of that width."""

    def __init__(self, width: int, config: PerceiverConfig) -> None:
        super().__init__()
        self.config = config
        self.latents = nn.Parameter(torch.randn(config.latents, width))
        self.positions = nn.Embedding(config.max_tokens, width) if config.max_tokens else None
        self.from_mean = None
        if config.pooled_latents:
            self.from_mean = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width * config.pooled_latents))
        self.layers = nn.ModuleList(_Layer(width, config) for _ in range(config.depth))
        self.norm = nn.Identity() if config.inner_norms else nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Resample tokens.

        Args:
            tokens: (B, N, D).
            mask: (B, N) bool, True where there is a token; None for everywhere. AVDC passes none, so its padded text
                tokens are attended to, too.

        Returns:
            (B, pooled_latents + latents, D).
        """
        count = tokens.shape[1]
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        latents = self.latents.expand(len(tokens), -1, -1)
        if self.from_mean is not None:
            mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
            latents = torch.cat([self.from_mean(mean).unflatten(1, (-1, tokens.shape[-1])), latents], dim=1)
        if self.positions is not None:
            if count > self.config.max_tokens:
                raise ShapeError(f"{count} tokens came to a Perceiver with max_tokens={self.config.max_tokens}.")
            tokens = tokens + self.positions.weight[:count]
        for layer in self.layers:
            latents = layer(tokens, latents, mask)
        return self.norm(latents)


class _Layer(nn.Module):
    """Latents attend to tokens and to themselves, then each goes through two linear layers."""

    def __init__(self, width: int, config: PerceiverConfig) -> None:
        super().__init__()
        inner, hidden = config.heads * config.head_width, config.feedforward * width
        self.heads, self.inner_norms = config.heads, config.inner_norms
        self.norm_tokens, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query = nn.Linear(width, inner, bias=False)
        self.to_key_value = nn.Linear(width, 2 * inner, bias=False)
        self.to_latents = nn.Linear(inner, width, bias=False)
        self.norm_attended = nn.LayerNorm(width) if config.inner_norms else nn.Identity()
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden, bias=False),
            nn.GELU(),
            nn.LayerNorm(hidden) if config.inner_norms else nn.Identity(),
            nn.Linear(hidden, width, bias=False),
        )
        if config.inner_norms:
            self.query_scale = nn.Parameter(torch.ones(config.head_width))
            self.key_scale = nn.Parameter(torch.ones(config.head_width))

    def forward(self, tokens: torch.Tensor, latents: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        normed = self.norm_latents(latents)
        seen = torch.cat([self.norm_tokens(tokens), normed], dim=1)
        query = self._split(self.to_query(normed))
        key, value = (self._split(part) for part in self.to_key_value(seen).chunk(2, dim=-1))
        scale = None
        if self.inner_norms:
            query = F.normalize(query, dim=-1) * self.query_scale
            key = F.normalize(key, dim=-1) * self.key_scale
            scale = 8.0  # imagen-pytorch, PerceiverAttention
        visible = F.pad(mask, (0, latents.shape[1]), value=True)[:, None, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scale)
        latents = latents + self.norm_attended(self.to_latents(attended.transpose(1, 2).flatten(2)))
        return latents + self.feedforward(latents)

    def _split(self, vectors: torch.Tensor) -> torch.Tensor:
        """Turn (B, N, heads * head_width) into (B, heads, N, head_width)."""
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)
