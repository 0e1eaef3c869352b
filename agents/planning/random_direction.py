"""The control that no plan should be worse than: everything moves in one direction, drawn by lot.

A rule that turns flow into pushes succeeds on some tasks whatever the flow says. What it reaches with this plan is what a
method reaches without knowing anything; metaworld11 gives 27 % to AVDC's rule, above four published baselines.

Where actions are choices the picture moves as a whole: as in a turn to one side or the other, or as in a step ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from flowbench.agent import Needs
from flowbench.agents.planning.plan import Plan, Window
from flowbench.camera import CameraParams, rotation_about
from flowbench.observation import Observation
from flowbench.task import Task

#: Length of the flow from each moment to the next.
STEP_PX = 3.0
#: Where one walks: what a turn is, and how far away everything is that a step of 25 cm comes nearer to.
TURN_DEG, STEP_M, FAR_M = 45.0, 0.25, 2.5


class RandomDirectionPlanner:
    """Imagines the same flow in every pixel and every link of a plan, in a direction drawn from the seed."""

    needs = Needs(modalities=("calibration",))
    #: Cheaper to make than to look up.
    identity: Mapping[str, str] = {}

    def __init__(self, frames: int = 8, step_px: float = STEP_PX) -> None:
        self._frames, self._step_px = frames, step_px

    def reset(self, task: Task) -> None:
        """Remember whether one walks."""
        self._walks = bool(task.action_spec.choices)

    def plan(self, observation: Observation, seed: int) -> Plan:
        """Draw a direction."""
        camera = observation.camera_params()
        flow_px = (self._walking if self._walks else self._moving)(camera, np.random.default_rng(seed))
        flow_px = np.broadcast_to(flow_px.astype(np.float32), (self._frames - 1, camera.height, camera.width, 2))
        return Plan(observation.instruction, seed, Window.of_camera(camera), flow_px=flow_px)

    def _moving(self, camera: CameraParams, rng: np.random.Generator) -> np.ndarray:
        direction = rng.normal(size=2)
        return self._step_px * direction / np.linalg.norm(direction)

    @staticmethod
    def _walking(camera: CameraParams, rng: np.random.Generator) -> np.ndarray:
        columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        pixels = np.stack([columns, rows], axis=-1)
        here = replace(camera, camera_to_world=np.eye(4))
        points = here.unproject(pixels, np.full(pixels.shape[:2], FAR_M))
        side = rng.integers(-1, 2)
        turned = points @ rotation_about(np.array([0.0, 1.0, 0.0]), side * TURN_DEG).T
        landing = here.project(turned if side else points - [0.0, 0.0, STEP_M])
        # What ends up beside or behind the camera is far out of the picture.
        out = np.abs(landing.pixels - pixels).max(axis=-1) > 10 * camera.width
        lost = out | (landing.depth_m <= 0)
        return np.where(lost[..., None], -side * 10.0 * camera.width, landing.pixels - pixels)
