"""An agent that looks once per chunk of ten actions, with lazy observations against eager ones.

Both sides read RGB, depth and calibration of `agentview` at 256 x 256 when they look; eager observations are rendered at
every step. Run as `python benchmarks/libero_lazy.py`.
"""

from __future__ import annotations

from statistics import geometric_mean

import numpy as np
from libero_common import TASKS, print_row, ratio, task_name, times_s

import flowbench
from flowbench.task import Scenario

CHUNK = 10
STEPS = 20
REPEATS = 5
MODALITIES = ("rgb", "depth", "calibration")


def main() -> None:
    rows = []
    for suite, index in TASKS:
        name = task_name(suite, index)
        env = flowbench.make(suite, name, modalities=MODALITIES, lazy=True)
        actions = 0.3 * np.random.default_rng(0).uniform(-1, 1, (STEPS, 7))
        env.reset(options={"scenario": Scenario(0, 3)})
        start = env.get_state()

        def episode(looks_every, env=env, actions=actions, start=start):
            observation = env.set_state(start)
            for step, action in enumerate(actions):
                if step % looks_every == 0:
                    dict(observation)
                observation, *_ = env.step(action)

        rows.append(times_s(REPEATS, lambda: episode(CHUNK), lambda: episode(1)))
        env.close()
    lazy_s, eager_s = np.median(np.concatenate(rows), axis=0) / STEPS
    print_row(
        f"LIBERO step with RGB-D at 256 x 256, {len(rows)} scenes: looking at every {CHUNK}th step against every step",
        f"{1e3 * lazy_s:.0f} ms against {1e3 * eager_s:.0f} ms",
        f"{geometric_mean(ratio(times, 1, 0) for times in rows):.1f}x",
        "python benchmarks/libero_lazy.py",
    )


if __name__ == "__main__":
    main()
