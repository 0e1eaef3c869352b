"""What FlowBench adds to a Meta-World episode: scripted expert, no cameras, against a bare loop around `metaworld`.

Both sides run the same episodes of metaworld11 to the first success, with the same actions and step counts, in turn. The
bare side is at its cheapest: its environments are built beforehand, one per task and seed, and only reset. FlowBench builds
one per task and seeds it. Run as `python benchmarks/metaworld_overhead.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from flowbench.registry import get_suite, make, make_agent
from flowbench.rollout import rollout
from flowbench.spec import EpisodeSpec
from flowbench.task import Scenario

SUITE = "metaworld11"
SEEDS = (0, 1)
REPEATS = 7


class Timing(NamedTuple):
    """Seconds of one episode, and of its reset alone."""

    episode_s: float
    reset_s: float


def bare_episode(env: Any, policy: Any) -> int:
    steps = 0
    observation, _ = env.reset()
    while True:
        observation, _, _, truncated, info = env.step(policy.get_action(observation))
        steps += 1
        if info["success"] or truncated:
            return steps


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    # Built first: the suite decides the OpenGL backend before MuJoCo is imported.
    envs = {
        task.name: make(SUITE, task.name, cameras=(), modalities=(), lazy=True, privileged=True)
        for task in get_suite(SUITE).tasks
    }
    for env in envs.values():
        env.reset(seed=0)
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    from metaworld.policies import ENV_POLICY_MAP

    agent = make_agent("scripted", {})
    ours, bare, steps = [], [], 0
    for name, env in envs.items():
        for seed in SEEDS:
            bare_env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{name}-v3-goal-observable"](seed=seed)
            policy = ENV_POLICY_MAP[f"{name}-v3"]
            episode = EpisodeSpec(SUITE, name, "", Scenario(seed))
            result = rollout(env, agent, episode, agent_name="scripted").result
            assert result.steps == bare_episode(bare_env, policy()), f"{episode.id} differs from the bare loop"
            steps += result.steps
            ours_runs, bare_runs = [], []
            for _ in range(REPEATS):
                ours_runs.append(
                    Timing(
                        seconds(lambda: rollout(env, agent, episode, agent_name="scripted")),  # noqa: B023
                        seconds(lambda: env.reset(options={"scenario": episode.scenario})),  # noqa: B023
                    )
                )
                bare_runs.append(
                    Timing(seconds(lambda: bare_episode(bare_env, policy())), seconds(lambda: bare_env.reset()))  # noqa: B023
                )
            ours.append(Timing(*map(median, zip(*ours_runs, strict=True))))
            bare.append(Timing(*map(median, zip(*bare_runs, strict=True))))
    (ours_s, ours_reset_s), (bare_s, bare_reset_s) = (map(sum, zip(*runs, strict=True)) for runs in (ours, bare))
    in_steps = (ours_s - ours_reset_s) / (bare_s - bare_reset_s)
    print("| what | measured | ratio | command |")
    print("|---|---|---|---|")
    print(
        f"| Meta-World episodes, scripted expert, no cameras, {steps} steps: FlowBench against a bare loop | {1e3 * ours_s:.0f} "
        f"ms against {1e3 * bare_s:.0f} ms | {100 * (ours_s / bare_s - 1):+.1f} % ({100 * (in_steps - 1):+.1f} % in the steps; "
        f"a reset takes {1e3 * ours_reset_s / len(ours):.1f} ms against {1e3 * bare_reset_s / len(bare):.1f}) | "
        "`python benchmarks/metaworld_overhead.py` |"
    )


if __name__ == "__main__":
    main()
