"""ViSA-Flow in an episode: look, remember, act until the next look."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch

from flowbench.agent import Needs
from flowbench.agents.nets.observation import to_float
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointAgent, CheckpointError
from flowbench.agents.training.devices import checked_device
from flowbench.agents.training.images import ImageFit
from flowbench.agents.training.looking import Looking, embed_instruction
from flowbench.agents.visa_flow.model import VisaFlowConfig, VisaFlowNetwork
from flowbench.camera import CameraParams, CameraPose
from flowbench.errors import BadValue
from flowbench.observation import Observation
from flowbench.task import Task


class VisaFlowAgent(CheckpointAgent):
    """A trained network with its last looks.

    Attributes:
        checkpoint: What it was made of.
        needs: Its cameras, in the size of its training.
    """

    def __init__(self, checkpoint: str | Checkpoint, device: str = "cpu", execute: int | None = None) -> None:
        """Load a checkpoint.

        Args:
            checkpoint: Folder, name of a shipped one, or `hf://organisation/name`.
            device: Where the network runs.
            execute: Actions executed between two looks, instead of the number that lay between them in training.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another agent.
            BadValue: If `execute` does not fit the checkpoint.
        """
        self.checkpoint = Checkpoint.open(checkpoint, "visa-flow")
        self._config = config = self.checkpoint.config_as(VisaFlowConfig)
        self._execute = config.stride if execute is None else int(execute)
        if not 1 <= self._execute <= config.chunk:
            raise BadValue(
                f"execute is {execute}; this checkpoint predicts {config.chunk} actions, so it is from 1 to that."
            )
        self._device = checked_device(device)
        facts = self.checkpoint.facts
        self._model = VisaFlowNetwork(config, facts).to(self._device)
        self.checkpoint.fill(self._model)
        self._frame = Looking(self.checkpoint, ImageFit(tuple(config.image_size)))
        self.needs = Needs(
            modalities=("rgb",),
            extra_cameras=tuple(facts["cameras"][1:]),
            image_size=self._frame.size,
            image_view=facts["image_view"],
            action_convention=facts["action_convention"],
        )

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Check that the instruction is of a kind that the network knows, and forget every look.

        A chain calls this at each instruction: what was seen under another one would only mislead (GR-1 does the same).

        Raises:
            CheckpointError: If the task is of another suite, or the episode's camera is not the first of the network's.
        """
        camera, known = next(iter(cameras)), self.checkpoint.facts["cameras"]
        self.checkpoint.check_task(task, [camera])
        if CameraPose.parse(camera).view != known[0]:
            raise CheckpointError(
                f"Checkpoint {self.checkpoint.folder} looks through {', '.join(known)} at once, and the episode's camera is the "
                f"first of them, not {camera}. Evaluate it with --cameras {known[0]}."
            )
        self._sentence = embed_instruction(self._model, task.instruction)
        #: Tokens of the pictures, and the robot's state, of the last looks.
        self._looks: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=self._config.history)

    def act(self, observation: Observation) -> np.ndarray:
        """Return the chunk (T, A) that is executed before the next look."""
        with torch.inference_mode():
            raw = self._model.action(self._answers(observation)[:, -1, 0])
            chunk = self._model.action.choose(raw.float())[0]
        return chunk[: self._execute].cpu().numpy().astype(np.float64)

    def imagine(self, observation: Observation) -> np.ndarray:
        """Return what is imagined a few looks ahead, uint8 (cameras, h, w, 3), and remember the look.

        Raises:
            BadValue: If the network was trained to imagine nothing.
        """
        if self._model.decoder is None:
            raise BadValue(f"Checkpoint {self.checkpoint.folder} was trained with future=none, and imagines nothing.")
        with torch.inference_mode():
            pictures = self._model.imagine(self._answers(observation)[:, -1, 1:])[0]
        return (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def _answers(self, observation: Observation) -> torch.Tensor:
        """Add a look, and return the (1, looks, queries, D) answers."""
        frames = np.stack([self._frame(observation, name) for name in (None, *self.needs.extra_cameras)])
        tokens = self._model.encode(to_float(torch.from_numpy(frames).to(self._device)))
        state = torch.from_numpy(np.asarray(observation.proprio, np.float32)).to(self._device)
        self._looks.append((tokens, state))
        pictures, states = (torch.stack(part)[None] for part in zip(*self._looks, strict=True))
        true = torch.ones(1, dtype=torch.bool, device=self._device)
        return self._model(self._sentence, pictures, states, true.expand(1, len(frames)), true)
