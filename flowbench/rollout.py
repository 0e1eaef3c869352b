"""One episode: reset, look, act, until the protocol says it is over."""

from __future__ import annotations

import random
import sys
import time
import traceback
from typing import NamedTuple

import numpy as np

from flowbench.agent import ActionChunker, Agent
from flowbench.env import TaskEnv
from flowbench.errors import FlowBenchError
from flowbench.recording import Recorder
from flowbench.result import ChainLink, EpisodeResult, Status
from flowbench.spec import EpisodeSpec


class Rollout(NamedTuple):
    """A finished episode.

    Attributes:
        result: What the store keeps.
        traceback: Full traceback when `result.status` is `error`; else empty.
    """

    result: EpisodeResult
    traceback: str


def rollout(
    env: TaskEnv, agent: Agent, episode: EpisodeSpec, *, agent_name: str, recorder: Recorder | None = None
) -> Rollout:
    """Run one episode, which may be a chain of instructions, and never raise for what goes wrong inside it.

    The simulator's randomness comes from the scenario, the agent's from the episode id; both are set here, so that
    nothing that ran before can matter.

    Args:
        env: Environment of the episode's task, with the episode's camera first.
        agent: The agent; it may return chunks.
        episode: What to run.
        agent_name: Name under which the agent is reported.
        recorder: Gets every observation, if given.
    """
    chunker = ActionChunker(agent)
    steps, first_success, total_reward, agent_seconds = 0, None, 0.0, 0.0
    status: Status = "failure"
    error, trace = None, ""
    metrics: dict[str, float] = {}
    chain: list[ChainLink] = []
    started = time.perf_counter()
    try:
        observation, info = env.reset(options={"scenario": episode.scenario})
        seed_globals(episode.agent_seed)
        before = time.perf_counter()
        chunker.reset(env.asked, env.cameras, episode.agent_seed)
        agent_seconds += time.perf_counter() - before
        asked, asked_at = env.asked, 0
        while True:
            if recorder is not None:
                recorder.add(observation)
            before = time.perf_counter()
            action = chunker.act(observation)
            agent_seconds += time.perf_counter() - before
            observation, reward, terminated, truncated, info = env.step(action)
            steps += 1
            total_reward += reward
            if recorder is not None:
                recorder.add_step(action, reward, info["success_now"])
            if info["success_now"] and first_success is None:
                first_success = steps
            carried_out = env.rules.chain > 1 and info["completed"] > len(chain)
            if carried_out or (env.rules.chain > 1 and truncated):
                chain.append(ChainLink(asked.name, carried_out, steps - asked_at))
            if terminated or truncated:
                break
            if carried_out:
                asked, asked_at = env.asked, steps
                before = time.perf_counter()
                chunker.next_instruction(asked, env.cameras, episode.next_agent_seed(len(chain)))
                agent_seconds += time.perf_counter() - before
        if recorder is not None:
            recorder.add(observation)
        metrics = _metrics(agent)
        status = "success" if info["is_success"] else "failure"
    except Exception as exception:  # An episode that cannot be carried out is a third outcome, not the end of the run.
        status, error, trace = "error", describe_exception(exception, agent_name, steps), traceback.format_exc()
    result = EpisodeResult.of(
        episode,
        protocol=env.rules.name,
        agent=agent_name,
        privileged=agent.needs.privileged,
        status=status,
        steps=steps,
        first_success=first_success,
        total_reward=total_reward,
        seconds=round(time.perf_counter() - started, 4),
        agent_seconds=round(agent_seconds, 4),
        agent_calls=chunker.calls,
        error=error,
        metrics=metrics,
        chain=tuple(chain) if env.rules.chain > 1 else None,
    )
    return Rollout(result, trace)


def _metrics(agent: Agent) -> dict[str, float]:
    """Return what an agent counted itself; nothing if it does not count."""
    report = getattr(agent, "episode_metrics", dict)
    return {name: float(value) for name, value in report().items()}


def seed_globals(seed: int) -> None:
    """Seed the process-wide generators, for agents whose libraries draw from them in spite of the contract."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for other people's code
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def describe_exception(exception: Exception, agent_name: str, steps: int) -> str:
    """Return one line that names the agent, the step, the error and, for a defect, where it was raised."""
    message = " ".join(str(exception).split()) or type(exception).__name__
    where = f"Agent {agent_name}, after {steps} steps: "
    if isinstance(exception, FlowBenchError):
        return where + message
    frame = traceback.extract_tb(exception.__traceback__)[-1]
    return f"{where}{type(exception).__name__}: {message} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})"
