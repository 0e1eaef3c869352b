"""An evaluation as data: which episodes of which suite, seen how, by which agent.

A spec is frozen, serialisable and hashed; the hash decides whether a result folder may be continued. What does not
change an episode's outcome (workers, device, output folder) is not part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, zip_longest
from typing import Any

from flowbench.camera import CameraPose
from flowbench.env import check_scenario
from flowbench.errors import BadValue, StoreError
from flowbench.registry import get_suite
from flowbench.seeding import derive_seed
from flowbench.suite import Suite
from flowbench.task import ImageView, ProtocolRules, Scenario


@dataclass(frozen=True)
class EpisodeSpec:
    """One episode to be: a scenario, seen from a camera pose.

    Attributes:
        suite: Name of the suite.
        task: Name of the task.
        camera: Text of the camera pose.
        scenario: The initial condition.
    """

    suite: str
    task: str
    camera: str
    scenario: Scenario

    @property
    def id(self) -> str:
        """Readable id, e.g. `metaworld11/door-open@corner2+yaw15/s003`."""
        return f"{self.suite}/{self.task}@{self.camera}/{self.scenario.key}"

    @property
    def scenario_id(self) -> str:
        """The id without the camera: what two agents, or two camera poses, are paired by."""
        return f"{self.suite}/{self.task}/{self.scenario.key}"

    @property
    def agent_seed(self) -> int:
        """Seed of the agent's randomness in this episode."""
        return derive_seed(self.id, "agent")

    def next_agent_seed(self, completed: int) -> int:
        """Seed of the agent's randomness for the instruction of a chain that comes after `completed` others."""
        return derive_seed(self.id, f"agent/{completed}")


@dataclass(frozen=True)
class AgentSpec:
    """Which agent, exactly.

    Attributes:
        name: Registered name, `package.module:Class` or `path/to/file.py:Class`.
        arguments: Constructor arguments; JSON values only.
        checkpoint: Where its checkpoint was read from; None if it has none.
        content_sha256: Hash of the checkpoint's files, or of the agent's own file; None if there is neither.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    content_sha256: str | None = None


@dataclass(frozen=True)
class EvalSpec:
    """One evaluation.

    Attributes:
        suite: Name of the suite.
        protocol: Name of the protocol.
        agent: The agent.
        tasks: Names of the tasks, in order.
        cameras: Texts of the camera poses, in order.
        seeds: Scenario seeds.
        init_states: Indices of stored initial states; None where the suite has none.
        limit: At most this many episodes, spread over the tasks; None for all.
        max_steps: Horizon instead of the protocol's; None keeps it.
        image_size: (width, height) in pixels; None takes the agent's wish or the suite's default.
        image_view: Image orientation; None takes the agent's wish or the protocol's.
        profile: Render profile.
        clip_actions: Clip out-of-range actions instead of counting an error.
        suite_version: Version of the suite's episode ids.
    """

    suite: str
    protocol: str
    agent: AgentSpec
    tasks: tuple[str, ...]
    cameras: tuple[str, ...]
    seeds: tuple[int, ...]
    init_states: tuple[int, ...] | None = None
    limit: int | None = None
    max_steps: int | None = None
    image_size: tuple[int, int] | None = None
    image_view: ImageView | None = None
    profile: str = "full"
    clip_actions: bool = False
    suite_version: int = 1

    @property
    def rules(self) -> ProtocolRules:
        """The protocol's rules, with the horizon that this evaluation uses."""
        rules = get_suite(self.suite).rules(self.protocol)
        return rules if self.max_steps is None else replace(rules, horizon=self.max_steps)

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios of each task."""
        states = (None,) if self.init_states is None else self.init_states
        return tuple(Scenario(seed, state) for state in states for seed in self.seeds)

    def episodes(self) -> list[EpisodeSpec]:
        """Return every episode, task by task; a `limit` takes from all tasks in turn."""
        per_task = [
            [EpisodeSpec(self.suite, task, camera, scenario) for scenario in self.scenarios for camera in self.cameras]
            for task in self.tasks
        ]
        if self.limit is None:
            return list(chain.from_iterable(per_task))
        in_turn = [episode for row in zip_longest(*per_task) for episode in row if episode is not None]
        chosen = set(in_turn[: self.limit])
        return [episode for episode in chain.from_iterable(per_task) if episode in chosen]

    def check(self) -> Suite:
        """Check every name and number against the suite, and return the suite.

        Raises:
            FlowBenchError: For the first that does not fit, in one sentence.
        """
        suite = get_suite(self.suite)
        suite.check_backend()
        suite.rules(self.protocol)
        for name, values in (("tasks", self.tasks), ("cameras", self.cameras), ("seeds", self.seeds)):
            if not values:
                raise BadValue(f"The evaluation has no {name}; give at least one.")
            value, count = Counter(values).most_common(1)[0]
            if count > 1:
                raise BadValue(f"{name} lists {value!r} {count} times; each episode is run once.")
        for task in self.tasks:
            suite.task(task)
        for camera in self.cameras:
            suite.check_view(CameraPose.parse(camera).view)
        for scenario in self.scenarios:
            check_scenario(suite, scenario)
        for name, value in (("limit", self.limit), ("max-steps", self.max_steps)):
            if value is not None and value < 1:
                raise BadValue(f"--{name} is {value}; give a whole number from 1.")
        suite.check_installed()
        return suite

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object from which `from_json` makes an equal spec."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EvalSpec:
        """Read a spec.

        Raises:
            StoreError: If a field is missing or unknown.
        """
        try:
            values = dict(data)
            values["agent"] = AgentSpec(**values["agent"])
            for name in ("tasks", "cameras", "seeds", "init_states", "image_size"):
                if values.get(name) is not None:
                    values[name] = tuple(values[name])
            return cls(**values)
        except (TypeError, KeyError, ValueError) as error:
            raise StoreError(
                f"This evaluation spec cannot be read ({error}); was it made by a newer FlowBench?"
            ) from error

    @property
    def digest(self) -> str:
        """Hash of everything that decides an outcome."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: EvalSpec) -> list[str]:
        """Return the fields in which another spec differs, each as `name: ours != theirs`."""
        ours, theirs = self.to_json(), other.to_json()
        return [
            f"{name}: {json.dumps(ours[name])} != {json.dumps(theirs[name])}"
            for name in ours
            if ours[name] != theirs[name]
        ]
