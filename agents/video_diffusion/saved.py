"""A video model out of a checkpoint, whether it is the whole of it (`avdc`) or a part (`unipi`)."""

from __future__ import annotations

from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError, make_config
from flowbench.agents.video_diffusion.model import VideoDiffusion, VideoDiffusionConfig

#: Recipes whose checkpoints hold one.
WITH_VIDEO_MODEL = ("avdc", "unipi")
#: Of UniPi's checkpoints: the entry of the facts with its config, and the beginning of the names of its weights.
VIDEO_FACT, VIDEO_PREFIX = "video", "video."


def load_video_model(checkpoint: Checkpoint) -> VideoDiffusion:
    """Build and fill the network.

    Raises:
        CheckpointError: If the checkpoint is damaged or has no video model.
    """
    if checkpoint.recipe not in WITH_VIDEO_MODEL:
        raise CheckpointError(
            f"Checkpoint {checkpoint.folder} is of {checkpoint.recipe!r} and has no video model. Give one of "
            f"{' or '.join(WITH_VIDEO_MODEL)}."
        )
    if checkpoint.recipe == "avdc":
        model = VideoDiffusion(checkpoint.config_as(VideoDiffusionConfig), checkpoint.facts)
        checkpoint.fill(model)
        return model
    model = VideoDiffusion(make_config(VideoDiffusionConfig, checkpoint.facts[VIDEO_FACT]), checkpoint.facts)
    weights = checkpoint.weights
    own = {name[len(VIDEO_PREFIX) :]: value for name, value in weights.items() if name.startswith(VIDEO_PREFIX)}
    model.load_state_dict(own)
    return model.eval().requires_grad_(False)
