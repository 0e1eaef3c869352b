"""Stage 2: which skill comes next. A decoder-only transformer over what is seen and told, then the tokens one by one.

Confirmed (arXiv 2512.20052): decoder-only, image observation and instruction in, tokens out, autoregressive. The context of a
task token, an observation token and a start token is QueST's (arXiv 2407.15840); sizes are in the presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from flowbench.agents.nets.observation import ObservationNetwork
from flowbench.agents.sof.config import SofConfig

#: Keys and values (B, heads, length, size) of every layer so far.
Cache = list[tuple[torch.Tensor, torch.Tensor] | None]


class SkillPolicy(nn.Module):
    """What is seen and told to skill tokens."""

    def __init__(self, config: SofConfig, facts: Mapping[str, Any], codebook_size: int) -> None:
        """Build it, untrained.

        Args:
            config: Hyper-parameters.
            facts: As `ObservationNetwork`.
            codebook_size: Number of different tokens.
        """
        super().__init__()
        width = config.policy_width
        self.count = config.tokens
        seen = replace(config, proprio=config.proprio and config.policy_proprio, extra_cameras=())
        self.eyes = ObservationNetwork(seen, facts)
        self.task = nn.Linear(self.eyes.text.width, width)
        self.seen = nn.Linear(self.eyes.observed_width, width)
        self.start = nn.Parameter(torch.zeros(width))
        self.embedding = nn.Embedding(codebook_size, width)
        #: Task, observation, start, and all tokens but the last.
        self.positions = nn.Parameter(torch.zeros(2 + self.count, width))
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            _Layer(width, config.policy_heads, config.dropout) for _ in range(config.policy_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, codebook_size)
        for parameter in (self.start, self.positions, self.embedding.weight):
            nn.init.normal_(parameter, std=0.02)

    def context(
        self,
        images: list[torch.Tensor],
        sentence_features: torch.Tensor,
        cameras: torch.Tensor,
        proprio: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the (B, 3, D) context; arguments as `ObservationNetwork.observe`."""
        seen = self.seen(self.eyes.observe(images, sentence_features, cameras, proprio))
        task = self.task(sentence_features)
        return torch.stack([task.to(seen.dtype), seen, self.start.to(seen.dtype).expand_as(seen)], dim=1)

    def forward(self, context: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, n, codes) logits of every token, each given those before it.

        Args:
            context: (B, 3, D).
            tokens: (B, n); the last one is not looked at.
        """
        sequence = torch.cat([context, self.embedding(tokens[:, :-1]).to(context.dtype)], dim=1)
        return self._run(sequence, 0, None)[:, context.shape[1] - 1 :]

    @torch.no_grad()
    def choose(
        self,
        context: torch.Tensor,
        temperature: float = 1.0,
        top_k: int = 0,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return int64 (B, n) tokens, one after the other; keys and values of those before are kept.

        Args:
            context: (B, 3, D).
            temperature: 0 takes the most likely token.
            top_k: Only the k most likely take part; 0 for all.
            generator: Source of randomness, on the CPU.
        """
        cache: Cache = [None] * len(self.layers)
        entering, place, chosen = context, 0, []
        for _ in range(self.count):
            logits = self._run(entering, place, cache)[:, -1].float()
            place += entering.shape[1]
            token = draw(logits, temperature, top_k, generator)
            chosen.append(token)
            entering = self.embedding(token)[:, None].to(context.dtype)
        return torch.stack(chosen, dim=1)

    def _run(self, sequence: torch.Tensor, place: int, cache: Cache | None) -> torch.Tensor:
        hidden = self.dropout(sequence + self.positions[place : place + sequence.shape[1]].to(sequence.dtype))
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, cache, number)
        return self.head(self.norm(hidden))


def draw(logits: torch.Tensor, temperature: float, top_k: int, generator: torch.Generator | None) -> torch.Tensor:
    """Return int64 (B,) numbers drawn from logits (B, N)."""
    if temperature <= 0:
        return logits.argmax(dim=-1)
    if top_k:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    # On the CPU, so that a seed means the same on every device.
    probabilities = (logits / temperature).softmax(dim=-1).cpu()
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(logits.device)


class _Layer(nn.Module):
    """Causal self-attention and an MLP, both pre-norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads, self._dropout = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attend = nn.Linear(width, 3 * width)
        self.leave = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, hidden: torch.Tensor, cache: Cache | None, number: int) -> torch.Tensor:
        count, length, width = hidden.shape
        parts = self.attend(self.norms[0](hidden)).view(count, length, 3, self._heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if cache is not None:
            if cache[number] is not None:
                key, value = (torch.cat(pair, dim=2) for pair in zip(cache[number], (key, value), strict=True))
            cache[number] = key, value
        # Later ones come one at a time and see everything; the first call has the context, which is causal, too.
        causal = key.shape[2] == length and length > 1
        dropout = self._dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=causal)
        hidden = hidden + self.leave(mixed.transpose(1, 2).reshape(count, length, width))
        return hidden + self.mlp(self.norms[1](hidden))
