"""Runs episodes in one process: one agent, one simulator at a time, kept while the task stays the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowbench.agent import Agent
from flowbench.env import EnvConfig, TaskEnv
from flowbench.plan_recording import check_plan_recording, write_plans
from flowbench.recording import RECORDED_MODALITIES, Recorder, RecordFormat, RecordMode
from flowbench.registry import get_suite, make_agent
from flowbench.rollout import Rollout, rollout
from flowbench.spec import EpisodeSpec, EvalSpec


@dataclass(frozen=True)
class RunOptions:
    """What may differ between two runs of one spec without changing an outcome.

    Attributes:
        device: Device given to the agent.
        record: Which episodes are recorded.
        record_formats: As what.
        folder: The run's folder; recordings go there.
    """

    device: str = "cpu"
    record: RecordMode = "none"
    record_formats: tuple[RecordFormat, ...] = ("mp4",)
    folder: Path = Path()


class EpisodeRunner:
    """Builds the agent once and each task's environment when it is first needed.

    Building two simulators at the same time in one process is avoided on purpose: two OpenGL contexts in a process can
    swap frames.
    """

    def __init__(self, spec: EvalSpec, options: RunOptions) -> None:
        """Build the agent.

        Raises:
            FlowBenchError: If the agent cannot be built.
        """
        self.spec, self.options = spec, options
        self.agent: Agent = make_agent(
            spec.agent.name, dict(spec.agent.arguments), device=options.device, checkpoint=spec.agent.checkpoint
        )
        if options.record == "plans":
            check_plan_recording(self.agent, spec.agent.name)
        self._env: TaskEnv | None = None

    def env(self, episode: EpisodeSpec) -> TaskEnv:
        """Return the environment of an episode's task, looking through the episode's camera."""
        if self._env is not None and self._env.task.name != episode.task:
            self.close()
        cameras = self.cameras(episode)
        if self._env is None:
            suite = get_suite(self.spec.suite)
            self._env = TaskEnv(suite, suite.task(episode.task), self.spec.rules, self.env_config(cameras))
        self._env.set_cameras(cameras)
        return self._env

    def cameras(self, episode: EpisodeSpec) -> tuple[str, ...]:
        """Return the cameras of an episode: its own first, then those the agent wants besides."""
        return tuple(dict.fromkeys((episode.camera, *self.agent.needs.extra_cameras)))

    def env_config(self, cameras: tuple[str, ...]) -> EnvConfig:
        """Return how the agent sees a task: the evaluation's wish, else the agent's, else the suite's."""
        needs = self.agent.needs
        modalities = tuple(needs.modalities)
        if self.options.record == "plans":
            modalities = ("rgb", *(name for name in modalities if name != "rgb"))
        elif self.options.record != "none":
            recorded = dict.fromkeys(name for kind in self.options.record_formats for name in RECORDED_MODALITIES[kind])
            modalities = (*(name for name in recorded if name not in modalities), *modalities)
        return EnvConfig(
            cameras=cameras,
            modalities=modalities,
            image_size=self.spec.image_size or needs.image_size,
            image_view=self.spec.image_view or needs.image_view,
            profile=self.spec.profile,
            lazy=True,
            privileged=needs.privileged,
            clip_actions=self.spec.clip_actions,
        )

    def run(self, episode: EpisodeSpec) -> Rollout:
        """Run one episode; errors inside it become its outcome."""
        formats = self.options.record_formats
        plans = self.options.record == "plans"
        recorder = Recorder(views="rrd" in formats and not plans) if self.options.record != "none" else None
        env = self.env(episode)
        finished = rollout(env, self.agent, episode, agent_name=self.spec.agent.name, recorder=recorder)
        wanted = self.options.record == "all" or finished.result.status != "success"
        if plans:
            write_plans(self.options.folder, episode.id, self.agent.recorded_plans(), recorder.frames)
        elif recorder is not None and wanted:
            recorder.write(self.options.folder, episode.id, formats)
        if finished.result.status == "error":
            # Whatever broke may have left the simulator in a state that no reset repairs.
            self.close()
        return finished

    def close(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
            self._env = None
