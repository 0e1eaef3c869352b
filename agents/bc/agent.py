"""Behaviour cloning in an episode: look, predict a chunk, act."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch

from flowbench.agent import Needs
from flowbench.agents.bc.model import BCConfig, BCNetwork, to_float
from flowbench.agents.training.checkpoint import Checkpoint, shipped_checkpoint
from flowbench.agents.training.devices import checked_device
from flowbench.agents.training.images import ImageFit
from flowbench.camera import CameraParams, CameraPose
from flowbench.errors import BadValue, ShapeError
from flowbench.observation import Observation
from flowbench.task import Task


class BCAgent:
    """A trained behaviour-cloning network.

    Attributes:
        checkpoint: What it was made of.
        needs: Images of the size that it was trained on.
    """

    def __init__(
        self,
        checkpoint: str | Checkpoint,
        device: str = "cpu",
        execute: int | None = None,
        ensemble: float | None = None,
    ) -> None:
        """Load a checkpoint.

        Args:
            checkpoint: Folder, name of a shipped one, or `hf://organisation/name`.
            device: Where the network runs.
            execute: Actions executed between two looks, instead of the trained number.
            ensemble: Temporal ensembling instead of the trained one (see `BCConfig`); looks at every step.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another agent.
            BadValue: If an argument does not fit the checkpoint.
        """
        self.checkpoint = Checkpoint.open(checkpoint, "bc", "bc-r3m")
        config: BCConfig = self.checkpoint.config_as(BCConfig)
        self._ensemble = config.ensemble if ensemble is None else float(ensemble)
        self._execute = 1 if self._ensemble else int(config.execute if execute is None else execute)
        if not 1 <= self._execute <= config.chunk:
            raise BadValue(
                f"execute is {execute}; this checkpoint predicts {config.chunk} actions, so it is from 1 to that."
            )
        self._device = checked_device(device)
        self._model = BCNetwork(config, self.checkpoint.facts).to(self._device)
        self.checkpoint.fill(self._model)
        self._config = config
        self._fit = ImageFit(tuple(config.image_size), tuple(config.crop) or None)
        facts = self.checkpoint.facts
        self._size = tuple(facts["image_size"])
        self.needs = Needs(
            modalities=("rgb",),
            extra_cameras=tuple(config.extra_cameras),
            image_size=self._size,
            image_view=facts["image_view"],
            action_convention=facts["action_convention"],
        )

    @staticmethod
    def default_checkpoint(suite: str) -> str | None:
        """Return the name of the shipped checkpoint for a suite; None if there is none."""
        return shipped_checkpoint("bc", suite)

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Check that the episode is of a kind that the network knows, and forget the last one.

        Raises:
            CheckpointError: If the task is of another suite, or the camera unknown.
        """
        camera = next(iter(cameras))
        self.checkpoint.check_task(task, [camera])
        self._camera = self.checkpoint.facts["cameras"].index(CameraPose.parse(camera).view)
        sentences = self._model.sentences
        with torch.no_grad():
            # All of them at once, as in training, so that a sentence's embedding does not depend on the task.
            known = self._model.text([*sentences, task.instruction])
        self._sentence = known[sentences.index(task.instruction) if task.instruction in sentences else -1][None]
        self._frames: deque[list[np.ndarray]] = deque(maxlen=self._config.history)
        self._predicted: deque[np.ndarray] = deque(maxlen=self._config.chunk)

    def act(self, observation: Observation) -> np.ndarray:
        """Return a chunk (T, A), or one action (A,) with temporal ensembling."""
        self._frames.append([self._image(observation, name) for name in (None, *self._config.extra_cameras)])
        history = [self._frames[0]] * (self._config.history - len(self._frames)) + list(self._frames)
        with torch.inference_mode():
            images = [
                to_float(torch.from_numpy(np.stack(frames)).to(self._device))[None]
                for frames in zip(*history, strict=True)
            ]
            proprio = None
            if self._config.proprio:
                proprio = torch.from_numpy(observation.proprio).to(self._device)[None]
            cameras = torch.tensor([self._camera], device=self._device)
            raw = self._model(images, self._sentence, cameras, proprio)
            chunk = self._model.actions(raw)[0].cpu().numpy().astype(np.float64)
        return self._averaged(chunk) if self._ensemble else chunk[: self._execute]

    def _image(self, observation: Observation, camera: str | None) -> np.ndarray:
        frame = observation.rgb(camera)
        if frame.shape[1::-1] != self._size:
            raise ShapeError(
                f"Checkpoint {self.checkpoint.folder} was trained on frames of {self._size[0]}x{self._size[1]}, and this one "
                f"is {frame.shape[1]}x{frame.shape[0]}. Leave out --image-size."
            )
        return self._fit(frame)

    def _averaged(self, chunk: np.ndarray) -> np.ndarray:
        """Return ACT's weighted mean of all predictions for this step, the oldest with the largest weight."""
        self._predicted.append(chunk)
        newest = len(self._predicted) - 1
        votes = np.stack([predicted[newest - look] for look, predicted in enumerate(self._predicted)])
        weights = np.exp(-self._ensemble * np.arange(len(votes)))
        return weights @ votes / weights.sum()
