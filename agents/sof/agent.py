"""SOF in an episode: look, choose a skill, decode its flow, turn that into actions, and look again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from flowbench.agents.sof.config import SofConfig
from flowbench.agents.sof.network import SofNetwork
from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.imitation_agent import ImitationAgent
from flowbench.camera import CameraParams
from flowbench.errors import BadValue
from flowbench.observation import Observation
from flowbench.task import Task


class SofAgent(ImitationAgent):
    """Skills, one after the other, each carried out for a few steps before the next one is chosen."""

    def __init__(
        self,
        checkpoint: str | Checkpoint,
        replan: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        device: str = "cpu",
    ) -> None:
        """Load the networks.

        Args:
            checkpoint: Folder, name of a shipped one, or `hf://organisation/name`.
            replan: Steps from one choice of a skill to the next, instead of the trained number (`execute`).
            temperature: Of sampling tokens, instead of the trained one; 0 takes the most likely ones.
            top_k: Only the k most likely tokens are sampled, instead of the trained number.
            device: Where the networks run.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another agent.
            BadValue: If an argument does not fit the checkpoint.
        """
        super().__init__(Checkpoint.open(checkpoint, "sof"), SofConfig, SofNetwork, device)
        config = self._config
        self._replan = config.execute if replan is None else int(replan)
        if not 1 <= self._replan <= config.chunk:
            raise BadValue(
                f"replan is {replan}; this checkpoint predicts {config.chunk} actions, so it is from 1 to that."
            )
        self._temperature = config.temperature if temperature is None else float(temperature)
        self._top_k = config.top_k if top_k is None else int(top_k)
        if self._temperature < 0 or self._top_k < 0:
            raise BadValue(f"temperature is {self._temperature} and top_k {self._top_k}; both are at least 0.")

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Check that the episode is of a kind that the networks know, and forget the last one.

        Raises:
            CheckpointError: If the task is of another suite, or the camera unknown.
        """
        super().reset(task, cameras, seed)
        self._draws = torch.Generator().manual_seed(int(np.random.SeedSequence([seed]).generate_state(1)[0]))
        self._metrics: dict[str, float] = {"plans": 0, "planning_s": 0.0}

    def act(self, observation: Observation) -> np.ndarray:
        """Return a chunk (T, A): what is done until the next skill is chosen."""
        began = time.perf_counter()
        frames, inputs, proprio = self._inputs(observation)
        with torch.inference_mode():
            tokens = self._choose(inputs)
            plan = self._model.plan(tokens, frames)
            made = self._model.flow2action(frames, plan, inputs[2], proprio)
            chunk = self._model.flow2action.actions(*made)[0].cpu().numpy().astype(np.float64)
        self._metrics["plans"] += 1
        self._metrics["planning_s"] += time.perf_counter() - began
        return chunk[: self._replan]

    def episode_metrics(self) -> dict[str, float]:
        """Return what the episode cost so far: numbers that become columns of the results."""
        return {name: round(value, 4) for name, value in self._metrics.items()}

    def _inputs(self, observation: Observation) -> tuple[torch.Tensor, tuple[Any, ...], torch.Tensor | None]:
        """Return the frame (1, 3, H, W), what the policy sees, and the robot's state."""
        self._look(observation)
        inputs = self._seen(observation)
        return inputs[0][0][:, -1], inputs, inputs[3]

    def _choose(self, inputs: tuple[Any, ...]) -> torch.Tensor:
        policy = self._model.policy
        return policy.choose(policy.context(*inputs), self._temperature, self._top_k, self._draws)
