"""The suite contract, checked on the simulator itself: pictures, calibration, determinism, state."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowbench.camera import CameraParams, CameraPose
from flowbench.contracts import ContractViolation, closing, differing_field, require, same
from flowbench.env import EnvConfig, TaskEnv
from flowbench.errors import ActionError
from flowbench.flow.exact import flow_to
from flowbench.flow.snapshot import Snapshot, take_snapshot, tells_bodies
from flowbench.observation import Observation
from flowbench.registry import get_suite
from flowbench.simulator import MODALITIES, OBSERVABLE_MODALITIES, Simulator
from flowbench.suite import Suite
from flowbench.task import Scenario
from flowbench.view_agreement import AGREEING_OBJECTS, AGREEING_POINTS, BLANK_STD, SECOND_VIEW, two_view_agreement

#: Random steps between the two views that must be explained by the motion of bodies.
MOTION_STEPS = 8
#: Share of the moving points that must not be seen through, and by how much; the rest are edges.
SOLID_SHARE = 0.98
SEEN_THROUGH_M = 0.01


def check_suite(
    suite: Suite | str,
    *,
    tasks: Sequence[str] | None = None,
    cameras: Sequence[str] | None = None,
    scenarios: Sequence[Scenario] | None = None,
) -> None:
    """Check that a suite keeps the promises the harness relies on.

    Every task is built, reset, stepped and rendered in this process.

    Args:
        suite: The suite, or the name of an installed one.
        tasks: Names of the tasks to check; None checks the first.
        cameras: Camera poses to check; None checks every named view.
        scenarios: At least two different scenarios; None takes the first two.

    Raises:
        ContractViolation: With what is wrong and how to mend it.
        MissingExtra: If the simulator is not installed.

    Example:
        >>> from flowbench.testing import check_suite
        >>> check_suite("toy", tasks=("push",), cameras=("front",))
    """
    suite = get_suite(suite) if isinstance(suite, str) else suite
    for name in suite.views:
        require("+" not in name, f"Suite {suite.name} has a view {name!r}; '+' separates offsets. Rename the view.")
    if suite.default_view not in suite.views:
        raise ContractViolation(
            f"Suite {suite.name} has default view {suite.default_view!r}, which is not one of its views {suite.views}."
        )
    scenarios = tuple(scenarios or (Scenario(seed, seed if suite.init_states else None) for seed in (0, 1)))
    for task_name in tasks or (suite.tasks[0].name,):
        _SuiteCheck(suite, task_name, tuple(cameras or suite.views), scenarios).run()


class _SuiteCheck:
    """The checks of one task."""

    def __init__(self, suite: Suite, task_name: str, cameras: tuple[str, ...], scenarios: tuple[Scenario, ...]) -> None:
        self.suite, self.cameras, self.scenarios = suite, cameras, scenarios
        self.task = suite.task(task_name)
        self.rules = suite.rules()
        self.what = f"Suite {suite.name}, task {task_name}:"
        self.env = self.make()

    def make(self, **config: Any) -> TaskEnv:
        # Lazy: a frame costs more than everything else here.
        config = {"cameras": self.cameras, "modalities": MODALITIES, "lazy": True} | config
        return TaskEnv(self.suite, self.task, self.rules, EnvConfig(**config))

    def run(self) -> None:
        with closing(self.env):
            self.check_simulator()
            self.check_task()
            observation = self.check_observations()
            self.check_pictures(observation)
            self.check_calibration()
            self.check_actions()
            self.check_determinism()
            self.check_state()
            has_bodies = tells_bodies(self.env.simulator)
            if has_bodies:
                self.check_bodies()
            geometric, cameras = dict(self.reset(self.scenarios[0])), self.env.cameras
        # Only now: two simulators in one process may share an OpenGL context, and must not.
        modalities = OBSERVABLE_MODALITIES if has_bodies else MODALITIES
        with closing(self.make(image_view="policy", modalities=modalities)) as policy:
            self.check_image_view(policy, geometric, cameras)
            if has_bodies:
                self.check_flow(policy)
            self.check_close(policy.simulator)

    def require(self, holds: bool, sentence: str) -> None:
        require(holds, f"{self.what} {sentence}")

    def reset(self, scenario: Scenario) -> Observation:
        return self.env.reset(options={"scenario": scenario})[0]

    def actions(self, count: int) -> np.ndarray:
        """Return (count, A) random actions, always the same."""
        spec = self.task.action_spec
        return spec.sample(np.random.default_rng(0), count)

    def check_simulator(self) -> None:
        simulator = self.env.simulator
        required = ("views", "workspace_center_world", "settle_action", "passes", "reset", "step", "proprio", "view")
        required += ("render", "enclosing_object", "segmentation_names", "get_state", "set_state", "close")
        for member in required:
            self.require(
                hasattr(simulator, member),
                f"its simulator has no {member!r}. Add it as `flowbench.simulator.Simulator` describes.",
            )
        self.require(
            set(simulator.views) >= set(self.suite.views),
            f"the suite declares views {self.suite.views} and the simulator has {simulator.views}. Declare what exists.",
        )
        center = np.asarray(simulator.workspace_center_world)
        self.require(
            center.shape == (3,) and bool(np.all(np.isfinite(center))),
            f"workspace_center_world is {center}; expected a (3,) point in metres.",
        )
        grouped = sorted(modality for group in simulator.passes for modality in group)
        self.require(
            grouped == ["depth", "rgb", "segmentation"],
            f"passes is {simulator.passes}; it must hold rgb, depth and segmentation exactly once.",
        )

    def check_task(self) -> None:
        spec = self.task.action_spec
        low, high = np.array(spec.low), np.array(spec.high)
        self.require(
            low.shape == high.shape == (spec.size,) and bool(np.all(low < high)),
            f"its action spec has {spec.size} labels, low {spec.low} and high {spec.high}. Give one increasing pair each.",
        )
        try:
            spec.validate(self.env.simulator.settle_action)
        except ActionError as error:
            raise ContractViolation(f"{self.what} settle_action {error}.") from None
        self.require(bool(self.task.instruction.strip()), "its instruction is empty. Write one sentence.")
        names = set(self.env.simulator.segmentation_names().values())
        for target in self.task.targets:
            self.require(
                target in names,
                f"its target {target!r} is not a segmentation name. Names are: {', '.join(sorted(names))}.",
            )

    def check_observations(self) -> dict[str, np.ndarray]:
        lazy, info = self.env.reset(options={"scenario": self.scenarios[0]})
        observation = dict(lazy)
        proprio = observation["proprio"]
        self.require(
            proprio.dtype == np.float32 and proprio.ndim == 1,
            f"proprio is {proprio.dtype} {proprio.shape}; return float32 (P,).",
        )
        self.require(bool(np.all(np.isfinite(proprio))), "proprio is not finite.")
        for camera, pose in self.env.poses.items():
            width, height = self.env.size_of(pose.view)
            expected = {
                "rgb": (np.uint8, (height, width, 3)),
                "depth": (np.float32, (height, width)),
                "segmentation": (np.int32, (height, width)),
            }
            for modality, (dtype, shape) in expected.items():
                image = observation[f"{camera}/{modality}"]
                self.require(
                    isinstance(image, np.ndarray),
                    f"{modality} of camera {camera!r} is {image!r:.40}; return it from `render` when it is asked for.",
                )
                self.require(
                    image.dtype == dtype and image.shape == shape,
                    f"{modality} of camera {camera!r} is {image.dtype} {image.shape}; return {np.dtype(dtype)} {shape} = "
                    f"(height, width{', 3' if modality == 'rgb' else ''}).",
                )
        for key, space in self.env.observation_space.items():
            # Depth that is not finite or negative has a sentence of its own, in `check_pictures`.
            self.require(
                space.contains(observation[key]) or key.endswith("/depth"),
                f"{key} is outside its declared space {space}.",
            )
        self.require(set(observation) == set(self.env.observation_space), "its keys are not those of its space.")
        step_info = self.env.step(self.actions(1)[0])[4]
        for which, mapping in (("reset", info), ("step", step_info)):
            self.require(
                type(mapping.get("is_success")) is bool,
                f"info['is_success'] of {which} is {mapping.get('is_success')!r}; it must always be True or False.",
            )
        self.require(
            not step_info["is_success"],
            "the scenario is solved by the first, random, step. Choose another initial state, or mend the success rule.",
        )
        self.reset(self.scenarios[0])
        return observation

    def check_pictures(self, observation: dict[str, np.ndarray]) -> None:
        names = self.env.simulator.segmentation_names()
        self.require(0 not in names, "segmentation_names names id 0, which is the background. Count objects from 1.")
        for camera in self.env.poses:
            depth_m, ids = observation[f"{camera}/depth"], observation[f"{camera}/segmentation"]
            self.require(
                bool(np.all(np.isfinite(depth_m))),
                f"depth of camera {camera!r} is not finite in {np.sum(~np.isfinite(depth_m))} pixels. Return 0 where "
                "nothing was hit.",
            )
            self.require(
                float(depth_m.min()) >= 0,
                f"depth of camera {camera!r} goes down to {depth_m.min():g} m. Return metres in front of the camera, and 0 "
                "where nothing was hit.",
            )
            unnamed = set(np.unique(ids).tolist()) - set(names) - {0}
            self.require(
                not unnamed,
                f"segmentation of camera {camera!r} holds ids {sorted(unnamed)[:5]} without a name. Name them in "
                "segmentation_names, or map them to 0.",
            )
            self.require(
                observation[f"{camera}/rgb"].std() >= BLANK_STD and bool(np.any(depth_m > 0)),
                f"the image of camera {camera!r} is blank. Check its pose, its lights, and that the simulator was "
                "stepped forward after the reset.",
            )
        for camera, pose in self.env.poses.items():
            body = self.env.simulator.enclosing_object(self.params(pose).camera_to_world[:3, 3])
            self.require(
                body is None, f"camera {camera!r} is inside an object ({body}). Move it, or mend enclosing_object."
            )

    def params(self, pose: CameraPose) -> CameraParams:
        simulator = self.env.simulator
        return pose.apply(simulator.view(pose.view), simulator.workspace_center_world, *self.env.size_of(pose.view))

    def check_calibration(self) -> None:
        self.reset(self.scenarios[0])
        wanted = frozenset({"depth", "segmentation"})
        for name, pose in self.env.poses.items():
            rotation = self.params(pose).camera_to_world[:3, :3]
            self.require(
                np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5) and np.linalg.det(rotation) > 0,
                f"the pose of camera {name!r} is not a right-handed rotation. Mirror images with fx < 0, never the pose.",
            )
            first, second = self.params(pose), self.params(pose.displaced(*SECOND_VIEW))
            frames = [self.env.simulator.render(pose.view, params, wanted) for params in (first, second)]
            columns, rows = np.meshgrid(np.arange(first.width), np.arange(first.height))
            hit = frames[0].depth_m > 0
            pixels = first.project(first.unproject_image(frames[0].depth_m)).pixels[hit]
            error_px = np.abs(pixels - np.stack([columns, rows], axis=-1)[hit]).max()
            self.require(
                error_px < 0.5, f"camera {name!r} un-projects and projects {error_px:.2f} px beside the pixel."
            )
            agreement = two_view_agreement(first, frames[0], second, frames[1])
            self.require(
                agreement.points >= AGREEING_POINTS and agreement.objects >= AGREEING_OBJECTS,
                f"camera {name!r} is not calibrated: seen again from {pose.displaced(*SECOND_VIEW)}, the depth of "
                f"{agreement.points:.0%} of the points and the place of {agreement.objects:.0%} of each object agree "
                f"(expected {AGREEING_POINTS:.0%} and {AGREEING_OBJECTS:.0%}). Check that `render` uses the pose and field "
                "of view it is given, that the image is upright and not mirrored, that depth is along the optical axis in "
                "metres, and that ids and depth come from the same camera.",
            )

    def check_image_view(
        self, policy: TaskEnv, geometric: dict[str, np.ndarray], cameras: dict[str, CameraParams]
    ) -> None:
        mirrored = self.suite.policy_view_mirrored
        observation, _ = policy.reset(options={"scenario": self.scenarios[0]})
        for camera, params in cameras.items():
            for modality in ("rgb", "depth", "segmentation"):
                key = f"{camera}/{modality}"
                expected = geometric[key][:, ::-1] if mirrored else geometric[key]
                self.require(
                    np.array_equal(observation[key], expected),
                    f"{key} in the policy image view is not the geometric image{', mirrored' if mirrored else ''}. Render the "
                    "same pixels in every instance, upright and unmirrored; the environment turns the image.",
                )
            expected = params.mirror() if mirrored else params
            self.require(
                np.allclose(observation[f"{camera}/intrinsic_cv"], expected.intrinsics, atol=1e-3),
                f"the calibration of camera {camera!r} does not follow the policy image view.",
            )

    def check_actions(self) -> None:
        self.reset(self.scenarios[0])
        before = self.env.get_state().simulator
        too_much = np.array(self.task.action_spec.high) + 0.1
        for action, fault in ((too_much, "out of range"), (np.full_like(too_much, np.nan), "NaN")):
            try:
                self.env.step(action)
            except ActionError:
                continue
            raise ContractViolation(
                f"{self.what} an action that is {fault} was not refused. Leave that to TaskEnv.step."
            )
        difference = differing_field(before, self.env.get_state().simulator)
        self.require(not difference, f"a refused action changed the state ({difference}).")

    def check_determinism(self) -> None:
        first, second = self.scenarios[:2]
        start = self.start_of(first)
        for action in self.actions(5):
            self.env.step(action)
        other = self.start_of(second)
        for action in self.actions(5):
            self.env.step(action)
        again = self.start_of(first)
        advice = (
            "Draw everything from the scenario, seed the simulator's own generators too, and clear what is left over."
        )
        for part, value in start.items():
            self.require(
                same(value, again[part]),
                f"{part} differs when scenario {first.key} is reset again after other episodes. {advice}",
            )
        self.require(
            not all(same(start[part], other[part]) for part in ("physics", "extras")),
            f"scenarios {first.key} and {second.key} start from the same state. Use the scenario's seed and init_state.",
        )

    def start_of(self, scenario: Scenario) -> dict[str, Any]:
        observation = self.reset(scenario)
        # Copied: whether the simulator shares its memory is for `check_state` to say.
        state = copy.deepcopy(self.env.get_state().simulator)
        return {"physics": state.physics, "extras": dict(state.extras), **self.look(observation)}

    def look(self, observation: Observation) -> dict[str, np.ndarray]:
        """Read proprioception and the first camera."""
        first = next(iter(self.env.poses))
        return {key: observation[key] for key in observation if key == "proprio" or key.startswith(f"{first}/")}

    def check_state(self) -> None:
        simulator = self.env.simulator
        self.reset(self.scenarios[0])
        actions = self.actions(10)
        for action in actions[:5]:
            self.env.step(action)
        state = self.env.get_state()
        physics = state.simulator.physics
        self.require(
            isinstance(physics, np.ndarray) and physics.dtype == np.float64 and physics.ndim == 1,
            "get_state gives physics that is not a flat float64 vector.",
        )
        kept = copy.deepcopy(state.simulator)
        ahead = [self.after(action) for action in actions[5:]]
        image = self.look(self.observation)
        difference = differing_field(kept, state.simulator)
        self.require(
            not difference, f"a state from get_state changes when the simulator moves on ({difference}). Copy it."
        )
        self.reset(self.scenarios[1])
        self.env.set_state(state)
        difference = differing_field(kept, simulator.get_state())
        self.require(
            not difference,
            f"get_state after set_state is not the state that was set ({difference}). Restore all of it.",
        )
        for number, (action, expected) in enumerate(zip(actions[5:], ahead, strict=True), start=1):
            reached = self.after(action)
            for part, value in expected.items():
                self.require(
                    same(value, reached[part]),
                    f"{part} differs {number} steps after set_state. Put whatever the future depends on (controllers, "
                    "warm starts, counters, generators) into the state.",
                )
        for key, value in image.items():
            self.require(
                same(value, self.observation[key]),
                f"{key} differs after set_state although the state does not. Restore what is only visible, too (sites, "
                "colours, cameras).",
            )

    def after(self, action: np.ndarray) -> dict[str, Any]:
        """Step, and return all that should be the same when it is done again."""
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        state = self.env.get_state().simulator
        outcome = {"reward": reward, "success": info["success_now"], "end": (terminated, truncated)}
        proprio = self.observation["proprio"]
        return {"physics": state.physics, "extras": dict(state.extras), "proprio": proprio, **outcome}

    def check_bodies(self) -> None:
        """Check that bodies and poses explain what is seen: carried along with its body, no point is seen through."""
        self.reset(self.scenarios[0])
        poses = self.env.simulator.body_poses()
        self.require(
            poses.ndim == 3 and poses.shape[1:] == (4, 4) and np.allclose(poses[0], np.eye(4)),
            f"body_poses gives {poses.shape}; return float64 (N, 4, 4), the first one the identity.",
        )
        before = {camera: take_snapshot(self.env, camera) for camera in self.env.poses}
        for action in self.actions(MOTION_STEPS):
            self.env.step(action)
        for camera, first in before.items():
            second = take_snapshot(self.env, camera)
            for one, other in ((first, second), (second, first)):
                self.require(
                    one.bodies.min() >= 0 and one.bodies.max() < len(poses),
                    f"camera {camera!r} shows bodies {one.bodies.min()} to {one.bodies.max()}, and body_poses has "
                    f"{len(poses)}.",
                )
                share = solid_share(one, other)
                self.require(
                    share >= SOLID_SHARE,
                    f"the motion of bodies does not explain what camera {camera!r} shows: {share:.0%} of the points that "
                    f"moved are where their body should have taken them, or covered (expected {SOLID_SHARE:.0%}). Check that "
                    "`bodies` and `body_poses` are of the state that is rendered, and in the same order.",
                )

    def check_flow(self, env: TaskEnv) -> None:
        """Check that observed flow is that of the bodies, in the image view of the other modalities."""
        observation, _ = env.reset(options={"scenario": self.scenarios[0]})
        camera = next(iter(env.poses))
        self.require(not np.any(observation[f"{camera}/flow"]), f"the flow of camera {camera!r} is not 0 at reset.")
        for action in self.actions(MOTION_STEPS):
            before = take_snapshot(env, camera)
            observation = env.step(action)[0]
        now = take_snapshot(env, camera)
        expected = np.nan_to_num(flow_to(now, before.body_to_world, before.camera), nan=0.0)
        self.require(
            np.array_equal(observation[f"{camera}/flow"], expected),
            f"the flow of camera {camera!r} is not that to the frame before. Looking must not change the state.",
        )

    def check_close(self, simulator: Simulator) -> None:
        try:
            simulator.close()
            simulator.close()
        except Exception as error:
            raise ContractViolation(
                f"{self.what} `close` cannot be called twice: {error!r}. Let the second call do nothing."
            ) from error


def solid_share(source: Snapshot, target: Snapshot) -> float:
    """Return the share of the moving points of one view that another view does not look through.

    A point that its body carried along is either seen where it should be or covered by something nearer; something farther
    in all four pixels around it contradicts it. Points move if their body does, or if what the picture shows there does.
    """
    hit = source.depth_m > 0
    rows, columns = np.nonzero(hit)
    bodies = source.bodies[rows, columns]
    points_world = source.camera.unproject(np.stack([columns, rows], axis=1), source.depth_m[rows, columns])
    motions = (target.body_to_world @ source.world_to_body)[bodies]
    moved_world = np.einsum("nij,nj->ni", motions[:, :3, :3], points_world) + motions[:, :3, 3]
    pixels, depth_m = target.camera.project(moved_world)
    moves = np.linalg.norm(moved_world - points_world, axis=1) > SEEN_THROUGH_M
    moves |= np.abs(target.depth_m - source.depth_m)[rows, columns] > SEEN_THROUGH_M
    height, width = target.depth_m.shape
    moves &= (depth_m > 0) & np.all((pixels >= 0) & (pixels <= [width - 1, height - 1]), axis=1)
    if not moves.any():
        return 1.0
    corner = np.floor(pixels[moves]).astype(int)
    seen_m = np.where(target.depth_m > 0, target.depth_m, np.inf)
    nearest_m = np.full(len(corner), np.inf)
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        around = seen_m[np.minimum(corner[:, 1] + below, height - 1), np.minimum(corner[:, 0] + right, width - 1)]
        nearest_m = np.minimum(nearest_m, around)
    return float(np.mean(nearest_m <= depth_m[moves] + SEEN_THROUGH_M))
