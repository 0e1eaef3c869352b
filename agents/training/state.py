"""What a training needs to go on after it was interrupted, in one file that is there whole or not at all.

Everything random is a function of the seed, the stage and the step (see `stream_seed`, `DataOrder`), so no generator has a
state worth keeping: the weights, their average, the optimiser and the sums of the running log row are all there is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from flowbench.agents.training.checkpoint import CheckpointError
from flowbench.atomic import write_atomically

STATE = "state.safetensors"


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes:
        identity: What is trained on what; a folder that holds another training is refused.
        stage: Index of the stage.
        step: Finished steps of that stage.
        seconds: Wall time spent so far, over all interruptions.
        finished: Whether every stage is done.
        best_success: Best success rate of a rollout so far.
        metrics: Last value of every logged quantity.
        tensors: Weights, averaged weights, optimiser and running sums, by path.
    """

    identity: Mapping[str, Any]
    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    finished: bool = False
    best_success: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Replace the folder's state in one step."""
        described = {name: value for name, value in vars(self).items() if name != "tensors"}
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors.items()}
        write_atomically(
            folder / STATE,
            lambda path: safetensors_torch.save_file(tensors, path, metadata={"state": json.dumps(described)}),
        )

    @classmethod
    def load(cls, folder: Path) -> TrainingState | None:
        """Read a folder's state; None if it has none.

        The training may be running and replace the file meanwhile: it is read in one go, where `safetensors.safe_open`
        would open it by name a second time and could find its successor.

        Raises:
            CheckpointError: If it cannot be read.
        """
        path = folder / STATE
        if not path.exists():
            return None
        try:
            content = path.read_bytes()
            tensors = safetensors_torch.load(content)
            # The format: the length of a JSON header in eight bytes, the header, the tensors.
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return cls(tensors=tensors, **json.loads(header["__metadata__"]["state"]))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}), so this training cannot go on. Start it again in another folder."
            ) from error

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors below a prefix."""
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return an optimiser's state as named tensors; what it is set to (learning rates) is not part of it."""
    state = optimiser.state_dict()["state"]
    return {f"{index}/{name}": value for index, own in state.items() for name, value in own.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Fill in what `optimiser_tensors` returned."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for path, value in tensors.items():
        index, _, name = path.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def stream_seed(*parts: object) -> int:
    """Return a 63-bit seed that is a pure function of its parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class DataOrder:
    """Which samples make up the batch of a step: one shuffled epoch after another, as a function of the step alone."""

    def __init__(self, count: int, batch_size: int, *seed: object) -> None:
        self._count, self._batch_size, self._seed = count, batch_size, seed
        self._epoch = lru_cache(maxsize=2)(self._shuffle)

    def indices(self, step: int) -> np.ndarray:
        """Return the samples (B,) of a step, counted from 1."""
        positions = np.arange((step - 1) * self._batch_size, step * self._batch_size)
        epochs = positions // self._count
        parts = [self._epoch(int(epoch))[positions[epochs == epoch] % self._count] for epoch in np.unique(epochs)]
        return np.concatenate(parts)

    def _shuffle(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(stream_seed(*self._seed, "order", epoch)).permutation(self._count)
