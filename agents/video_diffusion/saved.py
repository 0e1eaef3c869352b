"""A video model out of a checkpoint, whether it is the whole of it (`avdc`) or a part (`unipi`)."""

from __future__ import annotations

from flowbench.agents.training.checkpoint import Checkpoint, make_config
from flowbench.agents.video_diffusion.model import VideoDiffusion, VideoDiffusionConfig

#: Recipes whose checkpoints hold one.
WITH_VIDEO_MODEL = ("avdc", "unipi")
#: Of UniPi's checkpoints: the entry of the facts with its settings, and the name of its part of the network.
VIDEO_FACT, VIDEO_PART = "video", "video"


def load_video_model(checkpoint: Checkpoint) -> VideoDiffusion:
    """Build and fill the network of a checkpoint of `WITH_VIDEO_MODEL`.

    Raises:
        CheckpointError: If the checkpoint is damaged.
    """
    if VIDEO_FACT in checkpoint.facts:
        model = VideoDiffusion(make_config(VideoDiffusionConfig, checkpoint.facts[VIDEO_FACT]), checkpoint.facts)
        checkpoint.fill(model, VIDEO_PART)
    else:
        model = VideoDiffusion(checkpoint.config_as(VideoDiffusionConfig), checkpoint.facts)
        checkpoint.fill(model)
    return model
