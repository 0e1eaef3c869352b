"""The agent contract, checked by running the agent: its needs, its actions, its randomness, its manners."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from flowbench.agent import Agent, Needs
from flowbench.camera import CameraPose
from flowbench.contracts import ContractViolation, closing, require, same
from flowbench.env import EnvConfig, TaskEnv
from flowbench.errors import ActionError, FlowBenchError, MissingExtra, RenderingUnavailable
from flowbench.observation import Observation
from flowbench.registry import get_suite, make_agent
from flowbench.simulator import OBSERVABLE_MODALITIES
from flowbench.suite import Suite
from flowbench.task import Scenario


def check_agent(
    agent: Agent | Callable[[], Agent] | str,
    *,
    suite: Suite | str = "toy",
    task: str | None = None,
    camera: str | None = None,
    scenarios: Sequence[Scenario] | None = None,
    steps: int = 5,
) -> None:
    """Check that an agent keeps the promises the harness relies on.

    Args:
        agent: A class or function that builds the agent, the name of an agent as `--agent` takes it, or an agent. Only
            with the first two can be checked that two agents do not disturb each other.
        suite: The suite to try it on, or its name.
        task: Name of the task; None takes the suite's first.
        camera: The episode's camera; None takes the suite's default view.
        scenarios: Scenarios to start from; None takes the first two.
        steps: Number of times the agent is asked in each episode.

    Raises:
        ContractViolation: With what is wrong and how to mend it.
        MissingExtra: If a package that the agent or the suite needs is not installed.

    Example:
        >>> from flowbench.agents.controls import RandomAgent
        >>> from flowbench.testing import check_agent
        >>> check_agent(RandomAgent)
    """
    suite = get_suite(suite) if isinstance(suite, str) else suite
    scenarios = tuple(scenarios or (Scenario(seed, seed if suite.init_states else None) for seed in (0, 1)))
    factory = _factory(agent)
    _AgentCheck(factory, suite, task or suite.tasks[0].name, camera or suite.default_view, scenarios, steps).run()


class _AgentCheck:
    """The checks of one agent on one task."""

    def __init__(
        self,
        factory: Callable[[], Agent],
        suite: Suite,
        task_name: str,
        camera: str,
        scenarios: tuple[Scenario, ...],
        steps: int,
    ) -> None:
        self.suite, self.task, self.camera = suite, suite.task(task_name), camera
        self.factory, self.scenarios, self.steps = factory, scenarios, steps
        self.agent = factory()
        self.what = f"Agent {type(self.agent).__name__}:"

    def require(self, holds: bool, sentence: str) -> None:
        require(holds, f"{self.what} {sentence}")

    def run(self) -> None:
        self.check_form()
        self.check_needs()
        config = self.env_config()
        with closing(TaskEnv(self.suite, self.task, self.suite.rules(), config)) as env:
            for seed, scenario in enumerate(self.scenarios):
                first = self.episode(env, self.agent, scenario, seed, watch=True)
                again = self.episode(env, self.agent, scenario, seed)
                self.require(
                    same(first, again),
                    "the same seed gave other actions in the same scenario. Reset everything in `reset`, and draw all "
                    "randomness from a generator made there: `self.rng = np.random.default_rng(seed)`.",
                )
            self.check_second_reset(env)
            other = self.factory()
            if other is not self.agent:
                self.check_independence(env, other)

    def check_form(self) -> None:
        for member in ("needs", "reset", "act"):
            self.require(
                hasattr(self.agent, member),
                f"it has no {member!r}. An agent has `needs`, `reset(task, cameras, seed)` and `act(observation)`.",
            )

    def check_needs(self) -> None:
        needs = self.agent.needs
        self.require(
            isinstance(needs, Needs),
            f"needs is {needs!r:.60}; expected flowbench.Needs(...), even when it is empty.",
        )
        for field in ("modalities", "extra_cameras"):
            value = getattr(needs, field)
            self.require(
                isinstance(value, tuple) and all(isinstance(item, str) for item in value),
                f"needs.{field} is {value!r}; expected a tuple of names, e.g. ('rgb',).",
            )
        for modality in needs.modalities:
            self.require(
                modality in OBSERVABLE_MODALITIES,
                f"needs.modalities has {modality!r}, which is not a modality. Choose from "
                f"{', '.join(OBSERVABLE_MODALITIES)}.",
            )
        for name in needs.extra_cameras:
            self.require(
                CameraPose.parse(name).view in self.suite.views,
                f"needs.extra_cameras has {name!r}; suite {self.suite.name} has {', '.join(self.suite.views)}. Check it on a "
                "suite that has that camera.",
            )
        convention = self.task.action_spec.convention
        self.require(
            needs.action_convention in (None, convention),
            f"needs.action_convention is {needs.action_convention!r} and suite {self.suite.name} takes {convention!r}. Check "
            "it on a suite of its convention.",
        )

    def env_config(self) -> EnvConfig:
        needs = self.agent.needs
        config = EnvConfig(
            cameras=(self.camera, *needs.extra_cameras),
            modalities=needs.modalities,
            image_size=needs.image_size,
            image_view=needs.image_view,
            lazy=True,
            privileged=needs.privileged,
        )
        try:
            TaskEnv(self.suite, self.task, self.suite.rules(), config)
        except MissingExtra:
            raise
        except FlowBenchError as error:
            raise ContractViolation(f"{self.what} its needs cannot be met: {error}") from error
        return config

    def episode(
        self, env: TaskEnv, agent: Agent, scenario: Scenario, seed: int, *, watch: bool = False
    ) -> list[np.ndarray]:
        """Return the actions of one episode.

        Args:
            env: The environment.
            agent: The agent.
            scenario: Where to start.
            seed: The agent's seed.
            watch: Read everything before the agent does, to see whether it changes anything.
        """
        observation = self.start(env, agent, scenario, seed)
        actions = []
        for number in range(1, self.steps + 1):
            before = {key: observation[key].copy() for key in observation} if watch else {}
            action = self.ask(env, agent, observation, number)
            for key, value in before.items():
                self.require(
                    same(value, observation[key]),
                    f"it changed {key} of the observation it was given. Copy an array before working in place.",
                )
            actions.append(action)
            for row in np.atleast_2d(action):
                observation, _, terminated, truncated, _ = env.step(row)
                if terminated or truncated:
                    return actions
        return actions

    def start(self, env: TaskEnv, agent: Agent, scenario: Scenario, seed: int) -> Observation:
        observation, _ = env.reset(options={"scenario": scenario})
        needs = agent.needs
        with self.contract("reset"), self.untouched_globals("reset"):
            agent.reset(env.task, env.cameras, seed)
        self.require(agent.needs == needs, "`reset` changed its needs. Declare them once, in the class or constructor.")
        return observation

    def ask(self, env: TaskEnv, agent: Agent, observation: Observation, number: int) -> np.ndarray:
        with self.contract("act"), self.untouched_globals("act"):
            returned = agent.act(observation)
        spec = env.task.action_spec
        try:
            action = np.asarray(returned, dtype=np.float64).copy()
        except (TypeError, ValueError, RuntimeError):
            raise ContractViolation(
                f"{self.what} `act` returned {type(returned).__name__}, which is no numeric array. Return a numpy array; "
                "detach tensors and move them to the CPU."
            ) from None
        if action.ndim == 0 and spec.choices:
            action = action.reshape(1)
        if action.ndim not in (1, 2) or action.size == 0:
            raise ContractViolation(
                f"{self.what} `act` returned shape {action.shape}; expected one action ({spec.size},) or a chunk "
                f"(T, {spec.size}) with T >= 1."
            )
        for row in np.atleast_2d(action):
            try:
                spec.validate(row)
            except ActionError as error:
                raise ContractViolation(f"{self.what} the action of its call {number} {error}.") from None
        return action

    def check_second_reset(self, env: TaskEnv) -> None:
        scenario = self.scenarios[0]
        expected = self.ask(env, self.agent, self.start(env, self.agent, scenario, 0), 1)
        self.start(env, self.agent, self.scenarios[-1], 1)
        observation = self.start(env, self.agent, scenario, 0)
        self.require(
            same(expected, self.ask(env, self.agent, observation, 1)),
            "its first action differs after it was reset twice in a row. Start `reset` from nothing.",
        )

    def check_independence(self, env: TaskEnv, other: Agent) -> None:
        """Let two agents take turns; each must act as it does alone."""
        scenario = self.scenarios[0]
        alone = self.episode(env, self.agent, scenario, 0)
        others = self.episode(env, other, scenario, 0)
        self.require(
            same(alone, others),
            "two instances with the same arguments and the same seed act differently. Load or draw weights in a fixed way.",
        )
        observation = self.start(env, self.agent, scenario, 0)
        self.start(env, other, scenario, 1)
        observation, _ = env.reset(options={"scenario": scenario})
        for number, expected in enumerate(alone, start=1):
            self.ask(env, other, observation, number)
            action = self.ask(env, self.agent, observation, number)
            self.require(
                same(expected, action),
                "a second instance that takes turns with it changes its actions. Keep state on the instance (`self`), not "
                "on the class, the module, or a library's global generator.",
            )
            for row in np.atleast_2d(action):
                observation, _, terminated, truncated, _ = env.step(row)
                if terminated or truncated:
                    return

    @contextmanager
    def contract(self, method: str) -> Iterator[None]:
        """Turn what the harness refuses into a violation; defects keep their traceback."""
        try:
            yield
        except (MissingExtra, RenderingUnavailable, ContractViolation):
            raise
        except FlowBenchError as error:
            raise ContractViolation(f"{self.what} `{method}` failed: {error}") from error

    @contextmanager
    def untouched_globals(self, method: str) -> Iterator[None]:
        before, before_stdlib = np.random.get_state()[1:3], random.getstate()  # noqa: NPY002
        yield
        after = np.random.get_state()[1:3]  # noqa: NPY002
        advice = "Use a generator of your own, made in `reset`: `self.rng = np.random.default_rng(seed)`."
        self.require(
            bool(np.array_equal(before[0], after[0])) and before[1] == after[1],
            f"`{method}` draws from numpy's global generator or seeds it. {advice}",
        )
        self.require(
            before_stdlib == random.getstate(), f"`{method}` draws from Python's global `random` or seeds it. {advice}"
        )


def _factory(agent: Agent | Callable[[], Agent] | str) -> Callable[[], Agent]:
    if isinstance(agent, str):
        return lambda: make_agent(agent, {})
    if isinstance(agent, type) or not hasattr(agent, "act"):
        if not callable(agent):
            raise ContractViolation(
                f"check_agent was given {agent!r:.60}. Give it a class, a function that builds an agent, a name, or an agent."
            )
        return agent
    return lambda: agent
