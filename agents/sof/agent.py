"""SOF in an episode: look, choose a skill, decode its flow, turn that into actions, and look again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from flowbench.agents.planning import Window
from flowbench.agents.sof.config import SofConfig
from flowbench.agents.sof.geometric import LOOKAHEAD, GeometricFlow2Action
from flowbench.agents.sof.network import SofNetwork
from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.imitation_agent import ImitationAgent
from flowbench.camera import CameraParams
from flowbench.data.colours import colour_flow
from flowbench.errors import BadValue, unknown_name
from flowbench.observation import Observation
from flowbench.plan_recording import RecordedPlan
from flowbench.task import Task

ACTS = ("learned", "geometry")


class _Chosen(NamedTuple):
    """A skill, and what was seen when it was chosen.

    Attributes:
        tokens: (1, n).
        frames: (1, 3, H, W) in [0, 1].
        camera: (1,) number of the camera.
        proprio: (1, P) robot state; None if the network does not see it.
        extra: Frames (1, 3, H, W) of every extra camera.
    """

    tokens: torch.Tensor
    frames: torch.Tensor
    camera: torch.Tensor
    proprio: torch.Tensor | None
    extra: list[torch.Tensor]


class SofAgent(ImitationAgent):
    """Skills, one after the other, each carried out for a few steps before the next one is chosen."""

    def __init__(
        self,
        checkpoint: str | Checkpoint,
        replan: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        act: Literal["learned", "geometry"] = "learned",
        flow_noise: float = 0.0,
        occlusion: float = 0.0,
        device: str = "cpu",
    ) -> None:
        """Load the networks.

        Args:
            checkpoint: Folder, name of a shipped one, or `hf://organisation/name`.
            replan: Steps from one choice of a skill to the next, instead of the trained number (`execute`).
            temperature: Of sampling tokens, instead of the trained one; 0 takes the most likely ones.
            top_k: Only the k most likely tokens are sampled, instead of the trained number.
            act: `learned` Flow2Action, or `geometry`: without learning, from depth and masks.
            flow_noise: Standard deviation of noise on the plan, in units of the size of the flow (`diagnose sof-robustness`).
            occlusion: Share of the plan's width and height that a square hides at a place of its own in every plan.
            device: Where the networks run.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another agent.
            BadValue: If an argument does not fit the checkpoint.
        """
        super().__init__(Checkpoint.open(checkpoint, "sof"), SofConfig, SofNetwork, device)
        config = self._config
        if act not in ACTS:
            raise unknown_name("act", str(act), ACTS, "Agent sof")
        self._learned = act == "learned"
        most = config.chunk if self._learned else config.horizon
        self._replan = config.execute if replan is None else int(replan)
        if not 1 <= self._replan <= most:
            raise BadValue(
                f"replan is {replan}; with act={act} this checkpoint knows {most} steps, so it is from 1 to that."
            )
        if not self._learned:
            if config.content != "flow":
                raise BadValue(
                    f"act=geometry reads flow, and this checkpoint imagines {config.content}. Use act=learned."
                )
            self.needs = replace(self.needs, modalities=("rgb", "depth", "segmentation", "calibration"))
        self._temperature = config.temperature if temperature is None else float(temperature)
        self._top_k = config.top_k if top_k is None else int(top_k)
        for name, value in (("temperature", self._temperature), ("top_k", self._top_k), ("flow_noise", flow_noise)):
            if value < 0:
                raise BadValue(f"{name} is {value}; it is at least 0.")
        if not 0 <= occlusion <= 1:
            raise BadValue(f"occlusion is {occlusion}; it is a share, from 0 to 1.")
        self._noise, self._occlusion = flow_noise, occlusion
        #: Set by whoever wants to draw the plans.
        self.record_plans = False

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Check that the episode is of a kind that the networks know, and forget the last one.

        Raises:
            CheckpointError: If the task is of another suite, or the camera unknown.
            AgentError: If the hand of this suite's robot is not known, with `act=geometry`.
        """
        super().reset(task, cameras, seed)
        self._draws = torch.Generator().manual_seed(int(np.random.SeedSequence([seed]).generate_state(1)[0]))
        self._metrics: dict[str, float] = {"plans": 0, "planning_s": 0.0}
        self._recorded: list[RecordedPlan] = []
        self._geometry = None if self._learned else GeometricFlow2Action(task, self._config, seed)
        self._left = 0

    def act(self, observation: Observation) -> np.ndarray:
        """Return a chunk (T, A), all that is done until the next skill is chosen; one action (A,) with `act=geometry`."""
        if self._geometry is None:
            return self._act_learned(observation)
        if self._left == 0:
            with torch.inference_mode(), self._timed():
                chosen = self._choose(observation)
                steps = range(min(self._replan + LOOKAHEAD, self._config.horizon))
                content = self._disturbed(self._model.skills.decode(chosen.tokens, chosen.frames, list(steps)))
            self._record(observation, chosen.frames, content)
            self._geometry.take(observation, content[0].cpu().numpy())
            self._left = self._replan
        self._left -= 1
        return self._geometry.command(observation.proprio[:3].astype(np.float64))

    def _act_learned(self, observation: Observation) -> np.ndarray:
        model, config = self._model, self._config
        with torch.inference_mode(), self._timed():
            chosen = self._choose(observation)
            if config.act_from == "flow":
                content = self._disturbed(model.skills.decode(chosen.tokens, chosen.frames, config.plan_frames))
                self._record(observation, chosen.frames, content)
                plan = model.shown(content)
            else:
                plan = model.plan(chosen.tokens, chosen.frames)
            made = model.flow2action(chosen.frames, plan, chosen.camera, chosen.proprio, chosen.extra)
            chunk = model.flow2action.actions(*made)[0].cpu().numpy().astype(np.float64)
        return chunk[: self._replan]

    def episode_metrics(self) -> dict[str, float]:
        """Return what the episode cost so far: numbers that become columns of the results."""
        return {name: round(value, 4) for name, value in self._metrics.items()}

    def recorded_plans(self) -> list[RecordedPlan]:
        """Return what was imagined since the last `reset`; empty unless plans are recorded."""
        return self._recorded

    def _choose(self, observation: Observation) -> _Chosen:
        """Look, and choose a skill for what is seen."""
        self._look(observation)
        images, sentence, camera, proprio = self._seen(observation)
        policy = self._model.policy
        context = policy.context(images[:1], sentence, camera, proprio)
        tokens = policy.choose(context, self._temperature, self._top_k, self._draws)
        return _Chosen(tokens, images[0][:, -1], camera, proprio, [seen[:, -1] for seen in images[1:]])

    def _disturbed(self, content: torch.Tensor) -> torch.Tensor:
        """Return content (1, K, C, h, w) with the noise and the hidden square that were asked for."""
        if self._noise:
            noise = torch.randn(content.shape, generator=self._draws) * self._noise * float(self._model.skills.scale)
            content = content + noise.to(content.device)
        if self._occlusion:
            height, width = (round(self._occlusion * side) for side in content.shape[-2:])
            top = int(torch.randint(content.shape[-2] - height + 1, (1,), generator=self._draws))
            left = int(torch.randint(content.shape[-1] - width + 1, (1,), generator=self._draws))
            content = content.clone()
            content[..., top : top + height, left : left + width] = 0
        return content

    def _record(self, observation: Observation, frames: torch.Tensor, content: torch.Tensor) -> None:
        if not self.record_plans or self._config.content != "flow":
            return
        flow = content[0].movedim(1, -1).float().cpu().numpy()
        shares = np.linalg.norm(flow, axis=-1)
        full = max(1e-6, float(np.percentile(shares, 99.5)))
        pictures = [colour_flow(each, full) for each in flow]
        height, width = pictures[0].shape[:2]
        seen = torch.nn.functional.interpolate(frames, (height, width), mode="area")[0].movedim(0, -1)
        first = (seen.cpu().numpy() * 255).round().astype(np.uint8)
        camera = observation.camera_params()
        crop = self._config.crop or (camera.width, camera.height)
        window = Window((camera.width - crop[0]) // 2, (camera.height - crop[1]) // 2, *crop)
        self._recorded.append(RecordedPlan(observation.step, np.stack([first, *pictures]), tuple(window)))

    def _timed(self) -> Any:
        return _Stopwatch(self._metrics)


class _Stopwatch:
    """Counts a plan and the wall seconds that it takes."""

    def __init__(self, metrics: dict[str, float]) -> None:
        self._metrics = metrics

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._metrics["plans"] += 1
        self._metrics["planning_s"] += time.perf_counter() - self._began
