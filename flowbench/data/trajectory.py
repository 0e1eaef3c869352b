"""One episode recorded without a picture: the states it went through and the actions that were taken.

Physics is cheap and pictures are not, so an episode is run first; what is worth keeping is rendered afterwards from its
states (`flowbench.data.rendering`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flowbench.agent import ActionChunker, Agent
from flowbench.data.states import StateRows
from flowbench.env import TaskEnv
from flowbench.errors import ActionError
from flowbench.rollout import seed_globals
from flowbench.seeding import derive_rng
from flowbench.spec import EpisodeSpec
from flowbench.task import ActionSpec

if TYPE_CHECKING:
    from flowbench.data.collect_spec import CollectSpec

#: After the first success an agent has this many steps to finish.
FINISH_STEPS = 100
#: An agent that cannot say when it has finished is given until success has held for this many steps, as AVDC does
#: (`collect_video` of AVDC_experiments at e9b5b00).
HELD_STEPS = 10


@dataclass(frozen=True)
class Trajectory:
    """One episode. Row t of every array belongs to the moment before action t; T is at least 1 unless nothing was done.

    Attributes:
        episode: What was run.
        success: Whether it counts as a demonstration of the task.
        first_success: Step of the first success, counted from 1; None if there was none.
        states: The T states.
        final_state: (S,) float64 physics vector after the last action.
        actions: (T, A) float64, as executed.
        asked_actions: (T, A) float64, as the agent wanted them, without noise.
        prefix_actions: (N, A) float64 random actions between the protocol's settle steps and row 0.
        rewards: (T,) float64.
        proprio: (T, P) float32.
        agent_seconds: Wall time spent in the agent.
        agent_calls: Number of times that the agent was asked.
    """

    episode: EpisodeSpec
    success: bool
    first_success: int | None
    states: StateRows
    final_state: np.ndarray
    actions: np.ndarray
    asked_actions: np.ndarray
    prefix_actions: np.ndarray
    rewards: np.ndarray
    proprio: np.ndarray
    agent_seconds: float
    agent_calls: int

    def __len__(self) -> int:
        return len(self.actions)


def record_trajectory(env: TaskEnv, agent: Agent, episode: EpisodeSpec, spec: CollectSpec) -> Trajectory:
    """Run one episode and record it.

    All noise derives from the scenario, not from the camera, so that the same trajectory can be collected through another.

    Args:
        env: Lazy environment of the episode's task; only what the agent reads is rendered.
        agent: The agent; it may return chunks.
        episode: What to run.
        spec: Noise, and when to stop.

    Raises:
        FlowBenchError: If the agent or the environment cannot go on.
    """
    action_spec = env.task.action_spec
    prefix = _random_actions(action_spec, spec.start_noise, derive_rng(episode.scenario_id, "start-noise"))
    noise = _ActionNoise(action_spec, spec.action_noise, derive_rng(episode.scenario_id, "action-noise"))
    observation, info = env.reset(options={"scenario": episode.scenario, "prefix_actions": prefix})
    # A start that is already solved demonstrates nothing.
    solved_at_start = info["success_now"]
    seed_globals(episode.agent_seed)
    chunker = ActionChunker(agent)
    before = time.perf_counter()
    chunker.reset(env.task, env.cameras, episode.agent_seed)
    agent_seconds = time.perf_counter() - before

    states, asked, executed, rewards, proprio = [], [], [], [], []
    first_success, steps_after, held = None, 0, 0
    while not solved_at_start:
        states.append(env.simulator.get_state())
        proprio.append(observation.proprio)
        before = time.perf_counter()
        action = chunker.act(observation)
        agent_seconds += time.perf_counter() - before
        try:
            asked.append(action_spec.validate(action, clip=env.config.clip_actions))
        except ActionError as error:
            raise ActionError(f"The action of step {len(asked) + 1} of {env.task.name} {error}.") from None
        executed.append(noise.on(asked[-1]))
        observation, reward, terminated, truncated, info = env.step(executed[-1])
        rewards.append(reward)
        held = held + 1 if info["success_now"] else 0
        if held and first_success is None:
            first_success = len(rewards)
        if terminated and spec.finish and info["is_success"]:
            finished = getattr(agent, "finished", None)
            if (held >= HELD_STEPS if finished is None else finished) or steps_after == FINISH_STEPS:
                break
            steps_after += 1
        elif terminated or truncated:
            break
    succeeded = info["is_success"] and (held > 0 or not spec.finish) and not solved_at_start
    size = action_spec.size
    return Trajectory(
        episode=episode,
        success=bool(succeeded),
        first_success=first_success,
        states=StateRows.pack(states),
        final_state=env.simulator.get_state().physics,
        actions=np.reshape(executed, (-1, size)),
        asked_actions=np.reshape(asked, (-1, size)),
        prefix_actions=prefix,
        rewards=np.array(rewards, dtype=np.float64),
        proprio=np.array(proprio, dtype=np.float32),
        agent_seconds=agent_seconds,
        agent_calls=chunker.calls,
    )


class _ActionNoise:
    """Gaussian noise on every component but the gripper's, which is a command and not a motion.

    Where an action is one of a few there is nothing between them; `CollectSpec.check` refuses noise there.
    """

    def __init__(self, spec: ActionSpec, sigma: float, rng: np.random.Generator) -> None:
        self._low, self._high = np.array(spec.low), np.array(spec.high)
        moves = np.array([label != "gripper" for label in spec.labels])
        self._scale = sigma * (self._high - self._low) / 2 * moves
        self._rng = rng

    def on(self, action: np.ndarray) -> np.ndarray:
        """Return the (A,) action to execute, within bounds."""
        if not self._scale.any():
            return action
        return np.clip(action + self._scale * self._rng.standard_normal(len(action)), self._low, self._high)


def _random_actions(spec: ActionSpec, count: int, rng: np.random.Generator) -> np.ndarray:
    return spec.sample(rng, count)
