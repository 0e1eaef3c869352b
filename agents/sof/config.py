"""Hyper-parameters of SOF: what is seen, how skills are made, chosen and turned into actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowbench.agents.nets.observation import ObservationConfig
from flowbench.errors import BadValue, unknown_name

CONTENTS = ("flow", "pixels", "scene-flow")
#: Name of the flow that is read from states instead of estimated.
EXACT = "exact"
ACTION_SOURCES = ("flow", "skill")
#: Frames that one skill token stands for: two strides of 2 (QueST's `strides`, arXiv 2407.15840, appendix).
DOWNSAMPLE = 4


@dataclass(frozen=True)
class SofConfig(ObservationConfig):
    """Hyper-parameters of all three stages, besides what the policy and Flow2Action see.

    `extra_cameras`, e.g. one on the wrist, are seen by Flow2Action alone (experimental: the paper names small things and large
    rotations as its limits, and uses one third-person camera).

    Attributes:
        content: What skills are abstracted from: `flow`, `pixels` (the paper's next-frame ablation): by how much the next
            frames differ from the first, or `scene-flow`: exact displacements in the world (experimental).
        flow: Name of the flow estimator (`flowbench list flow`), the paper's is FlowFormer++; or `exact`, from stored states.
        flow_checkpoint: Its weights; "" for its own default.
        flow_upsample: How much it enlarges images first; 0 for its own default.
        flow_floor_px: Motion below this (pixels of the image that the network sees) counts as none.
        flow_size: (width, height) in pixels of the flow that is encoded and decoded.
        horizon: Frames of a skill block (H; 32 in the paper).
        levels: Of finite scalar quantisation; their product is the codebook's size. (8, 5, 5, 5) are 1000 codes (QueST's choice
            for "1024"), (4, 4, 4, 4, 4) exactly 1024.
        skill_width: Width of the autoencoder's transformers.
        skill_heads: Their attention heads.
        encoder_layers: Layers of the causal transformer of the encoder.
        decoder_layers: Layers of the transformer that turns tokens into one latent per frame.
        decoder_channels: Channels of the flow decoder on a quarter of the flow's resolution.
        decoded_frames: Frames of each block that a training step of the autoencoder decodes, drawn anew each time; 0 for all.
        l1_steps: Steps until absolute errors of the content count as much as squared ones.
        policy_width: Width of the policy.
        policy_layers: Its layers.
        policy_heads: Its attention heads.
        policy_proprio: Whether the policy sees the robot's state (the paper's does not).
        dropout: In the policy.
        skill_dropout: In the autoencoder's transformers.
        temperature: Of sampling tokens; 0 takes the most likely one.
        top_k: Only the k most likely tokens are sampled; 0 for all.
        act_from: What actions are worked out from: the decoded `flow` (Flow2Action), or the `skill` tokens themselves
            (Skill2Action, the paper's ablation).
        plan_frames: Frames of the plan that Flow2Action looks at.
        token_noise: Share of training samples of Flow2Action whose plan is decoded from wrong tokens: every component of a code
            is off by one level with probability 0.3.
        plan_dropout: Share of training samples of Flow2Action that see no plan.
        eyes_from_policy: Whether Flow2Action's image encoder starts from the policy's, which has seen every video.
        hidden: Widths of Flow2Action's MLP.
    """

    content: Literal["flow", "pixels", "scene-flow"] = "flow"
    flow: str = "dis"
    flow_checkpoint: str = ""
    flow_upsample: float = 0.0
    flow_floor_px: float = 0.1
    flow_size: tuple[int, int] = (64, 64)
    horizon: int = 32
    levels: tuple[int, ...] = (8, 5, 5, 5)
    skill_width: int = 256
    skill_heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 4
    decoder_channels: int = 64
    decoded_frames: int = 0
    l1_steps: int = 1500
    policy_width: int = 384
    policy_layers: int = 6
    policy_heads: int = 6
    policy_proprio: bool = False
    dropout: float = 0.1
    skill_dropout: float = 0.1
    temperature: float = 1.0
    top_k: int = 5
    act_from: Literal["flow", "skill"] = "flow"
    plan_frames: tuple[int, ...] = (0, 2, 4, 6, 8, 12, 16, 24)
    token_noise: float = 0.0
    plan_dropout: float = 0.0
    eyes_from_policy: bool = True
    hidden: tuple[int, ...] = (512, 512)

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, names in (("content", CONTENTS), ("act_from", ACTION_SOURCES)):
            if getattr(self, field) not in names:
                raise unknown_name(field, str(getattr(self, field)), names, "Agent sof")
        if self.horizon < DOWNSAMPLE or self.horizon % DOWNSAMPLE:
            raise BadValue(f"horizon is {self.horizon}; it is a multiple of {DOWNSAMPLE}, the frames of a token.")
        if not self.plan_frames or not 0 <= min(self.plan_frames) <= max(self.plan_frames) < self.horizon:
            raise BadValue(f"plan_frames is {list(self.plan_frames)}; each is from 0 to {self.horizon - 1}.")
        for field, size in (("flow_size", self.flow_size), ("image_size", self.image_size)):
            if len(size) != 2 or any(side % 8 or side < 16 for side in size):
                raise BadValue(f"{field} is {list(size)}; width and height are multiples of 8, at least 16.")
        if any(side % small for side, small in zip(self.image_size, self.flow_size, strict=True)):
            raise BadValue(
                f"image_size {list(self.image_size)} is not a multiple of flow_size {list(self.flow_size)}, and flow is averaged "
                "over whole pixels."
            )
        if self.history > 1:
            raise BadValue("Agent sof looks at one frame at a time; set history=1.")
        if self.extra_cameras and not self.camera:
            raise BadValue("With extra cameras the one that skills are seen through must be named: --set camera=NAME.")

    @property
    def tokens(self) -> int:
        """Tokens of a skill block."""
        return self.horizon // DOWNSAMPLE

    @property
    def exact(self) -> bool:
        """Whether the content is read from stored states."""
        return self.content == "scene-flow" or (self.content == "flow" and self.flow == EXACT)

    @property
    def channels(self) -> int:
        """Numbers of a pixel of the content."""
        return 2 if self.content == "flow" else 3
