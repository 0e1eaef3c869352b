"""RGB, metric depth, object ids and calibration of one camera, against robosuite's own calls for the same arrays.

robosuite's side, at 256 x 256: `sim.render` for RGB, `sim.render(depth=True)` turned into metres, and
`sim.render(segmentation=True)`; its calibration costs nothing and is left out. The second number is robosuite's camera
observables, which take RGB and depth from one pass and name instances in a Python loop. The `full` profile must give
robosuite's RGB byte for byte. Run as `python benchmarks/libero_rgbd.py`.
"""

from __future__ import annotations

from statistics import geometric_mean

import numpy as np
from libero_common import TASKS, official_state, print_row, ratio, task_name, times_s, upstream_env

import flowbench
from flowbench.envs.libero.reset import fixture_seed
from flowbench.task import Scenario

REPEATS = 15
CAMERA = "agentview"
SIZE = 256
MODALITIES = ("rgb", "depth", "segmentation", "calibration")


def our_arrays(env):
    """Return every array of the camera, as an agent reads them."""
    observation = env._observe()
    return {key: observation[key] for key in observation if key != "proprio"}


def robosuite_calls(upstream):
    """Return the same arrays from robosuite's separate calls."""
    simulation = upstream.env.sim
    simulation._render_context_offscreen.gl_ctx.make_current()
    size = {"camera_name": CAMERA, "height": SIZE, "width": SIZE}
    rgb = simulation.render(**size)
    _, buffer = simulation.render(**size, depth=True)
    # As robosuite's `get_real_depth_map`, whose module needs h5py.
    model = simulation.model
    near_m, far_m = model.vis.map.znear * model.stat.extent, model.vis.map.zfar * model.stat.extent
    depth_m = near_m / (1.0 - buffer * (1.0 - near_m / far_m))
    return {"rgb": rgb, "depth": depth_m, "ids": simulation.render(**size, segmentation=True)}


def robosuite_observables(upstream):
    """Return them from robosuite's camera observables."""
    upstream.env.sim._render_context_offscreen.gl_ctx.make_current()
    return upstream.env._get_observations(force_update=True)


def main() -> None:
    rows = []
    for suite, index in TASKS:
        name, scenario = task_name(suite, index), Scenario(0, 3)
        envs = {
            profile: flowbench.make(
                suite, name, cameras=(CAMERA,), modalities=MODALITIES, lazy=True, profile=profile, protocol="openvla"
            )
            for profile in ("full", "fast")
        }
        upstream = upstream_env(
            name,
            has_offscreen_renderer=True,
            use_camera_obs=True,
            camera_names=[CAMERA],
            camera_heights=SIZE,
            camera_widths=SIZE,
            camera_depths=True,
            camera_segmentations="instance",
        )
        upstream.seed(fixture_seed(name, scenario))
        upstream.reset()
        upstream.set_init_state(official_state(name, scenario.init_state))
        for env in envs.values():
            env.reset(options={"scenario": scenario})
            env.simulator.reset(scenario)
        # With segmentation on, robosuite shrinks every site, also in its RGB images: the glowing burner would be missing.
        upstream.env.sim.model.site_size[:] = envs["full"].simulator.control_env.env.sim.model.site_size
        theirs, ours = robosuite_calls(upstream), our_arrays(envs["full"])
        assert np.array_equal(ours[f"{CAMERA}/rgb"], theirs["rgb"][::-1]), "RGB is not robosuite's"
        rows.append(
            times_s(
                REPEATS,
                lambda: our_arrays(envs["full"]),  # noqa: B023
                lambda: our_arrays(envs["fast"]),  # noqa: B023
                lambda: robosuite_calls(upstream),  # noqa: B023
                lambda: robosuite_observables(upstream),  # noqa: B023
            )
        )
        for closing in (*envs.values(), upstream):
            closing.close()
    full_s, fast_s, calls_s, observables_s = np.median(np.concatenate(rows), axis=0)

    def mean_ratio(slow: int, fast: int) -> float:
        return geometric_mean(ratio(times, slow, fast) for times in rows)

    print_row(
        f"LIBERO RGB + depth + ids + calibration, one camera at {SIZE} x {SIZE}, {len(rows)} scenes, RGB byte for byte: "
        "FlowBench against robosuite's separate calls (its observables)",
        f"{1e3 * full_s:.0f} ms, fast profile {1e3 * fast_s:.0f} ms, against {1e3 * calls_s:.0f} ms "
        f"({1e3 * observables_s:.0f} ms)",
        f"{mean_ratio(2, 0):.2f}x ({mean_ratio(3, 0):.2f}x); fast profile {mean_ratio(2, 1):.1f}x ({mean_ratio(3, 1):.1f}x)",
        "python benchmarks/libero_rgbd.py",
    )


if __name__ == "__main__":
    main()
