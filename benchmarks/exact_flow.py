"""What exact flow costs: a pair of 128 x 128 pixels, a whole image, and the observation `flow` beside depth.

    python benchmarks/exact_flow.py [metaworld|libero]

The limit that FlowBench holds itself to is 5 ms for a pair of 128 x 128 on a CPU. The machine's load changes the numbers, not
their order; the best of many runs is close to an idle machine's.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import flowbench
from flowbench.agents.scripted import ScriptedAgent
from flowbench.flow.exact import exact_flow, flow_to, track_points
from flowbench.flow.snapshot import take_snapshot

#: Suite with a task, cameras: a fixed one and one that rides on the hand.
CASES = {
    "metaworld": ("metaworld11/door-open", ("corner", "gripperPOV")),
    "libero": ("libero-object/pick_up_the_milk_and_place_it_in_the_basket", ("agentview", "robot0_eye_in_hand")),
}
RUNS = 60
STEPS_APART = 20


def best_ms(function, *arguments) -> tuple[float, float]:
    """Return the best and the median time in milliseconds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function(*arguments)
        times.append(1000 * (time.perf_counter() - start))
    return min(times), float(np.median(times))


def main(which: str) -> None:
    task, cameras = CASES[which]
    env = flowbench.make(task, cameras=cameras, modalities=(), lazy=True, privileged=True)
    agent = ScriptedAgent()
    observation, _ = env.reset(seed=3)
    agent.reset(env.task, env.cameras, 0)
    before = {name: take_snapshot(env, name) for name in cameras}
    for _ in range(STEPS_APART):
        observation = env.step(agent.act(observation))[0]
    after = {name: take_snapshot(env, name) for name in cameras}
    print(f"{task}, frames {STEPS_APART} steps apart, best (median) of {RUNS} runs in ms")
    for name in cameras:
        one, other = before[name], after[name]
        height, width = one.depth_m.shape
        window = ((width - 128) // 2, (height - 128) // 2, 128, 128)
        small = [view.crop(*window) for view in (one, other)]
        rows, columns = np.indices((16, 16)) * 8
        pixels = np.stack([columns.ravel(), rows.ravel()], axis=1)
        rows = {
            "flow, occlusion and scene flow, 128 x 128": best_ms(exact_flow, *small),
            "flow only, 128 x 128": best_ms(flow_to, small[0], small[1].body_to_world, small[1].camera),
            f"flow, occlusion and scene flow, {width} x {height}": best_ms(exact_flow, one, other),
            "256 tracks through 8 views": best_ms(track_points, [one, other] * 4, pixels),
            "snapshot (depth, ids, bodies)": best_ms(take_snapshot, env, name),
        }
        for what, (best, median) in rows.items():
            print(f"  {name:20s} {what:48s} {best:7.2f} ({median:.2f})")
    env.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "metaworld")
