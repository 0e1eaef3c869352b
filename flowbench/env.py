"""One Gymnasium environment for every suite: a simulator seen through calibrated cameras and judged by a protocol.

The simulators differ in how they step and render; everything a user relies on (keys, units, orientation, camera poses,
seeds, success) is decided here, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from flowbench.camera import CameraParams, CameraPose
from flowbench.errors import ActionError, BadValue, FlowBenchError, unknown_name
from flowbench.flow.observed import Stand, flow_to_previous, stand_of
from flowbench.flow.snapshot import require_bodies, take_snapshot
from flowbench.observation import Observation
from flowbench.simulator import (
    OBSERVABLE_MODALITIES,
    RENDERED_MODALITIES,
    Frame,
    RenderSettings,
    Simulator,
    SimulatorState,
)
from flowbench.success import SuccessTracker
from flowbench.suite import Suite
from flowbench.task import ActionSpec, ImageView, ProtocolRules, Scenario, Task


@dataclass(frozen=True)
class EnvConfig:
    """How a task is observed.

    Attributes:
        cameras: Camera poses, by text (`"corner+yaw15"`); empty for no camera.
        modalities: Subset of rgb, depth, segmentation, calibration and flow, for every camera.
        image_size: (width, height) in pixels; None takes the suite's default.
        image_view: `geometric` (upright, not mirrored) or `policy` (as published checkpoints saw it); None takes the
            protocol's.
        profile: Render profile, `full` or `fast`.
        lazy: Return `Observation`s that render when read, instead of plain dicts of arrays.
        privileged: Whether observations give access to the simulator.
        clip_actions: Clip out-of-range actions instead of refusing them.
    """

    cameras: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("rgb", "depth", "calibration")
    image_size: tuple[int, int] | None = None
    image_view: ImageView | None = None
    profile: str = "full"
    lazy: bool = False
    privileged: bool = False
    clip_actions: bool = False


class EnvState(NamedTuple):
    """Everything `TaskEnv.set_state` needs to go on from here, exactly."""

    simulator: SimulatorState
    tracker: SuccessTracker
    scenario: Scenario


class TaskEnv(gymnasium.Env):
    """One task of a suite.

    Observations are flat dicts with the keys `"<camera>/rgb"` (uint8 (H, W, 3)), `"<camera>/depth"` (float32 (H, W)
    metres along the optical axis, 0 where nothing was hit), `"<camera>/segmentation"` (int32 (H, W), 0 background, names
    in `info["segmentation_names"]`), `"<camera>/intrinsic_cv"` (float32 (3, 3) pixels), `"<camera>/extrinsic_cv"`
    (float32 (4, 4), world to camera, metres), `"<camera>/flow"` (float32 (H, W, 2), pixels right and down from each pixel to
    where its point was in the frame before; 0 right after `reset` and `set_state`) and `"proprio"` (float32 (P,)).

    Non-obvious behaviours:
        - The simulator is built at the first `reset`, and an OpenGL context is made at the first render.
        - `reset(seed=s)` starts scenario `s`; where a suite stores initial states, the seed also chooses one, and
          `options={"init_state": i}` names it. `reset()` goes on to a scenario drawn from the environment's generator.
        - An episode ends (`terminated`) as the protocol's success rule says, and is `truncated` at its horizon.
        - Settle steps belong to `reset`; they are not counted.
        - Where the protocol is a chain of instructions, `instruction` and `asked` are those of the moment, and
          `info["completed"]` says how many have been carried out. `is_success` means all of them.
    """

    metadata = {"render_modes": ["rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 20}

    def __init__(
        self,
        suite: Suite,
        task: Task,
        rules: ProtocolRules,
        config: EnvConfig | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Declare the spaces; nothing is simulated yet.

        Raises:
            UnknownName: If a camera, modality, profile or render mode does not exist.
            MissingExtra: If the simulator is not installed.
        """
        config = config or EnvConfig(cameras=(suite.default_view,))
        if rules.action_spec is not None:
            task = replace(task, action_spec=rules.action_spec)
        self.suite, self.task, self.rules, self.config = suite, task, rules, config
        for modality in config.modalities:
            if modality not in OBSERVABLE_MODALITIES:
                raise unknown_name("modality", modality, OBSERVABLE_MODALITIES)
        for name, value, allowed in (
            ("render mode", render_mode or "rgb_array", self.metadata["render_modes"]),
            ("render profile", config.profile, ("full", "fast")),
            ("image view", config.image_view or "geometric", ("geometric", "policy")),
        ):
            if value not in allowed:
                raise unknown_name(name, value, allowed)
        self._observation: Observation | None = None
        # Of the frame before, if the flow to it may be read.
        self._before: Stand | None = None
        self.set_cameras(config.cameras)
        suite.check_installed()
        self.render_mode = render_mode
        self.image_size = _checked_size(config.image_size or suite.image_size)
        image_view = config.image_view or rules.image_view
        self.mirrored = image_view == "policy" and suite.policy_view_mirrored
        self._simulator: Simulator | None = None
        self._scenario: Scenario | None = None
        self._tracker = SuccessTracker.of(rules)
        self.action_space = _action_space(task.action_spec)

    def set_cameras(self, cameras: Iterable[str]) -> None:
        """Look through other cameras from the next observation on; the simulator stays as it is.

        Raises:
            CameraError: If a pose cannot be read.
            UnknownName: If the suite has no such camera.
        """
        poses = [CameraPose.parse(camera) for camera in cameras]
        for pose in poses:
            self.suite.check_view(pose.view)
        if self._observation is not None:
            self._observation.expire()
        self.poses = {str(pose): pose for pose in poses}
        self._spaces: spaces.Dict | None = None
        # Made once, because an observation is made at every step.
        self._keys = (
            *(
                f"{camera}/{key}"
                for camera in self.poses
                for modality in self.config.modalities
                for key in (("intrinsic_cv", "extrinsic_cv") if modality == "calibration" else (modality,))
            ),
            "proprio",
        )
        self._calibrations = {name: partial(self._camera_params, name) for name in self.poses}

    @property
    def observation_space(self) -> spaces.Dict:
        """Space of the plain observation; asking for it builds the simulator, which knows the size of `proprio`."""
        if self._spaces is None:
            entries = {
                f"{camera}/{key}": space
                for camera, pose in self.poses.items()
                for modality in self.config.modalities
                for key, space in _camera_spaces(*self.size_of(pose.view))[modality].items()
            }
            size = self.simulator.proprio().shape
            entries["proprio"] = spaces.Box(-np.inf, np.inf, size, np.float32)
            self._spaces = spaces.Dict(entries)
        return self._spaces

    @property
    def simulator(self) -> Simulator:
        """The simulator, built at the first use and reset to scenario 0."""
        if self._simulator is None:
            settings = RenderSettings(*self.image_size, profile=self.config.profile)
            self._simulator = self.suite.make_simulator(self.task, self.rules, settings)
            if "flow" in self.config.modalities:
                require_bodies(self._simulator)
            self._simulator.reset(self._scenario or Scenario(0, 0 if self.suite.init_states else None))
        return self._simulator

    @property
    def asked(self) -> Task:
        """What is asked of the agent now: the task, or the present instruction of a chain."""
        return self.task if self.rules.chain == 1 or self._simulator is None else self._simulator.asked

    @property
    def instruction(self) -> str:
        """The sentence of what is asked now."""
        return self.asked.instruction

    def size_of(self, view: str) -> tuple[int, int]:
        """Return (width, height) in pixels of the images of a named view."""
        return self.image_size if self.config.image_size else self.suite.view_sizes.get(view, self.image_size)

    @property
    def cameras(self) -> dict[str, CameraParams]:
        """Calibration of every camera by name, as it stands now."""
        return {name: self._camera_params(name) for name in self.poses}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation | dict[str, np.ndarray], dict[str, Any]]:
        """Start a scenario: the one in `options["scenario"]`, else the one that `seed` stands for.

        Args:
            seed: Scenario seed; None draws one from the environment's generator.
            options: `scenario` (a `Scenario`), or `init_state` (an index, where the suite stores initial states); and
                `prefix_actions`, (N, A) actions to apply after the settle steps. Like those they are not counted; `success_now`
                in the info says whether the last of them solved the task.

        Returns:
            The first observation and its info.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        prefix = [self.task.action_spec.validate(action) for action in options.pop("prefix_actions", ())]
        scenario = self._choose_scenario(seed, options)
        if self._observation is not None:
            self._observation.expire()
        self._scenario = scenario
        self.simulator.reset(scenario)
        for _ in range(self.rules.settle_steps):
            self.simulator.step(self.simulator.settle_action)
        solved = False
        for action in prefix:
            solved = self.simulator.step(action).success
        self._tracker = SuccessTracker.of(self.rules)
        self._before = None
        return self._observe(), self._info(success_now=solved)

    def step(self, action: np.ndarray) -> tuple[Observation | dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Apply one (A,) action.

        Raises:
            ActionError: If the action is malformed, not finite or out of range.
        """
        if self._scenario is None or self._simulator is None:
            raise FlowBenchError(f"{self.task.name}: call reset() before step().")
        try:
            vector = self.task.action_spec.validate(action, clip=self.config.clip_actions)
        except ActionError as error:
            raise ActionError(f"The action of step {self._tracker.steps + 1} of {self.task.name} {error}.") from None
        if self._observation is not None:
            self._observation.expire()
        if "flow" in self.config.modalities:
            self._before = stand_of(self, self.poses)
        outcome = self._simulator.step(vector)
        completed = self._tracker.completed
        self._tracker = self._tracker.update(outcome.success, outcome.over)
        terminated = self._tracker.ended
        truncated = self._tracker.out_of_time and not terminated
        if self._tracker.completed > completed and not terminated:
            self._simulator.ask_next()
        success_now = outcome.success if self.rules.chain == 1 else terminated
        return self._observe(), float(outcome.reward), terminated, truncated, self._info(success_now)

    def render(self) -> np.ndarray | tuple[np.ndarray, np.ndarray] | None:
        """Render the first camera as `render_mode` says: RGB, depth in metres, or both from one pass."""
        if self.render_mode is None:
            return None
        name = next(iter(self.poses), self.suite.default_view)
        pose = self.poses.get(name, CameraPose(name))
        wanted = {"rgb_array": {"rgb"}, "depth_array": {"depth"}, "rgbd_tuple": {"rgb", "depth"}}[self.render_mode]
        frame = self._render(pose, frozenset(wanted))
        if self.render_mode == "rgb_array":
            return frame.rgb
        if self.render_mode == "depth_array":
            return frame.depth_m
        return frame.rgb, frame.depth_m

    def get_state(self) -> EnvState:
        """Copy everything the rest of this episode depends on."""
        if self._scenario is None:
            raise FlowBenchError(f"{self.task.name}: call reset() before get_state().")
        return EnvState(self.simulator.get_state(), self._tracker, self._scenario)

    def set_state(self, state: EnvState) -> Observation | dict[str, np.ndarray]:
        """Go back to a state of this task, exactly, and return its observation."""
        if self._observation is not None:
            self._observation.expire()
        self.simulator.set_state(state.simulator)
        self._tracker, self._scenario = state.tracker, state.scenario
        self._before = None
        return self._observe()

    def close(self) -> None:
        """Free the simulator and its OpenGL context."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None
        if self._observation is not None:
            self._observation.expire()
        # Without a simulator there is no episode to go on with.
        self._scenario = None

    def _choose_scenario(self, seed: int | None, options: Mapping[str, Any]) -> Scenario:
        unknown = set(options) - {"scenario", "init_state"}
        if unknown:
            raise unknown_name("reset option", unknown.pop(), ("scenario", "init_state", "prefix_actions"))
        if "scenario" in options:
            scenario = options["scenario"]
            if not isinstance(scenario, Scenario):
                raise BadValue(
                    f"Reset option scenario is {scenario!r}; expected a flowbench.Scenario, e.g. Scenario(seed=3)."
                )
        else:
            if seed is None:
                seed = int(self.np_random.integers(2**31))
            init_state = options.get("init_state")
            if init_state is not None and (not isinstance(init_state, (int, np.integer)) or init_state < 0):
                raise BadValue(f"Reset option init_state is {init_state!r}; expected an index that counts from 0.")
            if init_state is None and self.suite.init_states:
                init_state = seed % self.suite.init_states
            scenario = Scenario(seed, init_state)
        check_scenario(self.suite, scenario)
        return scenario

    def _observe(self) -> Observation | dict[str, np.ndarray]:
        self._observation = Observation(
            keys=self._keys,
            read=self._read,
            cameras=self._calibrations,
            instruction=self.instruction,
            step=self._tracker.steps,
            simulator=self.simulator if self.config.privileged else None,
            segmentation_names=self.simulator.segmentation_names if "segmentation" in self.config.modalities else None,
        )
        return self._observation if self.config.lazy else dict(self._observation)

    def _read(self, key: str) -> dict[str, np.ndarray]:
        if key == "proprio":
            return {"proprio": self.simulator.proprio()}
        camera, _, item = key.rpartition("/")
        if item in ("intrinsic_cv", "extrinsic_cv"):
            params = self._camera_params(camera)
            return {
                f"{camera}/intrinsic_cv": params.intrinsics.astype(np.float32),
                f"{camera}/extrinsic_cv": params.world_to_camera.astype(np.float32),
            }
        if item == "flow":
            return self._read_flow(camera)
        # Whoever declared several modalities of one render pass gets them together.
        together = next(group for group in self.simulator.passes if item in group) & set(self.config.modalities)
        frame = self._render(self.poses[camera], frozenset(together))
        arrays = {"rgb": frame.rgb, "depth": frame.depth_m, "segmentation": frame.segmentation}
        return {f"{camera}/{name}": arrays[name] for name in together}

    def _read_flow(self, camera: str) -> dict[str, np.ndarray]:
        now = take_snapshot(self, camera)
        # Depth and ids have been rendered for it; whoever declared them gets them together.
        arrays = {"flow": flow_to_previous(now, camera, self._before), "depth": now.depth_m}
        arrays["segmentation"] = now.segmentation
        return {f"{camera}/{name}": array for name, array in arrays.items() if name in self.config.modalities}

    def _render(self, pose: CameraPose, modalities: frozenset[str]) -> Frame:
        frame = self.simulator.render(pose.view, self._geometric_params(pose), modalities & RENDERED_MODALITIES)
        if not self.mirrored:
            return frame
        return Frame(*(None if image is None else np.ascontiguousarray(image[:, ::-1]) for image in frame))

    def _geometric_params(self, pose: CameraPose) -> CameraParams:
        view = self.simulator.view(pose.view)
        return pose.apply(view, self.simulator.workspace_center_world, *self.size_of(pose.view))

    def _camera_params(self, name: str) -> CameraParams:
        params = self._geometric_params(self.poses[name])
        return params.mirror() if self.mirrored else params

    def _info(self, success_now: bool) -> dict[str, Any]:
        info: dict[str, Any] = {
            "is_success": self._tracker.succeeded,
            "success_now": bool(success_now),
            "instruction": self.instruction,
            "scenario": self._scenario.key,
        }
        if self.rules.chain > 1:
            info["completed"] = self._tracker.completed
        if "segmentation" in self.config.modalities:
            info["segmentation_names"] = dict(self.simulator.segmentation_names())
        return info


def check_scenario(suite: Suite, scenario: Scenario) -> None:
    """Check that a suite has this scenario.

    Raises:
        BadValue: If an initial state is given where there is none, missing where one is needed, or out of range.
    """
    if suite.init_states is None and scenario.init_state is not None:
        raise BadValue(
            f"Suite {suite.name} stores no initial states, so init_state {scenario.init_state} means nothing there. Choose "
            "scenarios by seed."
        )
    if suite.init_states is None or (suite.sampled_starts and scenario.init_state is None):
        return
    if scenario.init_state is None:
        raise BadValue(
            f"Suite {suite.name} starts from stored initial states and {scenario} names none. Give one of 0 to "
            f"{suite.init_states - 1}, e.g. Scenario(seed={scenario.seed}, init_state=0)."
        )
    if scenario.init_state >= suite.init_states:
        raise BadValue(
            f"Suite {suite.name} has initial states 0 to {suite.init_states - 1} for each task; {scenario.init_state} is not "
            "one of them."
        )


def _camera_spaces(width: int, height: int) -> dict[str, dict[str, spaces.Box]]:
    """Return the spaces of one camera, by modality and key."""
    return {
        "rgb": {"rgb": spaces.Box(0, 255, (height, width, 3), np.uint8)},
        "depth": {"depth": spaces.Box(0, np.inf, (height, width), np.float32)},
        "segmentation": {"segmentation": spaces.Box(0, np.iinfo(np.int32).max, (height, width), np.int32)},
        "calibration": {
            "intrinsic_cv": spaces.Box(-np.inf, np.inf, (3, 3), np.float32),
            "extrinsic_cv": spaces.Box(-np.inf, np.inf, (4, 4), np.float32),
        },
        "flow": {"flow": spaces.Box(-np.inf, np.inf, (height, width, 2), np.float32)},
    }


def _action_space(spec: ActionSpec) -> spaces.Space:
    if spec.choices:
        return spaces.Discrete(len(spec.choices))
    return spaces.Box(np.array(spec.low, np.float32), np.array(spec.high, np.float32), dtype=np.float32)


def _checked_size(image_size: Iterable[int]) -> tuple[int, int]:
    size = tuple(image_size) if isinstance(image_size, Iterable) else (image_size,)
    if len(size) != 2 or not all(isinstance(n, (int, np.integer)) and 8 <= n <= 4096 for n in size):
        raise BadValue(f"image_size is {image_size}; expected (width, height), each from 8 to 4096 pixels.")
    return int(size[0]), int(size[1])
