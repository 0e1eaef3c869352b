"""Two workers against one on the same episodes: what a second core is worth when every step is rendered.

Run as `python benchmarks/workers.py [SUITE] [STEPS]` on an otherwise idle machine with two or more cores.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from flowbench import Needs
from flowbench.registry import get_suite
from flowbench.runner import RunOptions
from flowbench.spec import AgentSpec, EvalSpec
from flowbench.workers import WorkerPool

#: Episodes of the one task; with two, a lone worker would change simulators where a pair need not.
EPISODES = 12


class Looker:
    """Looks at RGB-D at every step and moves at random."""

    needs = Needs(modalities=("rgb", "depth"))

    def reset(self, task, cameras, seed):
        """Seed the moves."""
        self._rng, self._spec = np.random.default_rng(seed), task.action_spec

    def act(self, observation):
        """Look, then move."""
        observation.rgb(), observation.depth_m()
        action = self._spec.sample(self._rng, 1)[0]
        # Who says that it has finished takes no more steps.
        return action - 1 if self._spec.choices and self._spec.choices[int(action[0])] == "Done" else action


def seconds(suite_name: str, steps: int, workers: int) -> float:
    """Return the wall time of the episodes of one task, from the first that finished to the last.

    The first finished episode of every worker is left out of the count, so that start-up does not dilute the ratio.
    """
    suite = get_suite(suite_name)
    spec = EvalSpec(
        suite=suite.name,
        protocol=suite.default_protocol,
        agent=AgentSpec(f"{Path(__file__)}:Looker"),
        tasks=tuple(task.name for task in suite.tasks[:1]),
        cameras=(suite.default_view,),
        seeds=tuple(range(EPISODES)) if suite.init_states is None else (0,),
        init_states=None if suite.init_states is None else tuple(range(EPISODES)),
        max_steps=steps,
    )
    pool = WorkerPool(spec, RunOptions(), workers, privileged=False, episode_timeout_s=None)
    finished = [time.perf_counter() for _ in pool.run(spec.episodes())]
    return (finished[-1] - finished[workers - 1]) / (len(finished) - workers) * len(finished)


def main() -> None:
    """Print one Markdown row: the faster of two turns each."""
    suite_name = sys.argv[1] if len(sys.argv) > 1 else "metaworld11"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    one_s, two_s, one_again_s, two_again_s = (seconds(suite_name, steps, workers) for workers in (1, 2, 1, 2))
    one_s, two_s = min(one_s, one_again_s), min(two_s, two_again_s)
    command = f"python benchmarks/workers.py {suite_name} {steps}"
    times = f"{one_s / two_s:.2f}x ({one_s:.0f} s, {two_s:.0f} s)"
    print(f"| two workers against one, {suite_name}, RGB-D at every step | {times} | `{command}` |")


if __name__ == "__main__":
    main()
