"""The control that no plan should be worse than: everything moves in one direction, drawn by lot.

A rule that turns flow into pushes succeeds on some tasks whatever the flow says. What it reaches with this plan is what a
method reaches without knowing anything; metaworld11 gives 27 % to AVDC's rule, above four published baselines.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flowbench.agent import Needs
from flowbench.agents.planning.plan import Plan, Window
from flowbench.observation import Observation
from flowbench.task import Task

#: Length of the flow from each moment to the next.
STEP_PX = 3.0


class RandomDirectionPlanner:
    """Imagines the same flow in every pixel and every link of a plan, in a direction drawn from the seed."""

    needs = Needs(modalities=("calibration",))
    #: Cheaper to make than to look up.
    identity: Mapping[str, str] = {}

    def __init__(self, frames: int = 8, step_px: float = STEP_PX) -> None:
        self._frames, self._step_px = frames, step_px

    def reset(self, task: Task) -> None:
        """Nothing to prepare."""

    def plan(self, observation: Observation, seed: int) -> Plan:
        """Draw a direction."""
        camera = observation.camera_params()
        direction = np.random.default_rng(seed).normal(size=2)
        step_px = (self._step_px * direction / np.linalg.norm(direction)).astype(np.float32)
        flow_px = np.broadcast_to(step_px, (self._frames - 1, camera.height, camera.width, 2))
        return Plan(observation.instruction, seed, Window.of_camera(camera), flow_px=flow_px)
