"""One Meta-World task as a FlowBench simulator: upstream's own environment, seeded, calibrated and cloneable."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from flowbench.camera import CameraParams, View
from flowbench.envs.metaworld.initial_states import InitialStates
from flowbench.envs.metaworld.parts import name_parts
from flowbench.envs.metaworld.plain_state import (
    DERIVED_ARRAYS,
    MODEL_ARRAYS,
    copy_arrays,
    copy_attributes,
    restore_arrays,
    restore_attributes,
)
from flowbench.envs.mujoco_bodies import body_of_element, body_poses
from flowbench.envs.mujoco_geometry import enclosing_geom
from flowbench.envs.mujoco_renderer import PASSES, MujocoRenderer
from flowbench.simulator import Frame, RenderSettings, SimulatorState, StepOutcome
from flowbench.task import ProtocolRules, Scenario, Task

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class MetaWorldSimulator:
    """One Meta-World v3 task, with its goal observable.

    `proprio` is float32 (4,): the hand's position x, y, z in metres (world frame: x right, y away from the robot's base, z
    up, table top at z = 0), and the gripper's opening from 0 (closed) to 1. It is what upstream's observation starts with.

    Non-obvious behaviours:
        - Seed s gives the state of `ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[...](seed=s)` after `reset()`, bit for bit, without
          rebuilding anything and without touching NumPy's global generator. Under `initial_states="avdc_fork"` the seed
          means what it means in AVDC's fork.
        - The cameras corner, corner2, corner3 and corner4 are mounted upside down: image and pose are turned together.
        - Upstream raises after 500 steps; here the protocol alone ends an episode.
        - The image at reset is upstream's: goal markers stand where reset put them, and where the model has them later.
    """

    workspace_center_world = np.array([0.0, 0.6, 0.1])
    settle_action = np.zeros(4)
    passes = PASSES

    def __init__(self, task: Task, rules: ProtocolRules, render: RenderSettings) -> None:
        """Compile the model and go to scenario 0; no OpenGL is needed.

        Args:
            task: A task of one of the Meta-World suites.
            rules: `initial_states` is `"stock_v3"` or `"avdc_fork"`.
            render: Image size and profile.
        """
        self._env = ALL_V3_ENVIRONMENTS[f"{task.name}-v3"]()
        # What upstream's goal-observable classes do, less their reset: the seed decides the state here, not their order.
        self._env._partially_observable = False
        self._env._set_task_called = True
        del self._env.sawyer_observation_space
        # Upstream raises beyond this; horizons belong to protocols.
        self._env.max_path_length = sys.maxsize
        self.model: mujoco.MjModel = self._env.model
        self.data: mujoco.MjData = self._env.data
        self.views = tuple(self.model.camera(index).name for index in range(self.model.ncam))
        self._initial_states = InitialStates(self._env, task.name, rules.initial_states)
        self._parts = name_parts(self.model)
        self._body_of_element = body_of_element(self.model)
        self._renderer = MujocoRenderer(self.model, self.data, render, rolled=self._rolled_views())
        self.reset(Scenario(0))

    def reset(self, scenario: Scenario) -> None:
        """Go to the initial state of the scenario's seed."""
        self._raw_observation = self._initial_states.reset(scenario.seed)

    def step(self, action: np.ndarray) -> StepOutcome:
        """Apply one (4,) action: hand displacement in centimetres (world axes) and gripper effort."""
        self._raw_observation, reward, _, _, info = self._env.step(action)
        return StepOutcome(float(reward), bool(info["success"]))

    def proprio(self) -> np.ndarray:
        """Return the float32 (4,) hand position in metres and gripper opening."""
        return self._raw_observation[:4].astype(np.float32)

    def raw_observation(self) -> np.ndarray:
        """Return upstream's own float64 (39,) observation, with the goal; it is simulator state."""
        return self._raw_observation

    def view(self, name: str) -> View:
        """Return a named camera as it stands now."""
        return self._renderer.view(name)

    def render(self, name: str, camera: CameraParams, modalities: frozenset[str]) -> Frame:
        """Render from a pose; depth and segmentation share one pass, RGB has its own."""
        rgb, depth_m, element_ids = self._renderer.render(name, camera, modalities)
        if element_ids is None:
            return Frame(rgb, depth_m)
        segmentation, bodies = self._parts.id_of_element[element_ids + 1], self._body_of_element[element_ids + 1]
        return Frame(rgb, depth_m, segmentation, bodies)

    def body_poses(self) -> np.ndarray:
        """Return the (N, 4, 4) poses of bodies and markers as they are rendered; see `flowbench.envs.mujoco_bodies`."""
        return body_poses(self.model, self.data)

    def enclosing_object(self, point_world: np.ndarray) -> str | None:
        """Return the name of the visible part that a (3,) point lies inside of, or None."""
        geom = enclosing_geom(self.model, self.data, point_world)
        return None if geom is None else self._parts.names[int(self._parts.id_of_element[1 + geom])]

    def segmentation_names(self) -> Mapping[int, str]:
        """Return the name of every part; see `flowbench.envs.metaworld.parts`."""
        return self._parts.names

    def get_state(self) -> SimulatorState:
        """Copy MuJoCo's integration state and everything Meta-World keeps beside it."""
        physics = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, physics, _STATE)
        extras = {
            "model": copy_arrays(self.model, MODEL_ARRAYS),
            "derived": copy_arrays(self.data, DERIVED_ARRAYS),
            "attributes": copy_attributes(self._env),
            "raw_observation": self._raw_observation.copy(),
        }
        return SimulatorState(physics, extras)

    def set_state(self, state: SimulatorState) -> None:
        """Restore a state of this task bit for bit."""
        restore_arrays(self.model, state.extras["model"])
        mujoco.mj_setState(self.model, self.data, state.physics, _STATE)
        mujoco.mj_forward(self.model, self.data)
        # mj_forward leaves its own warm start behind, and the next step would differ in the last bits.
        mujoco.mj_setState(self.model, self.data, state.physics, _STATE)
        restore_arrays(self.data, state.extras["derived"])
        restore_attributes(self._env, state.extras["attributes"])
        self._raw_observation = state.extras["raw_observation"].copy()

    def close(self) -> None:
        """Free the renderer; may be called twice."""
        self._renderer.close()
        self._env.close()

    def _rolled_views(self) -> list[str]:
        """Return the cameras that are fixed in the world with their up axis pointing down."""
        ups_world = self.data.cam_xmat.reshape(-1, 3, 3)[:, :, 1]
        return [
            name
            for name, up_world, body in zip(self.views, ups_world, self.model.cam_bodyid, strict=True)
            if self.model.body_weldid[body] == 0 and up_world[2] < 0
        ]
