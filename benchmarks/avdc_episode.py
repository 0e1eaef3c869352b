"""An episode of AVDC with perfect plans and exact flow: as this harness runs it, against rendering at every step.

AVDC's benchmark renders RGB and depth after every step (`collect_video`), whatever its policy looks at. Both sides here run
the same agent through the same episodes to the same end. Run as `python benchmarks/avdc_episode.py`.
"""

from __future__ import annotations

import time

from flowbench.agents.avdc.agent import AvdcAgent
from flowbench.env import TaskEnv
from flowbench.registry import make

#: One push that succeeds, one grasp, and one that replans to the end.
EPISODES = (("door-open", "corner", 0), ("assembly", "corner2", 0), ("faucet-close", "corner3", 0))


def main() -> None:
    seconds = {"lazy": [0.0, 0.0], "every step": [0.0, 0.0]}
    steps = 0
    for task, camera, seed in EPISODES:
        agent = AvdcAgent("oracle", flow="exact", rule="robust")
        modalities = ("rgb", *agent.needs.modalities)
        env = make("metaworld11", task, cameras=(camera,), modalities=modalities, lazy=True, privileged=True)
        run(env, agent, seed, every_step=True, limit=3)  # makes the OpenGL context
        ends = []
        for name in seconds:
            before = time.process_time(), time.perf_counter()
            ends.append(run(env, agent, seed, every_step=name == "every step"))
            seconds[name][0] += time.process_time() - before[0]
            seconds[name][1] += time.perf_counter() - before[1]
        env.close()
        assert ends[0] == ends[1], f"{task} ended differently: {ends}"
        steps += ends[0][1]
    (lazy_cpu, lazy_wall), (eager_cpu, eager_wall) = seconds.values()
    count = len(EPISODES)
    print("| what | measured | ratio | command |")
    print("|---|---|---|---|")
    print(
        f"| AVDC, perfect plans and exact flow, {count} episodes ({steps} steps): rendering what is looked at, against RGB and "
        f"depth at every step | {lazy_cpu / count:.1f} s against {eager_cpu / count:.1f} s of CPU per episode | "
        f"{eager_cpu / lazy_cpu:.1f}x ({eager_wall / lazy_wall:.1f}x by the clock) | `python benchmarks/avdc_episode.py` |"
    )


def run(env: TaskEnv, agent: AvdcAgent, seed: int, *, every_step: bool, limit: int = 500) -> tuple[bool, int]:
    """Run one episode; return whether it succeeded and how many steps it took."""
    observation, info = env.reset(seed=seed)
    agent.reset(env.task, env.cameras, seed)
    for _ in range(limit):
        observation, _, terminated, truncated, info = env.step(agent.act(observation))
        if every_step:
            observation.rgb(), observation.depth_m()
        if terminated or truncated:
            break
    return bool(info["is_success"]), observation.step


if __name__ == "__main__":
    main()
