"""The network of AVDC's planner: a sentence and a first frame to the frames (or the flow) that follow.

AVDC (Ko et al., arXiv 2310.08576, appendix; `flowdiffusion/goal_diffusion.py` and `unet.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from flowbench.agents.nets.augment import centre_crop, random_crop
from flowbench.agents.nets.observation import to_float
from flowbench.agents.nets.perceiver import AVDC_PERCEIVER, PerceiverResampler
from flowbench.agents.nets.text import make_text_encoder
from flowbench.agents.training.images import ImageFit
from flowbench.agents.video_diffusion.diffusion import draw, make_scheduler, min_snr_weights, noised
from flowbench.agents.video_diffusion.unet import SpaceTimeUNet
from flowbench.errors import BadValue, unknown_name

CONTENTS = ("frames", "changes", "flow")


@dataclass(frozen=True)
class VideoDiffusionConfig:
    """Hyper-parameters; the defaults are AVDC's for Meta-World.

    Attributes:
        content: What is imagined: `frames`; `changes`, their difference from the first one, most of which is zero, so that what
            stands still need not be drawn again; or `flow`, from each frame to the next (AVDC Flow).
        content_range: What stands for 1 in the network: of `changes`, as a share of full brightness; of `flow`, as a share
            of the frame's width and height (AVDC: 1, flow in pixels / 128). Of no meaning for `frames`.
        frames: Number of frames, the first included.
        crop: (width, height) cut out of the middle of a frame first; () keeps the whole frame.
        random_crop: (width, height) out of which `crop` is cut at random in training (AVDC's `_DA` checkpoints: 160x160); ()
            cuts the middle.
        image_size: (width, height) in pixels that the network sees.
        channels: As `SpaceTimeUNet`.
        multipliers: As `SpaceTimeUNet`.
        blocks: As `SpaceTimeUNet`.
        attention_at: As `SpaceTimeUNet`.
        head_width: As `SpaceTimeUNet`.
        dropout: As `SpaceTimeUNet`.
        text: Name of the text encoder.
        text_width: Width of a learned word (`vocab`).
        text_heads: Heads of the Perceiver.
        text_latents: Learned tokens of the Perceiver.
        text_dropout: Share of the samples whose sentence is zeroed in training, for guidance.
        symmetric_condition: Whether the first frame is in [-1, 1], as the frames to imagine are. AVDC never normalises it: it
            stays in [0, 1].
        diffusion_steps: Diffusion steps of training.
        min_snr: Gamma of the min-SNR weights; 0 weights every step alike.
        sample_steps: Diffusion steps of drawing, where a planner is not told otherwise; fewer than `diffusion_steps` are DDIM.
        flow: Estimator of the flow that is learned (`flowbench list flow`).
    """

    content: Literal["frames", "changes", "flow"] = "frames"
    content_range: float = 1.0
    frames: int = 8
    crop: tuple[int, ...] = ()
    random_crop: tuple[int, ...] = ()
    image_size: tuple[int, int] = (128, 128)
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 3, 4, 5)
    blocks: int = 2
    attention_at: tuple[int, ...] = (8, 16)
    head_width: int = 32
    dropout: float = 0.0
    text: str = "clip"
    text_width: int = 64
    text_heads: int = 8
    text_latents: int = 64
    text_dropout: float = 0.1
    symmetric_condition: bool = False
    diffusion_steps: int = 100
    min_snr: float = 5.0
    sample_steps: int = 100
    flow: str = "dis"

    def __post_init__(self) -> None:
        if self.content not in CONTENTS:
            raise unknown_name("content", self.content, CONTENTS, "A video diffusion model")
        if self.frames < 2:
            raise BadValue(f"frames is {self.frames}; it is at least 2, the first included.")
        for name in ("crop", "random_crop"):
            value = getattr(self, name)
            if value and len(value) != 2:
                raise BadValue(f"{name} is {list(value)}; it is [width, height] in pixels, or [].")
        if self.random_crop and not (
            self.crop and all(a >= b for a, b in zip(self.random_crop, self.crop, strict=True))
        ):
            raise BadValue(f"random_crop is {list(self.random_crop)}; it holds crop, which is {list(self.crop)}.")
        if not 1 <= self.sample_steps <= self.diffusion_steps:
            raise BadValue(
                f"sample_steps is {self.sample_steps}; it is from 1 to diffusion_steps ({self.diffusion_steps})."
            )
        if self.content_range <= 0:
            raise BadValue(f"content_range is {self.content_range}; it is above 0.")

    @property
    def fit(self) -> ImageFit:
        """How a frame becomes what the network sees."""
        return ImageFit(tuple(self.image_size), tuple(self.crop) or None)

    @property
    def training_fit(self) -> ImageFit:
        """How a recorded frame is kept for training: with a margin, if crops are random."""
        if not self.random_crop:
            return self.fit
        size = [
            round(side * wide / cut)
            for side, wide, cut in zip(self.image_size, self.random_crop, self.crop, strict=True)
        ]
        return ImageFit(tuple(size), tuple(self.random_crop))


class VideoDiffusion(nn.Module):
    """Noisy clips, a first frame and a sentence to velocities; and from noise to clips.

    A clip is (B, T, C, H, W) with T = frames - 1 and C = 3, or 2 for flow.

    Attributes:
        sentences: The instructions of the training data.
    """

    def __init__(self, config: VideoDiffusionConfig, facts: Mapping[str, Any]) -> None:
        """Build the network.

        Args:
            config: Hyper-parameters.
            facts: `instructions`.
        """
        super().__init__()
        self.config = config
        self.sentences: list[str] = facts["instructions"]
        self.channels = 2 if config.content == "flow" else 3
        self.length = config.frames - 1
        options = {"width": config.text_width} if config.text == "vocab" else {}
        self.text = make_text_encoder(config.text, self.sentences, **options)
        self.perceiver = PerceiverResampler(
            self.text.width, replace(AVDC_PERCEIVER, heads=config.text_heads, latents=config.text_latents)
        )
        self.unet = SpaceTimeUNet(
            self.channels + 3,
            self.channels,
            self.length,
            channels=config.channels,
            multipliers=config.multipliers,
            blocks=config.blocks,
            attention_at=config.attention_at,
            head_width=config.head_width,
            dropout=config.dropout,
        )
        self.from_text = nn.Linear(self.text.width, self.unet.embedding_width)
        self.scheduler = make_scheduler(config.diffusion_steps)
        weights = (
            min_snr_weights(self.scheduler, config.min_snr) if config.min_snr else torch.ones(config.diffusion_steps)
        )
        self.register_buffer("weights", weights, persistent=False)

    def forward(
        self,
        noisy: torch.Tensor,
        steps: torch.Tensor,
        first: torch.Tensor,
        tokens: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return the velocity of noisy clips.

        Args:
            noisy: (B, T, C, H, W).
            steps: (B,) diffusion steps.
            first: (B, 3, H, W) in [0, 1].
            tokens: (B, L, D) of the sentence; zeros for no sentence.
            mask: (B, L), True where there is a token.

        Returns:
            (B, T, C, H, W).
        """
        # AVDC normalises the frames to imagine to [-1, 1] and leaves this one as it is.
        condition = 2 * first - 1 if self.config.symmetric_condition else first
        beside = condition[:, None].expand(-1, self.length, -1, -1, -1)
        embedding = self.from_text(self.perceiver(tokens, mask)).mean(dim=1)
        return self.unet(torch.cat([noisy, beside.to(noisy)], dim=2), steps, embedding)

    def loss(
        self, batch: Mapping[str, torch.Tensor], training: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the weighted error of the velocity in a batch of `VideoClips`, and the unweighted one."""
        frames, flow_px = self._cropped(to_float(batch["camera/rgb"]), batch.get("flow_px"), training, generator)
        first = frames[:, 0]
        clean = self.encode(frames[:, 1:], first, flow_px)
        noisy, steps, target = noised(self.scheduler, clean, generator)
        tokens, mask = (part[batch["sentence"]] for part in self.text.tokens(self.sentences))
        if training and self.config.text_dropout:
            drawn = torch.rand(len(tokens), generator=generator, device=tokens.device)
            tokens = tokens * (drawn >= self.config.text_dropout)[:, None, None]
        error = (self(noisy, steps, first, tokens, mask).float() - target).square().flatten(1).mean(dim=1)
        return (error * self.weights[steps]).mean(), {"velocity_error": error.mean().detach()}

    @torch.no_grad()
    def imagine(
        self,
        first: torch.Tensor,
        sentences: Sequence[str],
        generator: torch.Generator,
        *,
        steps: int | None = None,
        guidance: float = 0.0,
        clip: bool = True,
    ) -> torch.Tensor:
        """Draw clips.

        Args:
            first: (B, 3, H, W) first frames in [0, 1].
            sentences: What is asked, one for each.
            generator: The only source of randomness; on the CPU.
            steps: Diffusion steps; None takes the config's.
            guidance: Weight w of classifier-free guidance, (1 + w) conditional - w unconditional. AVDC's evaluation has 0.
            clip: Whether values are kept possible at every diffusion step. AVDC does so in DDPM and not in DDIM.

        Returns:
            Float (B, T, 3, H, W) frames, not confined to [0, 1], or (B, T, 2, H, W) flow in pixels.
        """
        config = self.config
        widest = 1.0 if config.content == "frames" else 1.0 / config.content_range
        scheduler = make_scheduler(config.diffusion_steps, steps or config.sample_steps, clip=widest if clip else None)
        tokens, mask = self.text.tokens(sentences)

        def velocity(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
            told = self(noisy, step, first, tokens, mask).float()
            if not guidance:
                return told
            untold = self(noisy, step, first, torch.zeros_like(tokens), mask).float()
            return (1 + guidance) * told - guidance * untold

        shape = (len(first), self.length, self.channels, *first.shape[-2:])
        return self.decode(draw(scheduler, velocity, shape, generator, first.device), first)

    def encode(self, frames: torch.Tensor, first: torch.Tensor, flow_px: torch.Tensor | None = None) -> torch.Tensor:
        """Turn (B, T, 3, H, W) frames in [0, 1], or (B, T, 2, H, W) flow in pixels, into what is noised."""
        if self.config.content == "frames":
            return 2 * frames - 1
        if self.config.content == "changes":
            return (frames - first[:, None]) / self.config.content_range
        return flow_px / self._flow_unit(flow_px)

    def decode(self, clips: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Undo `encode`."""
        if self.config.content == "frames":
            return (clips + 1) / 2
        if self.config.content == "changes":
            return clips * self.config.content_range + first[:, None]
        return clips * self._flow_unit(clips)

    def _flow_unit(self, flow: torch.Tensor) -> torch.Tensor:
        """Return the (2, 1, 1) pixels, right and down, that stand for 1."""
        height, width = flow.shape[-2:]
        return flow.new_tensor([width, height]).view(2, 1, 1) * self.config.content_range

    def _cropped(
        self, frames: torch.Tensor, flow_px: torch.Tensor | None, training: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Cut a sample's frames and flow alike to the network's size; they come with a margin if crops are random."""
        width, height = self.config.image_size
        if frames.shape[-2:] == (height, width):
            return frames, flow_px
        parts = [part.flatten(1, 2) for part in (frames, flow_px) if part is not None]
        stacked = torch.cat(parts, dim=1)
        cut = random_crop(stacked, height, width, generator) if training else centre_crop(stacked, height, width)
        cut = [
            part.unflatten(1, (-1, channels))
            for part, channels in zip(cut.split([part.shape[1] for part in parts], dim=1), (3, 2), strict=False)
        ]
        return cut[0], cut[1] if flow_px is not None else None
