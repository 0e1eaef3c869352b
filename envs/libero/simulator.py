"""LIBERO's robosuite environments as a FlowBench simulator: exact fast resets, exact snapshots, calibrated cameras.

Upstream recompiles the model at every reset, places fixtures from a process-wide generator and renders all cameras at
every step. Here the model is compiled once, and a reset repeats upstream's, bit for bit, a hundred times faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import mujoco
import numpy as np

from flowbench.camera import CameraParams, View
from flowbench.envs.libero import upstream
from flowbench.envs.libero.init_states import load_init_states
from flowbench.envs.libero.reset import ExactReset, fixture_seed
from flowbench.envs.libero.snapshot import restore_snapshot, take_snapshot
from flowbench.envs.libero.suites import SETTLE_ACTIONS
from flowbench.envs.mujoco_bodies import body_of_element, body_poses
from flowbench.envs.mujoco_geometry import enclosing_geom
from flowbench.envs.mujoco_renderer import PASSES, MujocoRenderer
from flowbench.errors import BadValue
from flowbench.simulator import Frame, RenderSettings, SimulatorState, StepOutcome
from flowbench.task import ProtocolRules, Scenario, Task


class LiberoSimulator:
    """One LIBERO task.

    Non-obvious behaviours:
        - A reset equals this upstream sequence in state and pixels, bit for bit: build `OffScreenRenderEnv`,
          `env.seed(fixture_seed(task.name, scenario))`, `env.reset()`, `env.set_init_state(...)`. It is upstream's first
          reset: in tasks that start with something open or switched on, each later one draws more random numbers (a
          list of samplers grows), so upstream's own fixture poses depend on the number of resets before.
        - A scenario without an initial state stays where upstream's `reset()` put things: objects are placed by the task's
          own samplers, as for the official demonstrations, and never stand exactly as in an official initial state.
        - Images, calibration and `proprio` are those of the state now. Upstream's own loop returns observations sampled
          two physics steps (4 ms) before the end of a control step. Success is upstream's own: evaluated from the last
          physics step's contacts.
        - Looking at something never changes the trajectory.
        - Rewards are 1 on success and 0 otherwise; the episode length is the protocol's, not robosuite's.

    Attributes:
        control_env: Upstream's `ControlEnv`, for privileged agents. Its own images are switched off.
        views: Names of the scene's cameras.
        workspace_center_world: (3,) metres; the middle of the table top, or of the floor.
        settle_action: (7,) the no-op of the protocol's settle steps.
        model: The compiled scene, for privileged agents.
        data: The scene's state. After a step its poses and contacts are one physics step (2 ms) behind its positions, as
            upstream leaves them; `update_poses` brings the poses up to date.
    """

    passes = PASSES

    def __init__(self, task: Task, rules: ProtocolRules, render: RenderSettings) -> None:
        """Compile the scene; no OpenGL is needed.

        Raises:
            MissingExtra: If LIBERO is not installed.
        """
        control_env_class = upstream.load()
        self._task_name = task.name
        self._init_states = load_init_states(upstream.init_states_file(task.name))
        with upstream.quiet():
            self._reset_to_seed = ExactReset(
                lambda: control_env_class(
                    bddl_file_name=str(upstream.bddl_file(task.name)),
                    use_camera_obs=False,
                    has_offscreen_renderer=False,
                    hard_reset=False,
                    ignore_done=True,
                )
            )
        self.control_env = self._reset_to_seed.control_env
        self._domain = self.control_env.env
        # Nobody reads upstream's observations: everything is read from the simulation when it is asked for.
        self._domain._observables = {}
        self.model: mujoco.MjModel = self._domain.sim.model._model
        self.data: mujoco.MjData = self._domain.sim.data._data
        self._labels = _Labels.of(self._domain)
        self._body_of_element = body_of_element(self.model)
        self._scene_option = _robosuite_scene_option()
        self._renderer = MujocoRenderer(self.model, self.data, render, scene_option=self._scene_option)
        self._poses_lag = False
        self.views = tuple(self.model.camera(index).name for index in range(self.model.ncam))
        self.workspace_center_world = np.array(self._domain.workspace_offset, dtype=np.float64)
        self.settle_action = np.array(SETTLE_ACTIONS.get(rules.name, SETTLE_ACTIONS["openvla"]))

    def reset(self, scenario: Scenario) -> None:
        """Go to an official initial state with fixtures placed by the scenario's seed, or to a start sampled from the seed.

        Raises:
            BadValue: If the initial state does not exist or does not fit the scene.
        """
        state = None if scenario.init_state is None else self._official_state(scenario.init_state)
        self._reset_to_seed(fixture_seed(self._task_name, scenario))
        if state is not None:
            self._domain.sim.set_state_from_flattened(state)
            self._domain.sim.forward()
            self._domain._post_process()
        self._poses_lag = False

    def _official_state(self, index: int) -> np.ndarray:
        if index >= len(self._init_states):
            raise BadValue(
                f"LIBERO task {self._task_name} has initial states 0 to {len(self._init_states) - 1}; {index} is not one."
            )
        state = self._init_states[index]
        expected = 1 + self.model.nq + self.model.nv
        if state.size != expected:
            raise BadValue(
                f"The initial states of LIBERO task {self._task_name} have {state.size} numbers and its scene needs "
                f"{expected}: the two come from different versions of LIBERO."
            )
        return state

    def step(self, action: np.ndarray) -> StepOutcome:
        """Run one control step: 25 physics steps of 2 ms."""
        _, reward, success, _ = self._domain.step(action)
        self._poses_lag = True
        return StepOutcome(float(reward), bool(success))

    def proprio(self) -> np.ndarray:
        """Return the float32 (8,) robot state that LIBERO policies use.

        Layout: position of the grip site (3), world metres; orientation of the body `robot0_right_hand` (3), axis-angle
        in world axes; finger joint positions (2), metres.

        The angle is 2 acos(w) of the body's quaternion as MuJoCo gives it, from 0 to 2 pi: as in robosuite's
        `quat2axisangle` and the data that checkpoints were trained on, q and -q are not made one.
        """
        self.update_poses()
        robot = self._domain.robots[0]
        hand = self.model.body(robot.robot_model.eef_name).id
        return np.concatenate(
            [
                self.data.site_xpos[robot.eef_site_id],
                _axis_angle(self.data.xquat[hand]),
                self.data.qpos[robot._ref_gripper_joint_pos_indexes],
            ]
        ).astype(np.float32)

    def view(self, name: str) -> View:
        """Return a named camera as it stands now."""
        self.update_poses()
        return self._renderer.view(name)

    def render(self, name: str, camera: CameraParams, modalities: frozenset[str]) -> Frame:
        """Render the scene as it stands now; at a named camera the RGB pixels are robosuite's own, turned upright.

        Raises:
            RenderingUnavailable: If no OpenGL context can be made.
        """
        self.update_poses()
        rgb, depth_m, element_ids = self._renderer.render(name, camera, modalities)
        if element_ids is None:
            return Frame(rgb, depth_m)
        segmentation, bodies = self._labels.of_element[element_ids], self._body_of_element[element_ids + 1]
        return Frame(rgb, depth_m, segmentation, bodies)

    def body_poses(self) -> np.ndarray:
        """Return the (N, 4, 4) poses of bodies and markers as they stand now; see `flowbench.envs.mujoco_bodies`."""
        self.update_poses()
        return body_poses(self.model, self.data)

    def enclosing_object(self, point_world: np.ndarray) -> str | None:
        """Return what a (3,) point lies inside of: an object's name, or a body's for walls and tables; None if nothing."""
        self.update_poses()
        geom = enclosing_geom(self.model, self.data, point_world, self._scene_option)
        if geom is None:
            return None
        label = int(self._labels.of_element[geom])
        return self.segmentation_names().get(label, self.model.body(self.model.geom_bodyid[geom]).name)

    def segmentation_names(self) -> Mapping[int, str]:
        """Return `robot`, `gripper` and the names of the BDDL file's objects and fixtures; the table is background."""
        return dict(enumerate(self._labels.names, start=1))

    def get_state(self) -> SimulatorState:
        """Copy the physics, the fixtures' places, and the controller's and gripper's memory."""
        return take_snapshot(self._domain)

    def set_state(self, state: SimulatorState) -> None:
        """Restore a state of this task exactly.

        Raises:
            BadValue: If the state belongs to another scene.
        """
        restore_snapshot(self._domain, state)
        self._poses_lag = False

    def close(self) -> None:
        """Free the OpenGL context and the physics; may be called twice."""
        self._renderer.close()
        if self._domain is not None:
            self.control_env.close()
            self._domain = None

    def update_poses(self) -> None:
        """Bring body, site, joint and camera poses in `data` up to the state; a physics step leaves them one step behind.

        Looking does this too, so a privileged agent that reads poses calls it first: what it reads, and therefore does, must
        not depend on whether somebody looked. Contacts stay those of the last physics step.

        Not `mj_forward`: that would also advance the solver's warm start, and looking would change the trajectory.
        """
        if self._poses_lag:
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            mujoco.mj_camlight(self.model, self.data)
            self._poses_lag = False


class _Labels(NamedTuple):
    """Which object each rendered element belongs to.

    Attributes:
        names: Name of the objects with id 1, 2, ...
        of_element: int32 object id of every geom, then of every site, then 0 for "nothing" (index -1).
    """

    names: tuple[str, ...]
    of_element: np.ndarray

    @classmethod
    def of(cls, domain: Any) -> _Labels:
        """Label every body by the nearest ancestor that is the root of something with a name."""
        model: mujoco.MjModel = domain.sim.model._model
        robot = domain.robots[0]
        roots = {"robot": robot.robot_model.root_body, "gripper": robot.gripper.root_body}
        roots |= {thing.name: thing.root_body for thing in (*domain.objects, *domain.fixtures)}
        of_body = np.zeros(model.nbody, np.int32)
        label_of_root = {model.body(body).id: label for label, body in enumerate(roots.values(), start=1)}
        for body in range(1, model.nbody):  # Parents come before their children.
            of_body[body] = label_of_root.get(body, of_body[model.body_parentid[body]])
        of_element = np.concatenate([of_body[model.geom_bodyid], of_body[model.site_bodyid], [0]])
        return cls(tuple(roots), of_element.astype(np.int32))


def _robosuite_scene_option() -> mujoco.MjvOption:
    """Return what robosuite shows: visual meshes (group 1) without collision geometry (group 0)."""
    option = mujoco.MjvOption()
    option.geomgroup[0] = 0
    return option


def _axis_angle(quaternion_wxyz: np.ndarray) -> np.ndarray:
    """Return the (3,) rotation vector of a unit quaternion, with an angle from 0 to 2 pi."""
    w = min(1.0, max(-1.0, float(quaternion_wxyz[0])))
    sine = math.sqrt(1.0 - w * w)
    if sine == 0.0:
        return np.zeros(3)
    return quaternion_wxyz[1:] * 2.0 * math.acos(w) / sine
