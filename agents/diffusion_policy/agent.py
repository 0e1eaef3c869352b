"""The diffusion policy in an episode: draw a chunk of actions, execute its beginning, look again (receding horizon)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch

from flowbench.agents.diffusion_policy.model import DiffusionPolicyConfig, DiffusionPolicyNetwork
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointAgent
from flowbench.agents.training.imitation_agent import ImitationAgent
from flowbench.camera import CameraParams
from flowbench.errors import BadValue
from flowbench.observation import Observation
from flowbench.task import Task


class DiffusionPolicyAgent(ImitationAgent, CheckpointAgent):
    """A trained diffusion policy.

    Non-obvious behaviours:
        - It returns one action at a time instead of chunks, because it looks at the steps just before it plans, too. At all
          other steps nothing is rendered.
        - Actions are drawn from the episode's seed.
    """

    def __init__(
        self,
        checkpoint: str | Checkpoint,
        device: str = "cpu",
        execute: int | None = None,
        sample_steps: int | None = None,
    ) -> None:
        """Load a checkpoint.

        Args:
            checkpoint: Folder, name of a shipped one, or `hf://organisation/name`.
            device: Where the network runs.
            execute: Actions executed between two plans, instead of the trained number.
            sample_steps: DDIM steps, instead of the trained number.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another agent.
            BadValue: If an argument does not fit the checkpoint.
        """
        super().__init__(
            Checkpoint.open(checkpoint, "diffusion-policy"), DiffusionPolicyConfig, DiffusionPolicyNetwork, device
        )
        config: DiffusionPolicyConfig = self._config
        self._execute = config.execute if execute is None else int(execute)
        self._sample_steps = config.sample_steps if sample_steps is None else int(sample_steps)
        for name, value, most in (
            ("execute", self._execute, config.chunk),
            ("sample_steps", self._sample_steps, config.train_steps),
        ):
            if not 1 <= value <= most:
                raise BadValue(f"{name} is {value}; with this checkpoint it is from 1 to {most}.")

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Check that the episode is of a kind that the network knows, and forget the last one.

        Raises:
            CheckpointError: If the task is of another suite, or the camera unknown.
        """
        super().reset(task, cameras, seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._planned: deque[np.ndarray] = deque()

    def act(self, observation: Observation) -> np.ndarray:
        """Return one (A,) action."""
        if len(self._planned) < self._config.history:
            # This step's frame is part of the next plan's history, or its last frame.
            self._look(observation)
        if not self._planned:
            self._planned.extend(self._plan(observation))
        return self._planned.popleft()

    def _plan(self, observation: Observation) -> np.ndarray:
        """Return the (execute, A) actions until the next plan."""
        size = len(self.checkpoint.facts["action_low"])
        # On the CPU, so that a seed means the same noise on every device.
        noise = torch.randn((1, self._config.chunk, size), generator=self._generator).to(self._device)
        with torch.inference_mode():
            condition = self._model.observe(*self._seen(observation))
            actions = self._model.draw(condition, noise, self._sample_steps)
        return actions[0, : self._execute].cpu().numpy().astype(np.float64)
