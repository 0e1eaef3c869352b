"""Pictures of a trajectory after the fact: every stored state is restored and looked at, through any cameras.

An episode's physics costs a hundredth of its pictures, so it is run first and only what is kept is rendered; the same
trajectory can be rendered again later from other poses. A restored state gives the pixels, depth, ids and calibration that
were there live.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from flowbench.data.states import StateRows
from flowbench.env import EnvConfig, EnvState, TaskEnv
from flowbench.observation import Observation
from flowbench.success import SuccessTracker
from flowbench.suite import Suite
from flowbench.task import ProtocolRules, Scenario, Task


def rendering_env(suite: Suite, task: Task, rules: ProtocolRules, config: EnvConfig) -> TaskEnv:
    """Return an environment that looks at states of a task: lazily, and always upright and unmirrored.

    Args:
        suite: The suite.
        task: The task that the states come from.
        rules: The protocol that they were recorded under.
        config: Cameras, modalities, image size and render profile.
    """
    return TaskEnv(suite, task, rules, replace(config, lazy=True, image_view="geometric"))


def observe_states(
    env: TaskEnv, states: StateRows, scenario: Scenario, steps: Iterable[int] | None = None
) -> Iterator[Observation]:
    """Yield the observation of each state; it must be read before the next one is asked for.

    Args:
        env: A lazy environment of the task, e.g. from `rendering_env`; it is left in the last state.
        states: What was recorded.
        scenario: The scenario that the recording started from.
        steps: Which steps; None for all.

    Raises:
        DataError: If the states belong to another task or another version of the simulator.
    """
    env.reset(options={"scenario": scenario})
    template = env.get_state().simulator
    tracker = SuccessTracker.of(env.rules)
    for step in range(len(states)) if steps is None else steps:
        state = states.restore(step, template)
        yield env.set_state(EnvState(state, tracker._replace(steps=step), scenario))
