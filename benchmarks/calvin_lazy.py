"""CALVIN: an agent that looks at every tenth step, against the official environment, which renders at every step.

Both read RGB and depth of the static camera at 200 x 200 and of the gripper's at 84 x 84, drawn by TinyRenderer; the official
environment's images are its own cameras'. Run as `python benchmarks/calvin_lazy.py`.
"""

from __future__ import annotations

import time

import numpy as np

import flowbench
from flowbench.envs.calvin import clients, upstream
from flowbench.envs.calvin.checkout import checkout

CHUNK = 10
STEPS = 20
REPEATS = 7


def official(core: object, cameras: list, actions: np.ndarray) -> float:
    """Step upstream's environment, which renders what its cameras see, and return seconds."""
    with clients.meaning(core.cid):
        core.cameras = cameras
        core.reset()
        start = time.perf_counter()
        for action in actions:
            core.step(action)
        return time.perf_counter() - start


def ours(env: flowbench.TaskEnv, actions: np.ndarray, looks_every: int) -> float:
    """Step FlowBench's environment, reading every camera now and then, and return seconds."""
    observation, _ = env.reset(seed=0)
    start = time.perf_counter()
    for step, action in enumerate(actions):
        if looks_every and step % looks_every == 0:
            dict(observation)
        observation, *_ = env.step(action)
    return time.perf_counter() - start


def main() -> None:
    env = flowbench.make(
        "calvin-d-d", cameras=("static", "gripper"), modalities=("rgb", "depth", "calibration"), lazy=True
    )
    root = checkout()
    core = upstream.build(root, "D")
    modules = {name: __import__(f"calvin_env.camera.{name}_camera", fromlist=["x"]) for name in ("static", "gripper")}
    cameras = []
    for name, module in modules.items():
        settings = {key: value for key, value in upstream.camera_config(root, name).items() if key != "_target_"}
        cameras.append(
            getattr(module, f"{name.title()}Camera")(cid=core.cid, robot_id=core.robot.robot_uid, **settings)
        )
    actions = 0.3 * np.random.default_rng(0).uniform(-1, 1, (STEPS, 7))
    actions[:, 6] = 1
    times = np.array(
        [(official(core, cameras, actions), ours(env, actions, CHUNK), ours(env, actions, 0)) for _ in range(REPEATS)]
    )
    theirs_ms, lazy_ms, blind_ms = 1e3 * np.median(times, axis=0) / STEPS
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    print(
        f"| CALVIN step, two cameras with RGB-D: looking at every {CHUNK}th step, against the official environment | "
        f"{lazy_ms:.1f} ms against {theirs_ms:.1f} ms ({blind_ms:.1f} ms without looking) | {ratio:.1f}x | "
        "`python benchmarks/calvin_lazy.py` |"
    )
    env.close()
    clients.disconnect(core)


if __name__ == "__main__":
    main()
