"""The toy table as a FlowBench simulator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flowbench.camera import CameraParams, View
from flowbench.envs.toy import scene
from flowbench.envs.toy.physics import BLOCK_HALF_M, FINGER_RADIUS_M, STEP_M, ToyState, advance
from flowbench.envs.toy.tasks import goal_shape, has_block, initial_state, judge
from flowbench.seeding import derive_rng
from flowbench.simulator import Frame, RenderSettings, SimulatorState, StepOutcome
from flowbench.task import ProtocolRules, Scenario, Task


class ToySimulator:
    """One toy task.

    Non-obvious behaviours:
        - The hand goes exactly where it is told, within its limits, whatever it pushes (quasi-static).
        - The `wrist` camera rides with the hand, which never turns.
        - Initial states depend on the task and the seed, not on the suite's name.
    """

    views = ("front", "side", "wrist")
    passes = (frozenset({"rgb", "depth"}), frozenset({"segmentation"}))
    # What a privileged agent needs to know besides the state, metres.
    step_m = STEP_M
    block_half_m = BLOCK_HALF_M
    finger_radius_m = FINGER_RADIUS_M

    def __init__(self, task: Task, rules: ProtocolRules, render: RenderSettings) -> None:
        self.workspace_center_world = np.array([0.0, 0.02, 0.05])
        # Stand still with open fingers.
        self.settle_action = np.array([0.0, 0.0, 0.0, -1.0])
        self._task_name = task.name
        self._profile = render.profile
        self.reset(Scenario())

    @property
    def state(self) -> ToyState:
        """The state itself, for privileged agents."""
        return self._state

    def reset(self, scenario: Scenario) -> None:
        """See `Simulator.reset`."""
        rng = derive_rng(f"toy/{self._task_name}/{scenario.key}", "initial-state")
        self._state = initial_state(self._task_name, rng)

    def step(self, action: np.ndarray) -> StepOutcome:
        """See `Simulator.step`."""
        self._state = advance(self._state, action, has_block=has_block(self._task_name))
        return judge(self._task_name, self._state)

    def proprio(self) -> np.ndarray:
        """See `Simulator.proprio`; the layout stands in `flowbench.envs.toy.suite`."""
        return np.array([*self._state.hand, self._state.opening], dtype=np.float32)

    def view(self, name: str) -> View:
        """See `Simulator.view`."""
        return scene.view(name, self._state)

    def render(self, name: str, camera: CameraParams, modalities: frozenset[str]) -> Frame:
        """See `Simulator.render`."""
        return scene.draw(self._task_name, self._state, camera, modalities, self._profile)

    def body_poses(self) -> np.ndarray:
        """See `BodySource.body_poses`; every solid is a body, in their fixed order, from 1."""
        bodies = scene.solids(self._task_name, self._state)
        poses = np.tile(np.eye(4), (1 + len(bodies), 1, 1))
        for pose, body in zip(poses[1:], bodies, strict=True):
            pose[:3, :3], pose[:3, 3] = body.rotation, body.position_world
        return poses

    def enclosing_object(self, point_world: np.ndarray) -> str | None:
        """See `Simulator.enclosing_object`."""
        for body in scene.solids(self._task_name, self._state):
            if body.shape.contains(body.to_local(np.reshape(point_world, (3, 1)))[:, 0]):
                return body.name
        return None

    def segmentation_names(self) -> Mapping[int, str]:
        """See `Simulator.segmentation_names`."""
        absent = set()
        if goal_shape(self._task_name) == "none":
            absent.add("goal")
        if not has_block(self._task_name):
            absent.add("block")
        return {index: name for name, index in scene.SEGMENTATION_IDS.items() if name not in absent}

    def get_state(self) -> SimulatorState:
        """See `Simulator.get_state`."""
        return SimulatorState(self._state.to_vector())

    def set_state(self, state: SimulatorState) -> None:
        """See `Simulator.set_state`."""
        self._state = ToyState.from_vector(state.physics)

    def close(self) -> None:
        """See `Simulator.close`; there is nothing to free."""
