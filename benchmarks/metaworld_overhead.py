"""What FlowBench adds to a Meta-World episode: scripted expert, no cameras, against a bare loop around `metaworld`.

Both sides run the same episodes of metaworld11 to the first success, with the same step counts, in turn. The bare side is at
its cheapest: its environments are built beforehand, one per task and seed, and only reset; FlowBench builds one per task and
seeds it. The fastest of nine runs counts on either side, because other load only ever adds. Run as
`python benchmarks/metaworld_overhead.py`.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from flowbench.env import TaskEnv
from flowbench.registry import get_suite, make, make_agent
from flowbench.rollout import rollout
from flowbench.spec import EpisodeSpec
from flowbench.task import Scenario

SUITE = "metaworld11"
SEEDS = (0, 1)
REPEATS = 9


class Run(NamedTuple):
    """One episode: seconds until its reset was done, seconds after, and its number of steps."""

    reset_s: float
    steps_s: float
    steps: int


class ResetClock:
    """Notes when an environment's reset is done, in the middle of a rollout."""

    def __init__(self, env: TaskEnv) -> None:
        self._reset = env.reset
        self.done = 0.0
        env.reset = self

    def __call__(self, **arguments: Any) -> Any:
        """Reset, and note the time."""
        first = self._reset(**arguments)
        self.done = time.perf_counter()
        return first


def run_ours(env: TaskEnv, clock: ResetClock, agent: Any, episode: EpisodeSpec) -> Run:
    start = time.perf_counter()
    result = rollout(env, agent, episode, agent_name="scripted").result
    end = time.perf_counter()
    assert result.status == "success", result
    return Run(clock.done - start, end - clock.done, result.steps)


def run_bare(env: Any, policy_class: type) -> Run:
    start = time.perf_counter()
    observation, _ = env.reset()
    reset_done = time.perf_counter()
    policy, steps = policy_class(), 0
    while True:
        observation, _, _, truncated, info = env.step(policy.get_action(observation))
        steps += 1
        if info["success"] or truncated:
            return Run(reset_done - start, time.perf_counter() - reset_done, steps)


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
    ours, bare = [], []
    for name, env in envs.items():
        clock = ResetClock(env)
        for seed in SEEDS:
            bare_env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{name}-v3-goal-observable"](seed=seed)
            episode = EpisodeSpec(SUITE, name, "", Scenario(seed))
            runs = [
                (run_ours(env, clock, agent, episode), run_bare(bare_env, ENV_POLICY_MAP[f"{name}-v3"]))
                for _ in range(REPEATS)
            ]
            assert len({run.steps for pair in runs for run in pair}) == 1, f"{episode.id} differs from the bare loop"
            for totals, side in ((ours, 0), (bare, 1)):
                totals.append(Run(*(min(getattr(pair[side], field) for pair in runs) for field in Run._fields)))
    ours_total, bare_total = (Run(*map(sum, zip(*totals, strict=True))) for totals in (ours, bare))
    ours_s, bare_s = (total.reset_s + total.steps_s for total in (ours_total, bare_total))
    in_steps = ours_total.steps_s / bare_total.steps_s
    print("| what | measured | ratio | command |")
    print("|---|---|---|---|")
    print(
        f"| {len(ours)} Meta-World episodes ({ours_total.steps} steps), scripted expert, no cameras: FlowBench against a bare "
        f"loop | {1e3 * ours_s:.0f} ms against {1e3 * bare_s:.0f} ms | {100 * (ours_s / bare_s - 1):+.1f} % "
        f"({100 * (in_steps - 1):+.1f} % in the steps; a reset takes {1e3 * ours_total.reset_s / len(ours):.1f} ms against "
        f"{1e3 * bare_total.reset_s / len(bare):.1f}) | `python benchmarks/metaworld_overhead.py` |"
    )


if __name__ == "__main__":
    main()
