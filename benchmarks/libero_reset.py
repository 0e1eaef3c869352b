"""Resets to an official initial state, against upstream's hard reset and `set_init_state`, bit for bit the same.

Both sides leave out rendering (upstream is at its cheapest); the second number is upstream as evaluations use it, with its
renderer and two cameras. Run as `python benchmarks/libero_reset.py`.
"""

from __future__ import annotations

from statistics import geometric_mean

import numpy as np
from libero_common import TASKS, official_state, print_row, ratio, task_name, times_s, upstream_env

import flowbench
from flowbench.envs.libero.reset import fixture_seed
from flowbench.task import Scenario

REPEATS = 9
INIT_STATE = 7


def check_identical(simulator, upstream, name) -> None:
    """Compare upstream's first reset with ours: state, fixtures, solver memory, and the state 20 actions later."""
    scenario = Scenario(0, INIT_STATE)
    upstream.seed(fixture_seed(name, scenario))
    upstream.reset()
    upstream.set_init_state(official_state(name, INIT_STATE))
    simulator.reset(scenario)
    theirs, ours = upstream.env.sim, simulator.control_env.env.sim
    for action in [None, *np.random.default_rng(0).uniform(-1, 1, (20, 7))]:
        if action is not None:
            upstream.step(action)
            simulator.step(action)
        for array in ("qpos", "qvel", "qacc_warmstart"):
            assert np.array_equal(getattr(theirs.data, array), getattr(ours.data, array)), (name, array)
        for array in ("body_pos", "body_quat", "site_rgba"):
            assert np.array_equal(getattr(theirs.model, array), getattr(ours.model, array)), (name, array)


def main() -> None:
    rows = []
    for suite, index in TASKS:
        name = task_name(suite, index)
        env = flowbench.make(suite, name, cameras=())
        simulator, state = env.simulator, official_state(name, INIT_STATE)
        rendering = {
            "has_offscreen_renderer": True,
            "use_camera_obs": True,
            "camera_heights": 256,
            "camera_widths": 256,
        }
        plain, with_cameras = upstream_env(name), upstream_env(name, **rendering)
        check_identical(simulator, with_cameras, name)

        def hard_reset(upstream, state=state):
            upstream.reset()
            upstream.set_init_state(state)

        rows.append(
            times_s(
                REPEATS,
                lambda: simulator.reset(Scenario(0, INIT_STATE)),  # noqa: B023
                lambda: hard_reset(plain),  # noqa: B023
                lambda: hard_reset(with_cameras),  # noqa: B023
            )
        )
        for closing in (plain, with_cameras, env):
            closing.close()
    ours_s, plain_s, cameras_s = np.median(np.concatenate(rows), axis=0)
    without = [ratio(times, 1, 0) for times in rows]
    print_row(
        f"LIBERO reset to an initial state, {len(rows)} scenes, bit-identical: FlowBench against upstream's hard reset + "
        "set_init_state",
        f"{1e3 * ours_s:.1f} ms against {1e3 * plain_s:.0f} ms without and {1e3 * cameras_s:.0f} ms with cameras",
        f"{geometric_mean(without):.0f}x ({min(without):.0f}x to {max(without):.0f}x) without, "
        f"{geometric_mean(ratio(times, 2, 0) for times in rows):.0f}x with cameras",
        "python benchmarks/libero_reset.py",
    )


if __name__ == "__main__":
    main()
