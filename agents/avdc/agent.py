"""AVDC (Ko et al., arXiv 2310.08576): imagine a video, read its flow, turn the flow into an object's motion, follow it.

Each of the four parts is chosen by an argument, so that a table can say which of them failed: `planner` (what is imagined),
`flow` (how its motion is read), `solver` (how motion becomes a rigid transform) and `rule` (how the transform becomes hand
motions). The published method is `rule=paper,solver=paper`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flowbench.agents.avdc.feet import feet_of
from flowbench.agents.avdc.hands import hand_of
from flowbench.agents.avdc.ladder import RULES, avdc_ladder
from flowbench.agents.avdc.object_points import (
    ObjectPoints,
    ObjectUnseen,
    object_targets,
    published_points,
    surface_points,
)
from flowbench.agents.avdc.plan_flow import DEFAULT_NOISE_PX, EXACT_MOTION, NOISE_PX, FlowReader, PlanFlow
from flowbench.agents.avdc.rules import Mode, NoDirection, PublishedRule, RobustConstants, RobustRule, RuleConstants
from flowbench.agents.avdc.scene_motion import (
    SceneMotion,
    explained_scene_motion,
    published_scene_motion,
    true_scene_motion,
)
from flowbench.agents.avdc.walking import PublishedWalk, RobustWalk
from flowbench.agents.geometry.object_motion import ObjectMotion, TrackingRules, published_motion, tracked_motion
from flowbench.agents.geometry.published_fit import NoMotion, fit_published
from flowbench.agents.geometry.rigid_fit import MIN_POINTS, RigidFit, fit_reprojection
from flowbench.agents.geometry.tracking import FlowChain
from flowbench.agents.planning import Plan, Planner, make_planner
from flowbench.agents.planning.cache import CachedPlanner
from flowbench.agents.planning.oracle import OraclePlanner
from flowbench.agents.training.checkpoint import CONFIG, CheckpointAgent
from flowbench.camera import CameraParams
from flowbench.errors import AgentError, BadValue, missing_extra, unknown_name
from flowbench.observation import Observation
from flowbench.plan_recording import RecordedPlan
from flowbench.suite import load_object
from flowbench.task import Task

#: Finds the object in a picture: (uint8 (H, W, 3), instruction) -> bool (H, W).
Masker = Callable[[np.ndarray, str], np.ndarray]

SOLVERS = ("paper", "paper-fast", "robust")
VARIANTS = ("full", "no-replan", "flow")
#: Asked by default, by variant.
PLANNERS = {"full": "video-diffusion", "no-replan": "video-diffusion", "flow": "flow-diffusion"}
GROUND_TRUTH = "ground-truth"


@dataclass(frozen=True)
class PlanRecord:
    """One plan of an episode and what was made of it: what `--record plans` draws.

    Attributes:
        step: Agent steps taken before it.
        plan: What was imagined.
        mode: What the rule took it for; in navigation the choices that it read.
        motion: How the object moves in it; in navigation the room.
        path_world: (T, 3) positions of the contact point, metres; None in navigation.
        chain: The flow; None unless plans are being recorded (it is large).
    """

    step: int
    plan: Plan
    mode: Mode | str
    motion: ObjectMotion | SceneMotion
    path_world: np.ndarray | None = None
    chain: FlowChain | None = None


class AvdcAgent:
    """Plans, follows the object, and plans again when nothing moves any more.

    Where actions are choices (`ithor12`) it navigates: the whole picture's flow says how the room moves past the camera, and that
    says which way to walk.
    """

    #: Its rungs, for `flowbench diagnose ladder`.
    ladder = staticmethod(avdc_ladder)

    def __init__(
        self,
        planner: str | None = None,
        flow: str = "dis",
        solver: str | None = None,
        rule: Literal["paper", "robust"] = "paper",
        variant: Literal["full", "no-replan", "flow"] = "full",
        faithful: bool = True,
        masks: str = GROUND_TRUTH,
        crop: int | Literal["published"] | None = "published",
        max_replans: int | None = None,
        flow_noise_px: float | None = None,
        flow_checkpoint: str | None = None,
        planner_args: Mapping[str, Any] | None = None,
        plan_cache: bool | str = True,
        checkpoint: str | None = None,
        device: str = "cpu",
    ) -> None:
        """Choose the parts.

        Args:
            planner: A registered planner: `oracle`, `retrieval`, `random-plan`, ...; None takes the variant's.
            flow: `exact` and `exact-motion` (planners with states only), or a flow estimator: `dis`, `raft-small`, ...
            solver: `paper` (BFGS from fifty starts, slow), `paper-fast` (AVDC's points, filter and objective, minimised by
                Levenberg-Marquardt) or `robust`; None takes `paper-fast` for `rule=paper` and `robust` for `rule=robust`.
            rule: `paper` or `robust`.
            variant: `full`; `no-replan` follows one plan; `flow` has a planner that imagines flow.
            faithful: Whether `rule=paper` keeps the accidents of the published code.
            masks: `ground-truth` segmentation, or `package.module:function`, a `Masker`.
            crop: Side in pixels of the square in the middle of the image that flow is read in; null reads all that a plan
                shows; `published` is what AVDC's videos show, 128 of Meta-World's 320x240 and all of any other image.
            max_replans: Plans after the first; None takes AVDC's 5 (in navigation any number), or 0 for `no-replan`.
            flow_noise_px: About how wrong the flow is, pixels; the robust solver trusts points accordingly. None takes 0.05 for
                exact flow and 1 for estimated.
            flow_checkpoint: Weights of the flow estimator.
            planner_args: Constructor arguments of the planner.
            plan_cache: Whether plans are kept for the next run, or the folder they are kept in. Plans of privileged planners
                never are.
            checkpoint: Weights (or demonstrations) of the planner.
            device: Where networks run.

        Raises:
            FlowBenchError: For a name or value that does not exist, or parts that do not fit.
        """
        for name, value, allowed in (("rule", rule, RULES), ("variant", variant, VARIANTS)):
            if value not in allowed:
                raise unknown_name(name, str(value), allowed, "Agent avdc")
        try:
            import cv2  # noqa: F401
        except ImportError as error:
            raise missing_extra("Agent avdc", "agents", error) from error
        solver = solver or ("paper-fast" if rule == "paper" else "robust")
        if solver not in SOLVERS:
            raise unknown_name("solver", solver, SOLVERS, "Agent avdc")
        if max_replans is not None and max_replans < 0:
            raise BadValue(f"max_replans is {max_replans}; give 0 or more.")
        if planner is None and checkpoint is None:
            raise BadValue(
                f"Agent avdc needs something that plans: a trained {PLANNERS[variant]} (--checkpoint PATH), or for example "
                "--agent-args planner=oracle,flow=exact."
            )
        self._rule, self._solver, self._faithful, self._masks = rule, solver, faithful, masks
        self._replans = max_replans if max_replans is not None else (0 if variant == "no-replan" else None)
        settings = PlanFlow(flow, crop, device, flow_checkpoint, both_ways=solver == "robust")
        arguments = dict(planner_args or {})
        name = planner or PLANNERS[variant]
        if name == "oracle":
            # Pictures cost ten times as much as states, and exact flow reads none.
            arguments.setdefault("render", not settings.privileged)
        made = make_planner(name, arguments, device=device, checkpoint=checkpoint)
        self.planner: Planner = made
        if plan_cache and made.identity:
            self.planner = CachedPlanner(made, None if plan_cache is True else Path(str(plan_cache)))
        if settings.privileged and not made.needs.privileged:
            raise BadValue(
                f"flow={flow} reads the states of a plan, and planner {name} imagines none. Use planner=oracle."
            )
        self._settings = settings
        self._reader: FlowReader | None = None
        self._rules = TrackingRules.for_noise(
            flow_noise_px if flow_noise_px is not None else NOISE_PX.get(flow, DEFAULT_NOISE_PX)
        )
        self._masker: Masker | None = None if masks == GROUND_TRUTH else load_object(masks)
        own = ("depth", "calibration", *(("rgb",) if self._masker else ("segmentation",)))
        self.needs = replace(
            made.needs,
            modalities=tuple(dict.fromkeys((*made.needs.modalities, *own))),
            privileged=made.needs.privileged or settings.privileged,
        )
        #: Set by whoever wants to draw the plans: keep their flow, and imagine pictures where none are needed.
        self.record_plans = False
        self.plans: list[PlanRecord] = []

    @staticmethod
    def checkpoint_files(checkpoint: str) -> tuple[Path, ...]:
        """Return the files that determine what it does: of a trained planner, or all that is there (demonstrations)."""
        if not _holds_demonstrations(checkpoint):
            return CheckpointAgent.checkpoint_files(checkpoint)
        path = Path(checkpoint)
        return tuple(sorted(file for file in path.rglob("*") if file.is_file())) if path.is_dir() else (path,)

    @staticmethod
    def describe_checkpoint(checkpoint: str) -> str:
        """Return what a trained planner is and how it was trained, or where the demonstrations are."""
        return checkpoint if _holds_demonstrations(checkpoint) else CheckpointAgent.describe_checkpoint(checkpoint)

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Forget the plan.

        Raises:
            AgentError: If the task does not name the object it is about, or no camera sees it.
            UnknownName: If the rule has not been written for the robot.
        """
        if not task.targets and self._masker is None:
            raise AgentError(
                f"Suite {task.suite} does not say which object {task.name} is about; give masks=MODULE:FUNCTION."
            )
        if not cameras:
            raise AgentError("Agent avdc looks through a camera, and the episode has none.")
        self._task = task
        self._navigates = bool(task.action_spec.choices)
        if self._navigates:
            self._feet = feet_of(task.action_spec.convention)
        else:
            self._hand = hand_of(task.action_spec.convention)
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        if self._reader is None:
            self._reader = self._settings.load()
        if self.record_plans and isinstance(self.planner, OraclePlanner):
            self.planner.render = True
        self.planner.reset(task)
        self.rule = self._make_walk() if self._navigates else self._make_rule()
        self.plans = []
        #: Why there is nothing to act on any more; empty while there is.
        self.gave_up = ""
        self._steps = 0
        self._metrics = dict.fromkeys(("planning_s", "flow_s", "motion_s", "model_calls"), 0.0)
        #: Of each plan that holds states, how far the last subgoal is from where the object really goes, and along the view.
        self._errors_m: list[tuple[float, float]] = []

    def act(self, observation: Observation) -> np.ndarray:
        """Return one (A,) action; under the published rule of navigation those of a whole plan (T, 1)."""
        return self._walk(observation) if self._navigates else self._reach(observation)

    def _reach(self, observation: Observation) -> np.ndarray:
        """Move the hand."""
        hand_world = observation.proprio[:3].astype(np.float64)
        if not self.gave_up and self.rule.wants_plan(hand_world):
            try:
                record = self._plan(observation)
                self.rule.take(record.path_world)
                self.plans.append(replace(record, mode=self.rule.mode))
            except ObjectUnseen as reason:
                if isinstance(self.rule, RobustRule) and self.plans:
                    # The hand is in the way, more often than not.
                    self.rule.see_nothing(hand_world)
                else:
                    self.gave_up = str(reason)
            except (NoMotion, NoDirection) as reason:
                self.gave_up = str(reason)
        self._steps += 1
        if self.gave_up:
            # Where the published code raises, or sends NaN to the simulator, its benchmark counts a failure and no error of
            # its own: so does this. There is nothing to act on any more.
            return self._hand.action(self._task.action_spec, hand_world, hand_world, close=False)
        target_world, close = self.rule.command(hand_world)
        return self._hand.action(self._task.action_spec, hand_world, target_world, close)

    def _walk(self, observation: Observation) -> np.ndarray:
        """Choose where to go."""
        if not self.gave_up and self.rule.wants_plan(observation.proprio):
            if self._replans is not None and len(self.plans) > self._replans:
                self.gave_up = "all plans have been carried out"
            else:
                try:
                    self._plan_walk(observation)
                except NoMotion as reason:
                    self.gave_up = str(reason)
        if self.gave_up:
            return np.array([float(self._feet.number(self._feet.done))])
        return self.rule.command()

    @property
    def plan(self) -> PlanRecord | None:
        """The plan that is being followed; None before the first."""
        return self.plans[-1] if self.plans else None

    def episode_metrics(self) -> dict[str, float]:
        """Return what the episode cost so far: numbers that become columns of the results."""
        found = {name: round(value, 4) for name, value in self._metrics.items()}
        counts = {"plans": len(self.plans), "replans": max(0, len(self.plans) - 1), "gave_up": bool(self.gave_up)}
        if self._errors_m:
            error_m, along_view_m = np.mean(self._errors_m, axis=0)
            found |= {
                "plan_error_m": round(float(error_m), 4),
                "plan_error_along_view_m": round(float(along_view_m), 4),
            }
        return {**counts, **found}

    def recorded_plans(self) -> list[RecordedPlan]:
        """Return the plans of the episode so far, for drawing; complete if `record_plans` was set before it."""
        return [
            RecordedPlan(
                step=record.step,
                frames=record.plan.frames,
                window=tuple(record.plan.window),
                # Exact flow is not a number where a point ends up behind the camera.
                flow_px=None if record.chain is None else np.nan_to_num(record.chain.forward_px),
                points_px=record.motion.pixels,
                live=record.motion.live,
                title=f"plan {number} at step {record.step}: {record.mode}, rule {self._rule}, flow {self._settings.name}",
            )
            for number, record in enumerate(self.plans)
            if record.plan.frames is not None
        ]

    # --- one plan

    def _plan(self, observation: Observation) -> PlanRecord:
        # Read before the planner may move the simulator.
        camera, depth_m = observation.camera_params(), observation.depth_m()
        mask = self._mask(observation)
        plan, chain = self._imagine(observation, camera, mask)
        solved = time.perf_counter()
        known = np.ones_like(mask) if chain is None else chain.inside
        points = self._points(mask, known, depth_m, camera)
        motion = _true_motion(plan, mask, points) if chain is None else self._motion(points, chain, camera)
        self._metrics["motion_s"] += time.perf_counter() - solved
        path_world = motion.path_world(points.contact_world)
        if plan.snapshots and chain is not None:
            truth_world = _true_motion(plan, mask, points).path_world(points.contact_world)[-1]
            self._errors_m.append(_miss_m(path_world[-1], truth_world, camera))
        # To be looked at, flow is wanted everywhere; what is done does not depend on whether somebody looks.
        drawn = None if chain is None or not self.record_plans else self._reader.read(plan, camera)
        return PlanRecord(self._steps, plan, "push", motion, path_world, drawn)

    def _plan_walk(self, observation: Observation) -> None:
        # Read before the planner may move the simulator.
        camera, depth_m = observation.camera_params(), observation.depth_m()
        plan, chain = self._imagine(observation, camera)
        solved = time.perf_counter()
        motion = true_scene_motion(plan) if chain is None else self._scene_motion(chain, depth_m, camera)
        self._metrics["motion_s"] += time.perf_counter() - solved
        names = ", ".join(self._feet.choices[choice] for choice in self.rule.take(motion.links))
        self.plans.append(PlanRecord(observation.step, plan, names, motion, chain=chain if self.record_plans else None))

    def _imagine(
        self, observation: Observation, camera: CameraParams, around: np.ndarray | None = None
    ) -> tuple[Plan, FlowChain | None]:
        """Return the next plan and its flow around a bool (H, W) mask; no flow where the true motion is asked for."""
        seed = int(np.random.SeedSequence([self._seed, len(self.plans)]).generate_state(1)[0])
        plan = self.planner.plan(observation, seed)
        flowed = time.perf_counter()
        chain = None if self._settings.name == EXACT_MOTION else self._reader.read(plan, camera, around)
        for name, cost in (
            ("planning_s", plan.seconds),
            ("flow_s", time.perf_counter() - flowed),
            ("model_calls", plan.model_calls),
        ):
            self._metrics[name] += cost
        return plan, chain

    def _mask(self, observation: Observation) -> np.ndarray:
        if self._masker is None:
            return observation.mask(*object_targets(self._task))
        return np.asarray(self._masker(observation.rgb(), observation.instruction), dtype=bool)

    def _points(self, mask: np.ndarray, known: np.ndarray, depth_m: np.ndarray, camera: CameraParams) -> ObjectPoints:
        if self._solver == "robust":
            points = surface_points(mask, known, depth_m, camera, self._rng, palm_m=self._hand.palm_m)
        else:
            points = published_points(mask, depth_m, camera, self._rng, faithful=self._faithful)
        return points

    def _motion(self, points: ObjectPoints, chain: FlowChain, camera: CameraParams) -> ObjectMotion:
        if self._solver == "robust":
            return tracked_motion(points.points_world, points.pixels, chain, camera, self._rules)
        fit = self._fit_fast if self._solver == "paper-fast" else None
        return published_motion(points.points_world, points.pixels, chain, camera, self._rng, fit=fit)

    def _scene_motion(self, chain: FlowChain, depth_m: np.ndarray, camera: CameraParams) -> SceneMotion:
        if self._solver == "robust":
            return explained_scene_motion(chain, depth_m, camera, self._feet.steps)
        fit = self._fit_fast if self._solver == "paper-fast" else None
        return published_scene_motion(chain, depth_m, camera, self._rng, fit=fit)

    def _fit_fast(self, points_world: np.ndarray, pixels: np.ndarray, camera: CameraParams) -> RigidFit:
        if len(points_world) < MIN_POINTS:
            # Two or three points are fitted by many motions; which one AVDC's search finds is its own.
            return fit_published(points_world, pixels, camera, self._rng)
        return fit_reprojection(points_world, pixels, camera)

    def _make_rule(self) -> PublishedRule | RobustRule:
        changes = {} if self._replans is None else {"max_replans": self._replans}
        if self._rule == "paper":
            exact = self._settings.name == EXACT_MOTION
            constants = replace(RuleConstants(), **changes)
            return PublishedRule(self._hand, faithful=self._faithful, exact=exact, constants=constants)
        return RobustRule(self._hand, constants=replace(RobustConstants(), **changes))

    def _make_walk(self) -> PublishedWalk | RobustWalk:
        return PublishedWalk(self._feet, faithful=self._faithful) if self._rule == "paper" else RobustWalk(self._feet)


def _holds_demonstrations(checkpoint: str) -> bool:
    """Return whether what is given to the planner is there, and is no trained one (`planner=retrieval`)."""
    path = Path(checkpoint)
    return path.exists() and not (path / CONFIG).is_file()


def _miss_m(found_world: np.ndarray, true_world: np.ndarray, camera: CameraParams) -> tuple[float, float]:
    """Return by how much a (3,) position misses another one, metres: in all, and along the line of sight to it."""
    sight = true_world - camera.camera_to_world[:3, 3]
    miss = found_world - true_world
    return float(np.linalg.norm(miss)), float(abs(miss @ sight) / np.linalg.norm(sight))


def _true_motion(plan: Plan, mask: np.ndarray, points: ObjectPoints) -> ObjectMotion:
    """Return how the body under the mask really moves in a plan that holds states."""
    snapshots = plan.snapshots or ()
    bodies = snapshots[0].bodies[mask]
    if not len(bodies):
        raise ObjectUnseen("the camera does not see the object that the task is about")
    body = int(np.bincount(bodies).argmax())
    poses_world = np.stack([later.body_to_world[body] @ snapshots[0].world_to_body[body] for later in snapshots])
    moved = [points.points_world @ pose[:3, :3].T + pose[:3, 3] for pose in poses_world]
    pixels = np.stack([later.camera.project(where).pixels for later, where in zip(snapshots, moved)])
    live = np.ones(pixels.shape[:2], bool)
    return ObjectMotion(poses_world, pixels, live, np.zeros(len(poses_world) - 1), solves=0)
