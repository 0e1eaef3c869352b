"""What FlowBench adds to a LIBERO step without cameras: `TaskEnv` with lazy observations, against a bare `ControlEnv` loop.

Both sides apply the same actions from the same state and must end in the same one, bit for bit. Upstream's loop computes its
own object and robot observations at every step; FlowBench computes none until it is asked. Run as
`python benchmarks/libero_overhead.py`.
"""

from __future__ import annotations

from statistics import geometric_mean

import numpy as np
from libero_common import TASKS, official_state, print_row, ratio, task_name, times_s, upstream_env

import flowbench
from flowbench.envs.libero.reset import fixture_seed
from flowbench.task import Scenario

STEPS = 60
REPEATS = 11


def main() -> None:
    rows = []
    for suite, index in TASKS:
        name, scenario = task_name(suite, index), Scenario(0, 3)
        env = flowbench.make(suite, name, cameras=(), modalities=(), lazy=True)
        bare = upstream_env(name)
        bare.seed(fixture_seed(name, scenario))
        bare.reset()
        bare.set_init_state(official_state(name, scenario.init_state))
        env.reset(options={"scenario": scenario})
        env.simulator.reset(scenario)
        actions = 0.3 * np.random.default_rng(0).uniform(-1, 1, (STEPS * (REPEATS + 1), 7))
        turns = {side: iter(actions.reshape(-1, STEPS, 7)) for side in ("ours", "bare")}

        def ours(env=env, turns=turns):
            for action in next(turns["ours"]):
                env.step(action)

        def theirs(bare=bare, turns=turns):
            for action in next(turns["bare"]):
                bare.step(action)

        rows.append(times_s(REPEATS, ours, theirs))
        assert np.array_equal(bare.env.sim.data.qpos, env.simulator.data.qpos), "the two loops went apart"

        bare.close()
        env.close()
    ours_s, bare_s = np.median(np.concatenate(rows), axis=0) / STEPS
    overhead = geometric_mean(ratio(times, 0, 1) for times in rows) - 1
    print_row(
        f"LIBERO step, no cameras, {len(rows)} scenes, bit-identical trajectories: FlowBench against a bare ControlEnv loop",
        f"{1e3 * ours_s:.2f} ms against {1e3 * bare_s:.2f} ms",
        f"{100 * overhead:+.1f} % (negative is faster)",
        "python benchmarks/libero_overhead.py",
    )


if __name__ == "__main__":
    main()
