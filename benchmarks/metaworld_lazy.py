"""An agent that looks once per chunk of ten actions: observations rendered when read, against at every step.

Both sides take the same actions in Meta-World's door-open and end with the same image; the lazy one reads RGB and depth at
every tenth step. Run as `python benchmarks/metaworld_lazy.py`.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from flowbench.env import TaskEnv
from flowbench.registry import make

CHUNK = 10
STEPS = 20
REPEATS = 5


def main() -> None:
    keys = {"cameras": ("corner",), "modalities": ("rgb", "depth")}
    eager, lazy = make("metaworld11", "door-open", **keys), make("metaworld11", "door-open", **keys, lazy=True)
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 4))
    runs: dict[str, list[float]] = {"eager": [], "lazy": []}
    for _ in range(1 + REPEATS):  # the first run makes the OpenGL contexts
        images = []
        for name, env in (("eager", eager), ("lazy", lazy)):
            seconds, image = run(env, actions)
            runs[name].append(seconds / STEPS * 1e3)
            images.append(image)
        assert np.array_equal(*images), "the last images differ"
    eager_ms, lazy_ms = (median(runs[name][1:]) for name in ("eager", "lazy"))
    print("| what | measured | ratio | command |")
    print("|---|---|---|---|")
    print(
        f"| Meta-World, RGB-D looked at every {CHUNK}th step against rendered at every step | {lazy_ms:.1f} ms against "
        f"{eager_ms:.1f} ms per step | {eager_ms / lazy_ms:.1f}x | `python benchmarks/metaworld_lazy.py` |"
    )


def run(env: TaskEnv, actions: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the seconds of one run, and its last image."""
    env.reset(seed=0)
    start = time.perf_counter()
    for step, action in enumerate(actions, start=1):
        observation, *_ = env.step(action)
        if step % CHUNK == 0:
            image, _ = observation["corner/rgb"], observation["corner/depth"]
    return time.perf_counter() - start, image


if __name__ == "__main__":
    main()
