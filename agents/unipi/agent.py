"""UniPi in an episode: imagine a video, and follow it picture by picture with learned inverse dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from flowbench.agent import Needs
from flowbench.agents.nets.observation import to_float
from flowbench.agents.planning import Plan, Planner, make_planner
from flowbench.agents.planning.cache import CachedPlanner
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointAgent, make_config
from flowbench.agents.training.devices import checked_device
from flowbench.agents.training.images import ImageFit
from flowbench.agents.unipi.model import INVERSE_PART, InverseDynamics, UniPiConfig
from flowbench.agents.video_diffusion.model import VideoDiffusionConfig
from flowbench.agents.video_diffusion.planner import VideoDiffusionPlanner
from flowbench.agents.video_diffusion.saved import VIDEO_FACT
from flowbench.camera import CameraParams, CameraPose
from flowbench.errors import AgentError, BadValue, unknown_name
from flowbench.observation import Observation
from flowbench.plan_recording import RecordedPlan
from flowbench.task import DONE, Task

MODES = ("replan", "open-loop")
#: Plans after the first (`max_replans` of AVDC's `IDPolicy`).
MAX_REPLANS = 5
#: How much longer than in the demonstrations a picture is pursued, unless the agent is faithful.
PATIENCE = 3.0


class UniPiAgent(CheckpointAgent):
    """Follows imagined pictures, one after the other.

    Where an action is one of a few, an action is taken for every picture but the first, whether it is then reached or not.
    """

    def __init__(
        self,
        checkpoint: str | Checkpoint,
        mode: Literal["replan", "open-loop"] = "replan",
        faithful: bool = True,
        max_replans: int = MAX_REPLANS,
        planner: str | None = None,
        planner_args: Mapping[str, Any] | None = None,
        plan_cache: bool | str = True,
        device: str = "cpu",
    ) -> None:
        """Load the networks.

        Args:
            checkpoint: Folder, name of a shipped one, or `hf://organisation/name`.
            mode: `replan` looks at every step, goes on to the next picture when the present one is reached, and plans again after
                the last (AVDC's row "UniPi (With Replan)"). `open-loop` is UniPi as published: one plan, and every action worked
                out from its pictures before the first is executed.
            faithful: Whether `replan` is AVDC's: the first picture to reach is the present one, and a picture that is never
                reached is pursued for ever. Otherwise it begins with the second, and goes on after three times the steps that
                demonstrations take from picture to picture.
            max_replans: Plans after the first.
            planner: Another planner than the checkpoint's own video model, e.g. `oracle`.
            planner_args: Constructor arguments of the planner.
            plan_cache: Whether plans are kept for the next run, or the folder they are kept in.
            device: Where the networks run.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another agent.
            FlowBenchError: For a name or value that does not exist.
        """
        if mode not in MODES:
            raise unknown_name("mode", str(mode), MODES, "Agent unipi")
        if max_replans < 0:
            raise BadValue(f"max_replans is {max_replans}; give 0 or more.")
        self.checkpoint = Checkpoint.open(checkpoint, "unipi")
        self._mode, self._faithful, self._max_replans = mode, faithful, max_replans
        self._device = checked_device(device)
        facts = self.checkpoint.facts
        self._inverse = InverseDynamics(self.checkpoint.config_as(UniPiConfig), facts).to(self._device)
        self.checkpoint.fill(self._inverse, INVERSE_PART)
        self._fit = make_config(VideoDiffusionConfig, facts[VIDEO_FACT]).fit
        self._choices = tuple(facts.get("action_choices", ()))
        if planner is None:
            made: Planner = VideoDiffusionPlanner(self.checkpoint, device, **(planner_args or {}))
        else:
            made = make_planner(planner, planner_args, device=device)
        self.planner = made
        if plan_cache and made.identity:
            self.planner = CachedPlanner(made, None if plan_cache is True else Path(str(plan_cache)))
        needs = Needs(
            modalities=tuple(dict.fromkeys((*made.needs.modalities, "rgb", "calibration"))),
            image_size=tuple(facts["image_size"]),
            image_view=facts["image_view"],
            action_convention=facts["action_convention"],
        )
        self.needs = replace(needs, privileged=made.needs.privileged)
        #: Set by whoever wants to draw the plans.
        self.record_plans = False

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Forget the plan.

        Raises:
            CheckpointError: If the task is of another suite, or the camera unknown to the inverse dynamics.
        """
        camera = next(iter(cameras))
        self.checkpoint.check_task(task, [camera])
        self._camera = self.checkpoint.facts["cameras"].index(CameraPose.parse(camera).view)
        self.planner.reset(task)
        self._seed = seed
        self.plan: Plan | None = None
        self._plans = self._steps = 0
        self._recorded: list[RecordedPlan] = []
        self._metrics = {"planning_s": 0.0, "model_calls": 0.0}
        self._rest: np.ndarray | None = None

    def act(self, observation: Observation) -> np.ndarray:
        """Return one (A,) action, or in open loop all of them (T, A)."""
        if self._mode == "open-loop":
            return self._act_open_loop(observation)
        if self.plan is None:
            self._imagine(observation)
        seen = self._fit(observation.rgb())
        self._steps += 1
        actions, reached = self._ask(seen[None], self._pictures[self._index][None])
        self._pursued += 1
        patience = np.inf if self._faithful else PATIENCE * self.checkpoint.facts["steps_per_picture"]
        if reached[0] or self._pursued >= patience or self._choices:
            self._go_on(observation)
        return actions[0]

    def episode_metrics(self) -> dict[str, float]:
        """Return what the episode cost so far: numbers that become columns of the results."""
        costs = {name: round(value, 4) for name, value in self._metrics.items()}
        return {"plans": self._plans, "replans": max(0, self._plans - 1), **costs}

    def recorded_plans(self) -> list[RecordedPlan]:
        """Return what was imagined since the last `reset`; empty unless plans are recorded."""
        return self._recorded

    def _go_on(self, observation: Observation) -> None:
        """Pursue the next picture, or a new plan after the last; when plans are used up, the last picture is held."""
        self._pursued = 0
        if self._index + 1 < len(self._pictures):
            self._index += 1
        elif self._plans <= self._max_replans:
            self._imagine(observation)

    def _imagine(self, observation: Observation) -> None:
        seed = int(np.random.SeedSequence([self._seed, self._plans]).generate_state(1)[0])
        self.plan = self.planner.plan(observation, seed)
        self._plans += 1
        self._metrics["planning_s"] += self.plan.seconds
        self._metrics["model_calls"] += self.plan.model_calls
        self._pictures = self._shown(self.plan, observation.camera_params())
        if self.record_plans:
            self._recorded.append(RecordedPlan(self._steps, self.plan.frames, tuple(self.plan.window)))
        # AVDC's index starts at the present picture itself, so "reached" has to be said once before anything is pursued.
        self._index = 0 if self._faithful and not self._choices else 1
        self._pursued = 0

    def _act_open_loop(self, observation: Observation) -> np.ndarray:
        if self._rest is not None:
            return self._rest
        self._imagine(observation)
        actions, _ = self._ask(self._pictures[:-1], self._pictures[1:])
        # Nothing says how long an imagined picture takes; demonstrations say how long one usually does.
        chunk = np.repeat(actions, max(1, round(self.checkpoint.facts["steps_per_picture"])), axis=0)
        if self._choices:
            self._rest = np.array([float(self._choices.index(DONE))])
            return chunk
        # Then it stands still, with the gripper (the last component of every convention) as it is.
        self._rest = np.zeros_like(chunk[-1])
        self._rest[-1] = chunk[-1, -1]
        return chunk

    def _shown(self, plan: Plan, camera: CameraParams) -> np.ndarray:
        """Return a plan's pictures as the inverse dynamics knows them, uint8 (T, h, w, 3)."""
        if plan.frames is None:
            raise AgentError("Agent unipi follows pictures, and its planner imagines none. Choose another planner.")
        shown, whole = plan.window, (plan.window.width, plan.window.height) == (camera.width, camera.height)
        if whole and plan.frames.shape[1:3] == (camera.height, camera.width):
            return self._fit(plan.frames)
        if self._fit.crop is None or (shown.width, shown.height) == tuple(self._fit.crop):
            return ImageFit(self._fit.size)(plan.frames)
        raise AgentError(
            f"The planner shows {shown.width}x{shown.height} pixels of the image, and the inverse dynamics knows the middle "
            f"{self._fit.crop[0]}x{self._fit.crop[1]}. Choose another planner."
        )

    @torch.no_grad()
    def _ask(self, seen: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 actions (B, A) and bool (B,) whether uint8 (B, h, w, 3) pictures are reached."""
        pictures = [to_float(torch.from_numpy(np.ascontiguousarray(part)).to(self._device)) for part in (seen, wanted)]
        cameras = torch.full((len(seen),), self._camera, device=self._device)
        raw, logit = self._inverse(*pictures, cameras)
        return self._inverse.actions(raw).cpu().numpy().astype(np.float64), (logit > 0).cpu().numpy()
