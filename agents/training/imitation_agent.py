"""The part of an agent that looks: frames of the right size, in the right order, for an `ObservationNetwork`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch

from flowbench.agent import Needs
from flowbench.agents.nets.observation import ObservationConfig, ObservationNetwork, to_float
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointAgent
from flowbench.agents.training.devices import checked_device
from flowbench.agents.training.images import ImageFit
from flowbench.agents.training.looking import Looking, embed_instruction
from flowbench.camera import CameraParams, CameraPose
from flowbench.observation import Observation
from flowbench.task import Task


class ImitationAgent(CheckpointAgent):
    """A trained network that sees what demonstrations show.

    Attributes:
        checkpoint: What it was made of.
        needs: Images of the size that it was trained on.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config_class: type[ObservationConfig],
        network_class: type[ObservationNetwork],
        device: str,
    ) -> None:
        """Load the network.

        Raises:
            CheckpointError: If the checkpoint is damaged, or its config is not one of this class.
        """
        self.checkpoint = checkpoint
        self._config = config = checkpoint.config_as(config_class)
        self._device = checked_device(device)
        self._model = network_class(config, checkpoint.facts).to(self._device)
        checkpoint.fill(self._model)
        self._frame = Looking(checkpoint, ImageFit(tuple(config.image_size), tuple(config.crop) or None))
        facts = checkpoint.facts
        self.needs = Needs(
            modalities=("rgb",),
            extra_cameras=tuple(config.extra_cameras),
            image_size=self._frame.size,
            image_view=facts["image_view"],
            action_convention=facts["action_convention"],
        )

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Check that the episode is of a kind that the network knows, and forget the last one.

        Raises:
            CheckpointError: If the task is of another suite, or the camera unknown.
        """
        camera = next(iter(cameras))
        self.checkpoint.check_task(task, [camera])
        self._camera = self.checkpoint.facts["cameras"].index(CameraPose.parse(camera).view)
        self._sentence = embed_instruction(self._model, task.instruction)
        self._frames: deque[list[np.ndarray]] = deque(maxlen=self._config.history)

    def _look(self, observation: Observation) -> None:
        """Add the frames of this step to the history."""
        self._frames.append([self._frame(observation, name) for name in (None, *self._config.extra_cameras)])

    def _seen(
        self, observation: Observation
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return the arguments of `ObservationNetwork.observe`, one sample, after `_look`."""
        # As in training, the first frame stands for what came before it.
        history = [self._frames[0]] * (self._config.history - len(self._frames)) + list(self._frames)
        images = [
            to_float(torch.from_numpy(np.stack(frames)).to(self._device))[None] for frames in zip(*history, strict=True)
        ]
        proprio = None
        if self._config.proprio:
            proprio = torch.from_numpy(observation.proprio).to(self._device)[None]
        return images, self._sentence, torch.tensor([self._camera], device=self._device), proprio
