"""Learned planners: AVDC's video model, and the one that imagines flow directly."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch

from flowbench.agent import Needs
from flowbench.agents.nets.observation import to_float
from flowbench.agents.planning.plan import Plan, Window
from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.devices import checked_device, multiplies_bf16
from flowbench.agents.video_diffusion.diffusion import make_scheduler
from flowbench.agents.video_diffusion.model import VideoDiffusionConfig
from flowbench.agents.video_diffusion.saved import WITH_VIDEO_MODEL, load_video_model
from flowbench.camera import CameraParams
from flowbench.errors import BadValue, unknown_name
from flowbench.observation import Observation
from flowbench.task import Task

PRECISIONS = ("auto", "bf16", "fp32")


class VideoDiffusionPlanner:
    """Imagines frames."""

    name = "video-diffusion"
    contents = ("frames", "changes")
    other = "flow-diffusion"

    def __init__(
        self,
        checkpoint: str | Checkpoint,
        device: str = "cpu",
        steps: int | None = None,
        guidance: float = 0.0,
        clip: bool = True,
        precision: Literal["auto", "bf16", "fp32"] = "auto",
    ) -> None:
        """Load the network.

        Args:
            checkpoint: Of `flowbench train --agent avdc` or `--agent unipi`.
            device: Where the network runs.
            steps: Diffusion steps, instead of the trained preset's; as many as in training are DDPM, fewer are DDIM.
            guidance: Weight of classifier-free guidance, which takes two model calls per step; AVDC's evaluation has 0.
            clip: Whether values are kept possible at every diffusion step. False is AVDC's DDIM.
            precision: `bf16` or `fp32`; `auto` is bf16 where the device multiplies it in hardware.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another agent.
            BadValue: If an argument does not fit the checkpoint.
        """
        if precision not in PRECISIONS:
            raise unknown_name("precision", str(precision), PRECISIONS, f"Planner {self.name}")
        if guidance < 0:
            raise BadValue(f"guidance is {guidance}; it is at least 0.")
        self.checkpoint = Checkpoint.open(checkpoint, *WITH_VIDEO_MODEL)
        self._device = checked_device(device)
        self._model = load_video_model(self.checkpoint).to(self._device)
        config = self.config
        if config.content not in self.contents:
            raise BadValue(
                f"Checkpoint {self.checkpoint.folder} imagines {config.content}, which planner {self.name} does not. Use "
                f"planner={self.other} (variant={'flow' if self.other == 'flow-diffusion' else 'full'} of agent avdc)."
            )
        self._steps = steps or config.sample_steps
        make_scheduler(config.diffusion_steps, self._steps)
        self._guidance, self._clip = float(guidance), bool(clip)
        if precision == "auto":
            precision = "bf16" if multiplies_bf16(self._device) else "fp32"
        self._precision = precision
        facts = self.checkpoint.facts
        self.needs = Needs(
            modalities=("rgb", "calibration"), image_size=tuple(facts["image_size"]), image_view=facts["image_view"]
        )
        described = json.dumps([asdict(config), facts], sort_keys=True)
        self.identity: Mapping[str, str | int | float | bool | None] = {
            "planner": self.name,
            "weights": self.checkpoint.weights_sha256,
            "config": hashlib.sha256(described.encode()).hexdigest(),
            "steps": self._steps,
            "guidance": self._guidance,
            "clip": self._clip,
            "precision": self._precision,
        }

    def reset(self, task: Task) -> None:
        """Check that the task is of a kind that the network knows.

        Any camera will do: the network is told what it looks at by the picture alone.

        Raises:
            CheckpointError: If the task is of another suite.
        """
        self.checkpoint.check_task(task)

    def plan(self, observation: Observation, seed: int) -> Plan:
        """Imagine what comes after the present picture; a function of picture, sentence and seed."""
        started = time.perf_counter()
        camera, image = observation.camera_params(), observation.rgb()
        first = self.config.fit(image)
        imagined = self.imagine(first, observation.instruction, seed)
        return Plan(
            observation.instruction,
            seed,
            _window(self.config.crop, camera),
            model_calls=self.model_calls,
            seconds=time.perf_counter() - started,
            **self._content(first, imagined),
        )

    @property
    def config(self) -> VideoDiffusionConfig:
        """Hyper-parameters of the network."""
        return self._model.config

    @property
    def model_calls(self) -> int:
        """Evaluations of the network for one plan."""
        return self._steps * (2 if self._guidance else 1)

    def imagine(self, first: np.ndarray, instruction: str, seed: int) -> np.ndarray:
        """Return float32 (T, h, w, C) of a fitted uint8 (h, w, 3) frame; see `VideoDiffusion.imagine`."""
        generator = torch.Generator().manual_seed(seed)
        bf16 = torch.autocast(self._device.type, torch.bfloat16) if self._precision == "bf16" else nullcontext()
        with bf16:
            clip = self._model.imagine(
                to_float(torch.from_numpy(first).to(self._device))[None],
                [instruction],
                generator,
                steps=self._steps,
                guidance=self._guidance,
                clip=self._clip,
            )
        return clip[0].float().movedim(1, -1).cpu().numpy()

    def _content(self, first: np.ndarray, imagined: np.ndarray) -> dict[str, np.ndarray]:
        return {"frames": np.concatenate([first[None], to_uint8(imagined)])}


class FlowDiffusionPlanner(VideoDiffusionPlanner):
    """Imagines the flow from each moment to the next, and no frames (AVDC Flow)."""

    name = "flow-diffusion"
    contents = ("flow",)
    other = "video-diffusion"

    def _content(self, first: np.ndarray, imagined: np.ndarray) -> dict[str, np.ndarray]:
        return {"flow_px": imagined}


def learned_planner(checkpoint: str | Checkpoint, **options: Any) -> VideoDiffusionPlanner:
    """Build the planner that a checkpoint is of, whichever it is."""
    opened = Checkpoint.open(checkpoint, *WITH_VIDEO_MODEL)
    return (FlowDiffusionPlanner if opened.config["content"] == "flow" else VideoDiffusionPlanner)(opened, **options)


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """Turn frames around [0, 1] into uint8.

    AVDC casts without clipping, so that an unclipped DDIM sample of 1.01 becomes black; that is not reproduced.
    """
    return np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)


def _window(crop: tuple[int, ...], camera: CameraParams) -> Window:
    """Return the part of the image that `ImageFit` shows the network."""
    if not crop:
        return Window.of_camera(camera)
    width, height = crop
    return Window((camera.width - width) // 2, (camera.height - height) // 2, width, height)
