"""Runs attempts in one process and writes those that are kept, each to a file of its own."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import h5py

from flowbench.data.collect_spec import CollectSpec
from flowbench.data.parts import demonstration_path, what_is_kept
from flowbench.data.rendering import observe_states, rendering_env
from flowbench.data.trajectory import Trajectory, record_trajectory
from flowbench.data.writer import PART_GROUP, Check, write_demonstration, write_file
from flowbench.env import EnvConfig
from flowbench.errors import DataError
from flowbench.observation import Observation
from flowbench.registry import get_suite
from flowbench.result import EpisodeResult
from flowbench.rollout import Rollout, describe_exception
from flowbench.runner import EpisodeRunner, RunOptions
from flowbench.spec import EpisodeSpec


class DemoRunner(EpisodeRunner):
    """An `EpisodeRunner` whose episodes leave a demonstration in `options.folder` if they are worth keeping.

    An agent that looks at nothing shares its simulator with the rendering afterwards. For one that looks, the simulator is
    built anew for rendering: its images may have another size and orientation, and two OpenGL contexts in a process are
    avoided.
    """

    def __init__(self, spec: CollectSpec, options: RunOptions) -> None:
        """Build the agent."""
        super().__init__(spec, options)
        self.spec: CollectSpec = spec
        self._suite = get_suite(spec.suite)

    @property
    def looks(self) -> bool:
        """Whether the agent reads images, so that something is rendered while it acts."""
        return bool(self.agent.needs.modalities)

    def cameras(self, episode: EpisodeSpec) -> tuple[str, ...]:
        """Return the agent's cameras, or those to be stored where the agent looks at none."""
        return super().cameras(episode) if self.looks else self._stored().cameras

    def env_config(self, cameras: tuple[str, ...]) -> EnvConfig:
        """Return how the agent sees a task, or how it is stored where the agent looks at nothing."""
        config = super().env_config(cameras)
        if self.looks:
            # The size asked for is that of the stored images.
            return replace(config, image_size=self.agent.needs.image_size)
        stored = self._stored()
        return replace(config, modalities=stored.modalities, image_size=stored.image_size, image_view="geometric")

    def run(self, episode: EpisodeSpec) -> Rollout:
        """Run one attempt; what goes wrong in the episode is its outcome.

        Raises:
            DataError: If its states cannot be stored, or the demonstration cannot be written.
        """
        if not self.looks:
            # The same demonstration, whichever cameras it is stored through; and the one of `flowbench eval`.
            episode = replace(episode, camera=self._suite.default_view)
        started = time.perf_counter()
        try:
            trajectory = record_trajectory(self.env(episode), self.agent, episode, self.spec)
        except DataError:
            raise
        except Exception as exception:
            error = describe_exception(exception, self.spec.agent.name, 0)
            # Whatever broke may have left the simulator in a state that no reset repairs.
            self.close()
            return Rollout(self._result(episode, started, None, error), traceback.format_exc())
        if (trajectory.success or self.spec.keep_failures) and len(trajectory):
            self._write(trajectory)
        return Rollout(self._result(episode, started, trajectory, None), "")

    def _write(self, trajectory: Trajectory) -> None:
        episode, stored = trajectory.episode, self._stored()
        observations: Iterable[Observation] = ()
        names: dict[int, str] = {}
        if self.spec.renders:
            if self.looks:
                self.close()
                task = self._suite.task(episode.task)
                self._env = rendering_env(self._suite, task, self.spec.rules, stored)
            env = self.env(episode) if self._env is None else self._env
            observations = observe_states(env, trajectory.states, episode.scenario)
            if "segmentation" in stored.modalities:
                names = dict(env.simulator.segmentation_names())

        def fill(file: h5py.File, check: Check) -> None:
            group = file.create_group(PART_GROUP)
            write_demonstration(group, trajectory, observations, names, self.spec, self._suite, check)

        folder = self.options.folder
        try:
            write_file(demonstration_path(folder, episode), fill, what_is_kept(folder))
        finally:
            if self.looks and self.spec.renders:
                self.close()

    def _stored(self) -> EnvConfig:
        """Return what is stored of each step."""
        return EnvConfig(
            cameras=self.spec.cameras if self.spec.renders else (),
            # Where nothing is rendered, nothing needs OpenGL.
            modalities=self.spec.modalities if self.spec.renders else (),
            image_size=self.spec.image_size,
            profile=self.spec.profile,
        )

    def _result(
        self, episode: EpisodeSpec, started: float, trajectory: Trajectory | None, error: str | None
    ) -> EpisodeResult:
        outcome: dict[str, Any] = {"status": "error", "steps": 0, "first_success": None, "total_reward": 0.0}
        if trajectory is not None:
            outcome = {
                "status": "success" if trajectory.success else "failure",
                "steps": len(trajectory),
                "first_success": trajectory.first_success,
                "total_reward": float(trajectory.rewards.sum()),
            }
        return EpisodeResult.of(
            episode,
            protocol=self.spec.protocol,
            agent=self.spec.agent.name,
            privileged=self.agent.needs.privileged,
            seconds=round(time.perf_counter() - started, 4),
            agent_seconds=round(trajectory.agent_seconds, 4) if trajectory else 0.0,
            agent_calls=trajectory.agent_calls if trajectory else 0,
            error=error,
            **outcome,
        )
