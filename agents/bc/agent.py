"""Behaviour cloning in an episode: look, predict a chunk, act."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch

from flowbench.agents.bc.model import BCConfig, BCNetwork
from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.imitation_agent import ImitationAgent
from flowbench.camera import CameraParams
from flowbench.errors import BadValue
from flowbench.observation import Observation
from flowbench.task import Task


class BCAgent(ImitationAgent):
    """A trained behaviour-cloning network."""

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
        super().__init__(Checkpoint.open(checkpoint, "bc", "bc-r3m"), BCConfig, BCNetwork, device)
        config = self._config
        self._ensemble = config.ensemble if ensemble is None else float(ensemble)
        choices = self.checkpoint.facts.get("action_choices")
        if self._ensemble and choices:
            raise BadValue(
                f"ensemble averages actions, and one of {', '.join(choices)} has no average. Set ensemble=0."
            )
        self._execute = 1 if self._ensemble else int(config.execute if execute is None else execute)
        if not 1 <= self._execute <= config.chunk:
            raise BadValue(
                f"execute is {execute}; this checkpoint predicts {config.chunk} actions, so it is from 1 to that."
            )

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Check that the episode is of a kind that the network knows, and forget the last one.

        Raises:
            CheckpointError: If the task is of another suite, or the camera unknown.
        """
        super().reset(task, cameras, seed)
        self._predicted: deque[np.ndarray] = deque(maxlen=self._config.chunk)

    def act(self, observation: Observation) -> np.ndarray:
        """Return a chunk (T, A), or one action (A,) with temporal ensembling."""
        self._look(observation)
        with torch.inference_mode():
            raw = self._model(*self._seen(observation))
            chunk = self._model.actions(raw)[0].cpu().numpy().astype(np.float64)
        return self._averaged(chunk) if self._ensemble else chunk[: self._execute]

    def _averaged(self, chunk: np.ndarray) -> np.ndarray:
        """Return ACT's weighted mean of all predictions for this step, the oldest with the largest weight."""
        self._predicted.append(chunk)
        newest = len(self._predicted) - 1
        votes = np.stack([predicted[newest - look] for look, predicted in enumerate(self._predicted)])
        weights = np.exp(-self._ensemble * np.arange(len(votes)))
        return weights @ votes / weights.sum()
