"""Meta-World's own scripted policies as an expert: they read the simulator's observation vector, not the images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Protocol, cast

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from flowbench.camera import CameraParams
from flowbench.observation import Observation
from flowbench.task import Task

# Upstream warns that its own gains ask for more than a step can move; the environment clips, as it expects.
warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high", category=UserWarning)


class _RawObservationSource(Protocol):
    """The part of a Meta-World simulator that upstream's policies need."""

    def raw_observation(self) -> np.ndarray:
        """Return upstream's float64 (39,) observation."""
        ...


class MetaWorldExpert:
    """The policy that `metaworld` ships for each task, within the action bounds.

    It takes no randomness. Upstream clips its displacements when they are applied; here the whole action is clipped, which
    changes nothing for the simulator (the gripper's actuators are limited to the same range).
    """

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Take a fresh policy for the task; some keep state."""
        del cameras, seed
        self._policy: Any = ENV_POLICY_MAP[f"{task.name}-v3"]()

    def act(self, observation: Observation) -> np.ndarray:
        """Return the (4,) action for the simulator's present state."""
        simulator = cast(_RawObservationSource, observation.simulator)
        return np.minimum(np.maximum(self._policy.get_action(simulator.raw_observation()), -1.0), 1.0)
