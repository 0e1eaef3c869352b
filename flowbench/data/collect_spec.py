"""A collection of demonstrations as data: an evaluation's episodes, and what is kept of them.

It is frozen, serialisable and hashed like an evaluation; the hash decides whether an interrupted collection may go on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowbench.data.layout import DEPTH_FORMATS
from flowbench.env import EnvConfig, TaskEnv
from flowbench.errors import BadValue, StoreError, unknown_name
from flowbench.simulator import MODALITIES
from flowbench.spec import EpisodeSpec, EvalSpec
from flowbench.suite import Suite

#: Demonstrations start from seeds from here on, evaluations from 0 on: what is trained on is never what is tested on,
#: unless somebody asks for it.
FIRST_TRAINING_SEED = 10_000

#: Attempts per wanted demonstration, unless the user says otherwise.
ATTEMPTS_PER_DEMONSTRATION = 5


@dataclass(frozen=True)
class CollectSpec(EvalSpec):
    """One collection. Its scenarios are candidates: they are tried in order until enough demonstrations are kept.

    Attributes:
        demonstrations: Demonstrations to keep per task.
        max_attempts: Scenarios to try per task at most.
        keep_failures: Whether episodes that do not reach the goal are kept as well.
        modalities: What is stored of each camera.
        depth_format: How depth is stored, a key of `DEPTH_FORMATS`.
        action_noise: Standard deviation of the noise on executed actions, as a fraction of half the action range.
        start_noise: Random actions before the agent takes over.
        finish: Whether an episode goes on after its first success until the agent has finished.
        action_free: Whether only images, calibration and the instruction are stored.
        compression: gzip level, 0 to 9.
    """

    demonstrations: int = 10
    max_attempts: int = 50
    keep_failures: bool = False
    modalities: tuple[str, ...] = MODALITIES
    depth_format: str = "uint16"
    action_noise: float = 0.0
    start_noise: int = 0
    finish: bool = False
    action_free: bool = False
    compression: int = 4

    def attempts(self, task: str) -> list[EpisodeSpec]:
        """Return the episodes of a task in the order in which they are tried."""
        camera = self.cameras[0] if self.cameras else self._suite().default_view
        return [EpisodeSpec(self.suite, task, camera, scenario) for scenario in self.scenarios[: self.max_attempts]]

    def episodes(self) -> list[EpisodeSpec]:
        """Return every episode that may be tried, task by task."""
        return [episode for task in self.tasks for episode in self.attempts(task)]

    @property
    def renders(self) -> bool:
        """Whether anything is stored of any camera."""
        return bool(self.cameras and self.modalities)

    def check(self) -> Suite:
        """Check every name and number against the suite, and return the suite.

        Raises:
            FlowBenchError: For the first that does not fit, in one sentence.
        """
        suite = EvalSpec.check(replace(self, cameras=self.cameras or (self._suite().default_view,)))
        if self.rules.chain > 1:
            raise BadValue(
                f"Suite {suite.name} asks for {self.rules.chain} instructions in a row, and a demonstration is of one. "
                "Collect from a suite of single tasks: flowbench list suites"
            )
        for modality in self.modalities:
            if modality not in MODALITIES:
                raise unknown_name("modality", modality, (*MODALITIES, "none"))
        if self.depth_format not in DEPTH_FORMATS:
            raise unknown_name("depth format", self.depth_format, DEPTH_FORMATS)
        if self.action_free and not self.renders:
            raise BadValue("--action-free stores images only, and no camera or modality is asked for; give --cameras.")
        for option, value, low, high in (
            ("--episodes", self.demonstrations, 1, float("inf")),
            ("--max-attempts", self.max_attempts, 1, float("inf")),
            ("--action-noise", self.action_noise, 0, 1),
            ("--start-noise", self.start_noise, 0, 1000),
            ("--compression", self.compression, 0, 9),
        ):
            if not low <= value <= high:
                raise BadValue(
                    f"{option} is {value:g}; give a number from {low}" + (f" to {high}." if high < 1e9 else ".")
                )
        if self.action_noise and suite.task(self.tasks[0]).action_spec.choices:
            raise BadValue(
                f"--action-noise is for motions, and actions of suite {self.suite} are one of a few. Vary the demonstrations "
                "with --start-noise N, random actions before the agent takes over."
            )
        candidates = min(self.max_attempts, len(self.scenarios))
        if candidates < self.demonstrations:
            raise BadValue(
                f"--episodes asks for {self.demonstrations} demonstrations per task and only {candidates} starts may be tried; "
                "raise --max-attempts, or give more --seeds or --init-states."
            )
        # Also checks the image size; nothing is simulated.
        TaskEnv(
            suite, suite.task(self.tasks[0]), self.rules, EnvConfig(image_size=self.image_size, profile=self.profile)
        )
        return suite

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object from which `from_json` makes an equal spec; the seeds are written as ranges."""
        return {**super().to_json(), "seeds": _ranges(self.seeds)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CollectSpec:
        """Read a spec.

        Raises:
            StoreError: If a field is missing or unknown.
        """
        try:
            values = {**data, "modalities": tuple(data["modalities"]), "seeds": _indices(data["seeds"])}
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"This collection's spec cannot be read ({error}).") from error
        return super().from_json(values)

    def _suite(self) -> Suite:
        from flowbench.registry import get_suite

        return get_suite(self.suite)


def _ranges(indices: tuple[int, ...]) -> str:
    """Write numbers as ranges: (3, 4, 5, 9) is `3-5,9`; an HDF5 attribute holds 64 KiB and seeds can be many."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _indices(text: str) -> tuple[int, ...]:
    indices: list[int] = []
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        indices.extend(range(int(first), int(last or first) + 1))
    return tuple(indices)
