"""Upstream's CALVIN environment as a FlowBench simulator: exact resets and states, calibrated cameras, several at a time.

Upstream steps and judges; here it is decided what it starts from, which of its worlds is meant, and when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowbench.camera import CameraParams, View
from flowbench.envs.calvin import cameras, clients, upstream
from flowbench.envs.calvin.checkout import checkout
from flowbench.envs.calvin.enclosing import enclosing_block, enclosing_link
from flowbench.envs.calvin.initial_states import ROBOT_OBS, initial_state
from flowbench.envs.calvin.parts import NAMES, Parts, link_index
from flowbench.envs.calvin.sequences import sequences
from flowbench.envs.calvin.starts import SceneFacts, Start, sample_start
from flowbench.envs.calvin.suites import CHAIN_TASK, make_task, scene_of
from flowbench.errors import BadValue, FlowBenchError
from flowbench.seeding import derive_rng
from flowbench.simulator import Frame, RenderSettings, SimulatorState, StepOutcome
from flowbench.task import ProtocolRules, Scenario, Task

#: Steps in which a sampled start comes to rest, and in which the hand closes around a block that it holds.
_REST_STEPS = 15
#: Draws of a sampled start; most fit at once.
_DRAWS = 50
_OPEN, _CLOSE = 1.0, -1.0


class CalvinSimulator:
    """One CALVIN task, or one chain of five.

    Non-obvious behaviours:
        - Success of an instruction is upstream's oracle on how things stood when it was given and how they stand now; giving
          the next one resets nothing.
        - In the protocols `exact` and `absolute` a reset loads the world anew (0.1 s), after which every number is a pure
          function of the scenario and the actions; in `official` it is upstream's own, which is not.
        - PyBullet cannot restore its contact solver, so a state is kept as the scenario and the actions since: going back to
          one steps there again, at a millisecond per step. Going on from the present one to a later one costs the steps
          between; states of the `official` protocol cannot be restored.
        - Bodies and links have the same numbers in every world, because upstream loads them in one order.
        - Looking at something never changes the trajectory. (PyBullet's `getLinkState(computeForwardKinematics=1)` does: the
          arm's inverse kinematics then starts elsewhere. It is not needed, since the poses of the last physics step are drawn.)

    Attributes:
        core: Upstream's `PlayTableSimEnv`, for privileged agents; it has no cameras.
        info: Upstream's `get_info()` of now.
        asked: The instruction given now.
        condition: How a sampled start was meant, in words; empty for a sequence.
        views: Names of the cameras.
        workspace_center_world: (3,) metres; in front of the cabinet, on the table.
        settle_action: (7,) stand still with open fingers; where actions are absolute, go to the start posture.
    """

    views = ("static", "gripper")
    #: PyBullet draws all three at once.
    passes = (frozenset({"rgb", "depth", "segmentation"}),)

    def __init__(self, task: Task, rules: ProtocolRules, render: RenderSettings) -> None:
        """Load the scene; nothing is drawn.

        Raises:
            MissingExtra: If PyBullet or upstream's checkout is not there.
        """
        del render  # Sizes come with each camera, and there is one profile: upstream draws no shadows.
        root = checkout()
        self._task = task
        self._soft_reset = rules.name == "official"
        self._absolute = task.action_spec.convention == "calvin-absolute"
        self._renderer = cameras.chosen_renderer()
        plugin = cameras.egl_plugin() if self._renderer == "egl" else None
        self.core = upstream.build(root, scene_of(task.suite), egl_plugin=plugin)
        self._oracle = upstream.task_oracle(root)
        self._settings = {name: upstream.camera_config(root, name) for name in self.views}
        self._models = {name: cameras.CameraModel.of(settings) for name, settings in self._settings.items()}
        self._camera_link = link_index(self.core, self.core.robot.robot_uid, cameras.GRIPPER_CAMERA_LINK)
        self._parts = Parts.of(self.core)
        self._facts = _scene_facts(self.core)
        self.workspace_center_world = np.array([0.05, -0.1, 0.46])
        self.settle_action = np.array([*ROBOT_OBS[:6], _OPEN]) if self._absolute else np.array([0.0] * 6 + [_OPEN])
        self.condition: dict[str, int | str] = {}
        self.reset(Scenario(0, 0 if task.name == CHAIN_TASK else None))

    # --- The episode

    def reset(self, scenario: Scenario) -> None:
        """Go to the start of a sequence, or to one sampled from the seed.

        Raises:
            FlowBenchError: If no start of the task can be drawn from the seed.
        """
        self._scenario = scenario
        self._actions: list[np.ndarray] = []
        self._asked_at: list[int] = []
        with clients.meaning(self.core.cid):
            if self._task.name == CHAIN_TASK:
                sequence = sequences()[scenario.init_state or 0]
                self._chain = [make_task(self._task.suite, name, self._task.action_spec) for name in sequence.tasks]
                start = initial_state(sequence.condition)
                self._go_to(start.robot_obs, start.scene_obs)
                self.info = self.core.get_info()
            else:
                self._chain = [self._task]
                self._sample(derive_rng(f"{self._task.suite}/{self._task.name}/{scenario.key}", "initial-state"))
        self.asked = self._chain[0]
        self._start_info = self.info

    def step(self, action: np.ndarray) -> StepOutcome:
        """Run one control step: 8 physics steps of 1/240 s."""
        # Upstream takes no gripper command but -1 and 1; papers' wrappers take the sign.
        gripper = _OPEN if action[6] > 0 else _CLOSE
        command = (action[:3], action[3:6], [gripper]) if self._absolute else np.array([*action[:6], gripper])
        with clients.meaning(self.core.cid):
            self.info = self.core.step(command)[3]
        self._actions.append(np.array(action, dtype=np.float64))
        success = bool(self._oracle.tasks[self.asked.name](start_info=self._start_info, end_info=self.info))
        return StepOutcome(float(success), success)

    def ask_next(self) -> None:
        """Give the next instruction of the sequence; nothing is reset."""
        self._asked_at.append(len(self._actions))
        self.asked = self._chain[len(self._asked_at)]
        self._start_info = self.info

    def proprio(self) -> np.ndarray:
        """Return upstream's `robot_obs` as float32 (15,); the layout stands in `flowbench.envs.calvin.suites`."""
        return self.core.robot.get_observation()[0].astype(np.float32)

    # --- Pictures

    def view(self, name: str) -> View:
        """Return a camera as it stands now."""
        model = self._models[name]
        pose = model.camera_to_world if model.camera_to_world is not None else self._hand_camera()
        return model.view(pose, self._renderer)

    def render(self, name: str, camera: CameraParams, modalities: frozenset[str]) -> Frame:
        """Draw the world as it stands now; at a named camera the pixels are upstream's own for this renderer."""
        model = self._models[name]
        # PyBullet computes its matrices in single precision: rounded as upstream rounds them, pixels agree at every edge.
        undisplaced = np.array_equal(camera.camera_to_world, self.view(name).camera_to_world)
        view = self._upstream_view_matrix(name) if undisplaced else cameras.view_matrix(camera.camera_to_world)
        p = self.core.p
        projection = p.computeProjectionMatrixFOV(
            camera.fovy_deg, camera.width / camera.height, model.near_m, model.far_m
        )
        _, _, rgba, buffer, links = p.getCameraImage(
            camera.width,
            camera.height,
            view,
            projection,
            flags=p.ER_SEGMENTATION_MASK_OBJECT_AND_LINKINDEX,
            physicsClientId=self.core.cid,
        )
        shape = (camera.height, camera.width)
        rgb = np.ascontiguousarray(np.reshape(rgba, (*shape, 4))[..., :3]) if "rgb" in modalities else None
        depth_m = model.depth_m(np.reshape(buffer, shape)) if "depth" in modalities else None
        if not modalities & {"segmentation", "bodies"}:
            return Frame(rgb, depth_m)
        bodies = self._parts.bodies(np.reshape(links, shape))
        ids = self._parts.object_ids[bodies] if "segmentation" in modalities else None
        return Frame(rgb, depth_m, ids, bodies if "bodies" in modalities else None)

    def body_poses(self) -> np.ndarray:
        """Return the (N, 4, 4) poses of all links; see `flowbench.simulator.BodySource`."""
        return self._parts.poses(self.core)

    def segmentation_names(self) -> Mapping[int, str]:
        """Return the names of the robot, its gripper, the blocks and the table's parts; the floor is background."""
        return NAMES

    def enclosing_object(self, point_world: np.ndarray) -> str | None:
        """Return the name of the part that a (3,) point lies inside of, or None."""
        block = enclosing_block(self.core, point_world)
        if block is not None:
            return block
        link = enclosing_link(self.core, point_world)
        if link not in self._parts.links:
            return None
        return NAMES[int(self._parts.object_ids[1 + self._parts.links.index(link)])]

    def _hand_camera(self) -> np.ndarray:
        position, rotation = self._hand_camera_link()
        # The link looks along its own y; its z points down in the image.
        return cameras.camera_to_world(position, position + rotation[:, 1], -rotation[:, 2])

    def _hand_camera_link(self) -> tuple[np.ndarray, np.ndarray]:
        core = self.core
        state = core.p.getLinkState(core.robot.robot_uid, self._camera_link, physicsClientId=core.cid)
        return np.array(state[0]), np.reshape(core.p.getMatrixFromQuaternion(state[1]), (3, 3))

    def _upstream_view_matrix(self, name: str) -> Any:
        p, settings = self.core.p, self._settings[name]
        if "look_from" in settings:
            return p.computeViewMatrix(settings["look_from"], settings["look_at"], settings["up_vector"])
        position, rotation = self._hand_camera_link()
        return p.computeViewMatrix(position, position + rotation[:, 1], -rotation[:, 2])

    # --- States

    def get_state(self) -> SimulatorState:
        """Copy the state; `physics` starts with upstream's `scene_obs` (24,) and `robot_obs` (15,)."""
        core, p = self.core, self.core.p
        client = {"physicsClientId": core.cid}
        numbers = [core.scene.get_obs(), core.robot.get_observation()[0], core.robot.target_pos, core.robot.target_orn]
        for uid in (core.robot.robot_uid, core.scene.fixed_objects[0].uid):
            joints = p.getJointStates(uid, list(range(p.getNumJoints(uid, **client))), **client)
            numbers += [[joint[0] for joint in joints], [joint[1] for joint in joints]]
        for block in core.scene.movable_objects:
            numbers += [*p.getBasePositionAndOrientation(block.uid, **client), *p.getBaseVelocity(block.uid, **client)]
        numbers.append([float(button.prev_is_pressed) for button in core.scene.buttons])
        extras = {
            "seed": self._scenario.seed,
            "init_state": self._scenario.init_state,
            "actions": np.reshape(self._actions, (-1, 7)),
            "asked_at": np.array(self._asked_at, dtype=np.int64),
        }
        return SimulatorState(np.concatenate([np.ravel(part) for part in numbers]).astype(np.float64), extras)

    def set_state(self, state: SimulatorState) -> None:
        """Go to a state of this task: step there from the start of its scenario, or from here if it lies ahead.

        Raises:
            BadValue: If the protocol's resets are not exact.
            FlowBenchError: If stepping there leads elsewhere, with another version of PyBullet for example.
        """
        if self._soft_reset:
            raise BadValue(
                "States of CALVIN's protocol 'official' cannot be restored, because its resets depend on what ran before. Use "
                "the protocol 'exact'."
            )
        scenario = Scenario(int(state.extras["seed"]), state.extras["init_state"])
        actions, asked_at = state.extras["actions"], list(state.extras["asked_at"])
        if not self._lies_ahead(scenario, actions, asked_at):
            self.reset(scenario)
        for action in actions[len(self._actions) :]:
            self._ask_until(asked_at)
            self.step(action)
        self._ask_until(asked_at)
        if not np.array_equal(self.get_state().physics, state.physics):
            raise FlowBenchError(
                f"Stepping to a state of {self._task.suite}/{self._task.name} led elsewhere. It comes from another version of "
                "PyBullet or of calvin_env, or from another kind of processor."
            )

    def _lies_ahead(self, scenario: Scenario, actions: np.ndarray, asked_at: list[int]) -> bool:
        done = len(self._actions)
        return (
            scenario == self._scenario
            and done <= len(actions)
            and np.array_equal(np.reshape(self._actions, (-1, 7)), actions[:done])
            and self._asked_at == asked_at[: len(self._asked_at)]
            and all(step >= done for step in asked_at[len(self._asked_at) :])
        )

    def _ask_until(self, asked_at: list[int]) -> None:
        while len(self._asked_at) < len(asked_at) and asked_at[len(self._asked_at)] == len(self._actions):
            self.ask_next()

    def close(self) -> None:
        """Free the world; may be called twice."""
        clients.disconnect(self.core)

    # --- Starts

    def _go_to(self, robot_obs: np.ndarray, scene_obs: np.ndarray, seed: int = 0) -> None:
        """Reset the world to upstream's vectors, in upstream's way or from nothing."""
        if not self._soft_reset:
            # Blocks are loaded at random places before they are put where they belong.
            upstream.seed(self.core, np.random.default_rng(seed))
            self.core.robot.gripper_action = int(_OPEN)
            self.core.load()
        self.core.reset(robot_obs=robot_obs, scene_obs=scene_obs)

    def _sample(self, rng: np.random.Generator) -> None:
        for _ in range(_DRAWS):
            start = sample_start(self._task.name, self._facts, rng)
            if start is None:
                continue
            self._go_to(np.array(ROBOT_OBS), start.scene_obs)
            gripper = _OPEN if start.held is None else _CLOSE
            for _ in range(_REST_STEPS):
                self.info = self.core.step(np.array([0.0] * 6 + [gripper]))[3]
            if self._as_meant(start):
                self.condition = dict(start.condition)
                return
        raise FlowBenchError(
            f"No start of {self._task.suite}/{self._task.name} could be drawn for {self._scenario}; try another seed."
        )

    def _as_meant(self, start: Start) -> bool:
        """Whether a start came to rest as its words say."""
        touching = {contact[2] for contact in self.info["robot_info"]["contacts"]} - {self.core.robot.robot_uid}
        blocks = self.info["scene_info"]["movable_objects"]
        held = {blocks[f"block_{start.held}"]["uid"]} if start.held else set()
        at_rest = all(np.abs(block["current_lin_vel"]).max() < 0.05 for block in blocks.values())
        return touching == held and at_rest and all(block["current_pos"][2] > 0.3 for block in blocks.values())


def _scene_facts(core: Any) -> SceneFacts:
    """Read what sampled starts have to know of a scene that has just been loaded, its drawer closed."""
    table = core.scene.fixed_objects[0]
    limits = {
        door.name: core.p.getJointInfo(table.uid, door.joint_index, physicsClientId=core.cid)[9]
        for door in core.scene.doors
    }
    drawer = core.p.getLinkState(table.uid, table.info_dict["links"]["drawer_link"], physicsClientId=core.cid)[4]
    return SceneFacts(
        blocks=tuple(block.name.removeprefix("block_") for block in core.scene.movable_objects),
        slider_open_m=limits["base__slide"],
        drawer_open_m=limits["base__drawer"],
        drawer_world=np.array(drawer),
        surfaces=core.scene.surfaces,
        hand_world=np.array(ROBOT_OBS[:3]),
        hand_yaw_rad=ROBOT_OBS[5],
    )
