"""The network of ViSA-Flow: a causal transformer over looks that imagines semantic flow and chooses actions.

The architecture is GR-1's (arXiv 2312.13139; bytedance/GR-1 at 4a2e956, `models/gr1.py` and `configs.json`), which ViSA-Flow's
descriptions fit; ViSA-Flow's own is not published. Per look the tokens are: sentence, state, and of every camera a few
latents and one token for the whole picture; then the queries, [ACT] and per camera [OBS]. Nothing ever attends to a query.

What departs from GR-1, besides sizes: what is imagined is the semantic flow image (`future="rgb"` for the picture), predicted
pixel by pixel with the coloured pixels weighing more instead of by normalised patches, because most patches of it are plain;
the small presets have an image encoder of their own, trained along, instead of a frozen MAE; a look predicts a chunk of
actions, of which those up to the next look are executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from flowbench.agents.nets.augment import AugmentConfig, augment
from flowbench.agents.nets.observation import to_float
from flowbench.agents.nets.text import make_text_encoder
from flowbench.agents.visa_flow.encoders import ENCODERS, make_image_encoder
from flowbench.errors import BadValue, unknown_name

FUTURES = ("semantic", "rgb", "none")
#: A coloured pixel of a semantic flow image counts as much as this many plain ones.
COLOURED_WEIGHT = 5.0
#: Two channels of a pixel differ by this much where it is coloured.
_COLOURED = 0.1


@dataclass(frozen=True)
class VisaFlowConfig:
    """Hyper-parameters of ViSA-Flow.

    Attributes:
        pretrain: Whether the first stage is there: semantic flow of all videos, without actions.
        future: What is imagined: `semantic` flow, the `rgb` picture (GR-1), or `none`.
        ahead: Looks that it lies ahead.
        future_weight: Weight of that loss beside the actions'; alone, in the first stage, it is 1.
        decoded_looks: Looks of a sample whose future is decoded, drawn anew each time; saves time and changes no expectation.
        cameras: The robot's, in order; empty takes all that the data has.
        image_size: (width, height) in pixels that cameras are seen in.
        target_size: (width, height) in pixels of what is imagined.
        patch: Side of its patches.
        encoder: `conv`, trained along, or `mae`, frozen.
        encoder_path: Folder of the frozen encoder's weights, instead of the hub's cache.
        queries: [OBS] tokens per camera.
        history: Looks that the transformer sees.
        width, layers, heads: Of the transformer.
        decoder_layers: Of the decoder of images.
        dropout: In both.
        text: Text encoder.
        proprio_parts: Components of the robot's state that are seen; empty for all.
        proprio_angles: Of those, the angles, which are seen as sine and cosine.
        binary_parts: Components of the action that are one of two values, -1 and 1: classified, as GR-1's gripper.
        stride: Steps from look to look, and actions executed of a chunk. As data is made; see `ClipSpec`.
        trace: Looks that a trace reaches back, as data is made.
        chunk: Actions predicted.
        brightness, contrast, saturation, hue, shift_px: Augmentation of what is seen, alike in all looks of a sample.
        proprio_noise: Noise on the state, in standard deviations.
    """

    pretrain: bool = True
    future: Literal["semantic", "rgb", "none"] = "semantic"
    ahead: int = 3
    future_weight: float = 1.0
    decoded_looks: int = 3
    cameras: tuple[str, ...] = ()
    image_size: tuple[int, int] = (96, 96)
    target_size: tuple[int, int] = (48, 48)
    patch: int = 8
    encoder: Literal["conv", "mae"] = "conv"
    encoder_path: str = ""
    queries: int = 4
    history: int = 10
    width: int = 128
    layers: int = 4
    heads: int = 4
    decoder_layers: int = 2
    dropout: float = 0.1
    text: str = "vocab"
    proprio_parts: tuple[int, ...] = ()
    proprio_angles: tuple[int, ...] = ()
    binary_parts: tuple[int, ...] = ()
    stride: int = 5
    trace: int = 3
    chunk: int = 10
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    shift_px: int = 0
    proprio_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.future not in FUTURES:
            raise unknown_name("future", self.future, FUTURES, "Agent visa-flow")
        if self.encoder not in ENCODERS:
            raise unknown_name("image encoder", self.encoder, ENCODERS, "Agent visa-flow")
        if self.pretrain and self.future == "none":
            raise BadValue("Without a future there is nothing to pre-train on; set pretrain=false as well.")
        if self.stride > self.chunk:
            raise BadValue(f"chunk is {self.chunk}, and {self.stride} actions are executed from look to look (stride).")
        if any(side % self.patch for side in self.target_size):
            raise BadValue(f"target_size is {list(self.target_size)}; both sides are multiples of patch, {self.patch}.")

    @property
    def augmentation(self) -> AugmentConfig:
        """What training does to images."""
        return AugmentConfig(self.shift_px, self.brightness, self.contrast, self.saturation, self.hue)


class VisaFlowNetwork(nn.Module):
    """Looks to what comes next, and to actions.

    Attributes:
        sentences: Those of the training data.
    """

    def __init__(self, config: VisaFlowConfig, facts: Mapping[str, Any]) -> None:
        """Build the network, untrained.

        Args:
            config: Hyper-parameters.
            facts: `instructions`, `cameras`, `proprio` (statistics, or None without labelled data), `actions` (likewise), bounds.
        """
        super().__init__()
        self.config = config
        self.sentences: list[str] = facts["instructions"]
        self.cameras: list[str] = facts["cameras"]
        width = config.width
        self.text = make_text_encoder(config.text, self.sentences)
        self.to_text = nn.Linear(self.text.width, width)
        self.encoder = make_image_encoder(config.encoder, width, config.image_size, config.encoder_path)
        self.camera = nn.Parameter(0.02 * torch.randn(len(self.cameras), width))
        #: Stands for a camera that a video lacks, and for the state that nobody measured.
        self.unseen = nn.Parameter(0.02 * torch.randn(len(self.cameras), self.encoder.tokens, width))
        self.state = StateEncoder(config, facts["proprio"])
        self.act_query = nn.Parameter(0.02 * torch.randn(1, width))
        self.future_queries = nn.Parameter(0.02 * torch.randn(len(self.cameras) * config.queries, width))
        self.look = nn.Embedding(config.history, width)
        seen = 2 + len(self.cameras) * self.encoder.tokens
        queries = 1 + len(self.future_queries)
        self.slot = nn.Parameter(0.02 * torch.randn(seen + queries, width))
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(width)
        self.action = ActionHead(config, facts)
        self.decoder = FutureDecoder(config) if config.future != "none" else None
        self._seen_tokens = seen
        is_query = (torch.arange(seen + queries) >= seen).repeat(config.history)
        self.register_buffer("mask", attention_mask(is_query), persistent=False)

    def embed(self, sentences: Sequence[str]) -> torch.Tensor:
        """Turn sentences into (B, text width)."""
        return self.text(sentences)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Turn pictures, float (N, 3, H, W) in [0, 1], into (N, P, D) tokens."""
        return self.encoder(images)

    def forward(
        self,
        sentences: torch.Tensor,
        pictures: torch.Tensor,
        proprio: torch.Tensor,
        has_camera: torch.Tensor,
        has_state: torch.Tensor,
    ) -> torch.Tensor:
        """Return (B, T, 1 + cameras * queries, D): what the queries of every look became.

        Args:
            sentences: (B, text width).
            pictures: (B, T, cameras, P, D) tokens of `encode`.
            proprio: (B, T, S) state as recorded.
            has_camera: bool (B, cameras).
            has_state: bool (B,).
        """
        count, looks = pictures.shape[:2]
        if looks > self.config.history:
            raise BadValue(f"{looks} looks are more than the {self.config.history} that this network was built for.")
        pictures = torch.where(has_camera[:, None, :, None, None], pictures, self.unseen.to(pictures.dtype))
        pictures = (pictures + self.camera[:, None]).flatten(2, 3)
        parts = [
            self.to_text(sentences)[:, None, None].expand(-1, looks, -1, -1),
            self.state(proprio, has_state)[:, :, None],
            pictures,
            self.act_query.expand(count, looks, -1, -1),
            self.future_queries.expand(count, looks, -1, -1),
        ]
        tokens = torch.cat([part.to(self.slot.dtype) for part in parts], dim=2)
        tokens = tokens + self.slot + self.look.weight[:looks, None]
        tokens = self.norm_in(tokens).flatten(1, 2)
        mask = self.mask[: tokens.shape[1], : tokens.shape[1]]
        for block in self.blocks:
            tokens = block(tokens, mask)
        return self.norm_out(tokens).unflatten(1, (looks, -1))[:, :, self._seen_tokens :]

    def loss(
        self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator, with_actions: bool
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch of `VisaFlowRecipe.data`, and its parts."""
        config = self.config
        seen = torch.stack([to_float(batch[f"{name}/rgb"][:, : config.history]) for name in self.cameras], dim=2)
        now = seen
        if training:
            seen = augment(seen.flatten(1, 2), config.augmentation, generator).unflatten(1, seen.shape[1:3])
        proprio = batch["proprio"]
        if training and config.proprio_noise:
            noise = torch.randn(proprio.shape, generator=generator, device=proprio.device)
            proprio = proprio + config.proprio_noise * self.state.std * noise
        pictures = self.encode(seen.flatten(0, 2)).unflatten(0, seen.shape[:3])
        sentences = self.embed(self.sentences)[batch["sentence"]]
        answers = self(sentences, pictures, proprio, batch["has_camera"], batch["has_state"])
        valid = ~batch["look_is_pad"]
        parts: dict[str, torch.Tensor] = {}
        loss = torch.zeros((), device=seen.device)
        if self.decoder is not None:
            parts["future"] = self._future_loss(batch, answers[:, :, 1:], now, valid, generator)
            loss = loss + (config.future_weight if with_actions else 1.0) * parts["future"]
        if with_actions:
            valid_actions = batch["action_valid"].bool() & valid[..., None]
            own, parts["action_error"] = self.action.loss(answers[:, :, 0], batch["action_chunk"], valid_actions)
            parts["action"] = own.detach()
            loss = loss + own
        return loss, {name: value.detach() for name, value in parts.items()}

    def imagine(self, answers: torch.Tensor) -> torch.Tensor:
        """Turn (..., cameras * queries, D) answers into (..., cameras, 3, h, w) pictures, about 0 to 1."""
        by_camera = answers.unflatten(-2, (len(self.cameras), self.config.queries))
        return self.decoder(by_camera.flatten(0, -3)).unflatten(0, by_camera.shape[:-2])

    def _future_loss(
        self,
        batch: Mapping[str, torch.Tensor],
        answers: torch.Tensor,
        now: torch.Tensor,
        valid: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        config = self.config
        rows = torch.arange(len(valid), device=valid.device)[:, None]
        # Looks at random among those that are there; padded ones come last, and count nothing.
        draws = torch.rand(valid.shape, generator=generator, device=generator.device).to(valid.device) + 2.0 * ~valid
        chosen = draws.argsort(dim=1)[:, : config.decoded_looks]
        imagined = self.imagine(answers[rows, chosen]).float()  # (B, L, cameras, 3, h, w)
        if config.future == "semantic":
            truth = torch.stack([batch[f"{name}/semantic"] for name in self.cameras], dim=2)[rows, chosen]
            truth = to_float(truth)
            coloured = (truth.amax(-3, keepdim=True) - truth.amin(-3, keepdim=True)) > _COLOURED
            weight = 1 + (COLOURED_WEIGHT - 1) * coloured.float()
        else:
            later = torch.stack([batch[f"{name}/rgb"][:, config.ahead :] for name in self.cameras], dim=2)
            later = to_float(later[rows, chosen])
            truth = functional.interpolate(later.flatten(0, 2), config.target_size[::-1], mode="area")
            truth = truth.unflatten(0, later.shape[:3])
            weight = torch.ones_like(truth[:, :, :, :1])
        counts = (valid[rows, chosen][:, :, None] & batch["has_camera"][:, None])[..., None, None, None]
        weight = weight * counts
        return (weight * (imagined - truth).square()).sum() / (3 * weight.sum()).clamp(min=1)


class StateEncoder(nn.Module):
    """The robot's state as one token: chosen components, angles as sine and cosine, the rest normalised."""

    def __init__(self, config: VisaFlowConfig, statistics: Mapping[str, Any] | None) -> None:
        super().__init__()
        statistics = statistics or {"mean": [0.0], "std": [1.0]}
        size = len(statistics["mean"])
        parts = list(config.proprio_parts or range(size))
        self.angles = [part for part in parts if part in config.proprio_angles]
        self.others = [part for part in parts if part not in config.proprio_angles]
        self.register_buffer("mean", torch.tensor(statistics["mean"]), persistent=False)
        self.register_buffer("std", torch.tensor(statistics["std"]), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(len(self.others) + 2 * len(self.angles), config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
        )
        self.unknown = nn.Parameter(0.02 * torch.randn(config.width))

    def forward(self, proprio: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return (B, T, D) of states (B, T, S), of which only those of samples (B,) that are `known` count."""
        angles = proprio[..., self.angles]
        normalised = ((proprio - self.mean) / self.std)[..., self.others].clamp(-5, 5)
        tokens = self.layers(torch.cat([normalised, angles.sin(), angles.cos()], dim=-1))
        return torch.where(known[:, None, None], tokens, self.unknown.to(tokens.dtype))


class Block(nn.Module):
    """A transformer layer, norms first; ReLU between its linear layers, as GR-1's GPT-2 has it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return (B, N, D) of (B, N, D); `mask` bool (N, N) says which keys (second axis) a query sees."""
        q, k, v = self.qkv(self.norm_attention(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        tokens = tokens + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return tokens + self.dropout(self.mlp(self.norm_mlp(tokens)))


def attention_mask(is_query: torch.Tensor) -> torch.Tensor:
    """Return bool (N, N): token i attends to token j if j is not later, and not a query token (GR-1).

    Args:
        is_query: bool (N,).
    """
    count = len(is_query)
    earlier = torch.ones(count, count, dtype=torch.bool).tril()
    return earlier & ~is_query[None, :]


class ActionHead(nn.Module):
    """[ACT] to a chunk of actions: GR-1's MLP, smooth L1 on what is continuous and cross-entropy on what is binary."""

    def __init__(self, config: VisaFlowConfig, facts: Mapping[str, Any]) -> None:
        super().__init__()
        size = len(facts["action_labels"])
        statistics = facts["actions"] or {"mean": [0.0] * size, "std": [1.0] * size}
        self.chunk, self.size = config.chunk, size
        binary = torch.zeros(size, dtype=torch.bool)
        binary[list(config.binary_parts)] = True
        for name, value in (("mean", torch.tensor(statistics["mean"])), ("std", torch.tensor(statistics["std"]))):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("binary", binary, persistent=False)
        self.register_buffer("low", torch.tensor(facts["action_low"]), persistent=False)
        self.register_buffer("high", torch.tensor(facts["action_high"]), persistent=False)
        half = config.width // 2
        self.layers = nn.Sequential(
            nn.Linear(config.width, half),
            nn.ReLU(),
            nn.Linear(half, half),
            nn.ReLU(),
            nn.Linear(half, config.chunk * size),
        )

    def forward(self, answers: torch.Tensor) -> torch.Tensor:
        """Return (..., chunk, A): normalised actions, and logits of what is binary."""
        return self.layers(answers).unflatten(-1, (self.chunk, self.size))

    def loss(
        self, answers: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean loss, and the mean absolute error of the actions that would be executed.

        Args:
            answers: (B, T, D).
            actions: (B, T, chunk or more, A).
            valid: bool (B, T, chunk or more).
        """
        raw = self(answers).float()
        actions, valid = actions[:, :, : self.chunk].clamp(self.low, self.high), valid[:, :, : self.chunk]
        continuous = functional.smooth_l1_loss(raw, (actions - self.mean) / self.std, reduction="none")
        either = functional.binary_cross_entropy_with_logits(raw, (actions > 0).float(), reduction="none")
        each = torch.where(self.binary, either, continuous).mean(-1)
        count = valid.sum().clamp(min=1)
        with torch.no_grad():
            error = ((self.choose(raw) - actions).abs().mean(-1) * valid).sum() / count
        return (each * valid).sum() / count, error

    def choose(self, raw: torch.Tensor) -> torch.Tensor:
        """Return (..., chunk, A) actions within the bounds of the suite; what is binary is -1 or 1."""
        actions = (raw * self.std + self.mean).clamp(self.low, self.high)
        return torch.where(self.binary, torch.where(raw > 0, 1.0, -1.0), actions)


class FutureDecoder(nn.Module):
    """[OBS] answers to a picture: a few transformer layers over them and one mask token per patch (GR-1's decoder)."""

    def __init__(self, config: VisaFlowConfig) -> None:
        super().__init__()
        width, patch = config.width, config.patch
        self.columns, self.rows = (side // patch for side in config.target_size)
        self.patch, self.queries = patch, config.queries
        self.enter = nn.Linear(width, width)
        self.patches = nn.Parameter(0.02 * torch.randn(self.rows * self.columns, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 3 * patch * patch)

    def forward(self, answers: torch.Tensor) -> torch.Tensor:
        """Return (N, 3, h, w) of (N, queries, D)."""
        patches = self.patches.expand(len(answers), -1, -1)
        tokens = torch.cat([self.enter(answers), patches.to(answers.dtype)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        pixels = self.leave(self.norm(tokens[:, self.queries :]))
        pixels = pixels.unflatten(-1, (3, self.patch, self.patch)).unflatten(1, (self.rows, self.columns))
        return pixels.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
