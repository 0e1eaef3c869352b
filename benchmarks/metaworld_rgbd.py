"""RGB, depth, segmentation and calibration of a Meta-World frame, against the upstream render calls for the same arrays.

The baseline is what a Gymnasium user calls: one `rgb_array` and one `depth_array` render, and ids. (Gymnasium's own id
render raises OverflowError under NumPy 2, so `mujoco.Renderer` draws the baseline's ids.) The same is timed against
`mujoco.Renderer` alone, whose depth is an unlit pass too. Before anything is timed the arrays are compared: RGB with both
upstreams', depth and ids with `mujoco.Renderer`'s. Gymnasium's depth is not comparable: it is read from anti-aliasing
samples that lie off the pixel centres. Run as `python benchmarks/metaworld_rgbd.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from flowbench.registry import make

CAMERA = "corner"
WIDTH, HEIGHT = 320, 240
REPEATS = 9
COMMAND = "`python benchmarks/metaworld_rgbd.py`"


def main() -> None:
    envs = {
        profile: make(
            "metaworld11",
            "door-open",
            cameras=(CAMERA,),
            modalities=("rgb", "depth", "segmentation", "calibration"),
            image_size=(WIDTH, HEIGHT),
            profile=profile,
            lazy=True,
        )
        for profile in ("full", "fast")
    }
    ours = {profile: (lambda env=env: dict(env._observe())) for profile, env in envs.items()}
    for env in envs.values():
        env.reset(seed=0)
    simulator = envs["full"].simulator
    gymnasium_calls, mujoco_calls = upstream(simulator.model, simulator.data)

    observation, gymnasium_arrays, mujoco_arrays = ours["full"](), gymnasium_calls(), mujoco_calls()
    seen = observation[f"{CAMERA}/depth"] > 0
    identical = (
        np.array_equal(observation[f"{CAMERA}/rgb"], upright(gymnasium_arrays[0]))
        and np.array_equal(observation[f"{CAMERA}/rgb"], upright(mujoco_arrays[0]))
        and np.array_equal(observation[f"{CAMERA}/depth"][seen], upright(mujoco_arrays[1])[seen])
        and np.array_equal(observation[f"{CAMERA}/segmentation"], part_ids(simulator, upright(mujoco_arrays[2])))
    )
    assert identical, "the arrays differ from upstream's"

    calls = {"gymnasium": gymnasium_calls, "mujoco": mujoco_calls, **ours}
    runs: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            runs[name].append(1e3 * (time.perf_counter() - start))
    ms = {name: median(times) for name, times in runs.items()}
    print("| what | measured | ratio | command |")
    print("|---|---|---|---|")
    for profile, note in (("full", "identical pixels"), ("fast", "no shadows, reflections or anti-aliasing")):
        print(
            f"| Meta-World {WIDTH}x{HEIGHT} RGB, depth, ids and calibration, `{profile}` ({note}), against Gymnasium's render "
            f"calls | {ms[profile]:.0f} ms against {ms['gymnasium']:.0f} ms | {ms['gymnasium'] / ms[profile]:.1f}x "
            f"({ms['mujoco'] / ms[profile]:.2f}x against mujoco.Renderer) | {COMMAND} |"
        )


def upstream(model: Any, data: Any) -> tuple[Callable[[], tuple], Callable[[], tuple]]:
    """Return two functions that draw RGB, depth and ids with upstream's renderers."""
    import mujoco
    from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer

    renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
    viewer = OffScreenViewer(model, data, WIDTH, HEIGHT)
    camera = model.camera(CAMERA).id

    def take_over(context: Any, mjr_context: Any) -> None:
        context.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, mjr_context)

    def mujoco_ids() -> np.ndarray:
        take_over(renderer._gl_context, renderer._mjr_context)
        renderer.update_scene(data, camera)
        renderer.enable_segmentation_rendering()
        ids = renderer.render()
        renderer.disable_segmentation_rendering()
        return ids

    def mujoco_calls() -> tuple:
        take_over(renderer._gl_context, renderer._mjr_context)
        renderer.update_scene(data, camera)
        rgb = renderer.render()
        renderer.enable_depth_rendering()
        depth_m = renderer.render()
        renderer.disable_depth_rendering()
        return rgb, depth_m, mujoco_ids()

    def gymnasium_calls() -> tuple:
        take_over(viewer.opengl_context, viewer.con)
        rgb, depth = viewer.render("rgb_array", camera), viewer.render("depth_array", camera)
        return rgb, depth, mujoco_ids()

    return gymnasium_calls, mujoco_calls


def upright(image: np.ndarray) -> np.ndarray:
    """Turn upstream's image of an upside-down camera by half a turn."""
    return image[::-1, ::-1]


def part_ids(simulator: Any, ids_and_types: np.ndarray) -> np.ndarray:
    """Return our ids for `mujoco.Renderer`'s (H, W, 2) pairs of object id and object type."""
    import mujoco

    ids, types = ids_and_types[..., 0], ids_and_types[..., 1]
    elements = np.where(types == mujoco.mjtObj.mjOBJ_GEOM, ids, -1)
    elements = np.where(types == mujoco.mjtObj.mjOBJ_SITE, simulator.model.ngeom + ids, elements)
    return simulator._parts.id_of_element[elements + 1]


if __name__ == "__main__":
    main()
