"""Steps of iTHOR's stand-in through FlowBench against the client alone, and what starting and changing rooms cost.

Run as `python benchmarks/ithor_speed.py [STEPS]`; one core is enough, because client and player take turns. Rates per second of
processor time count both processes, and so say what an idle machine would do where this one is busy.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ai2thor.controller import Controller

import flowbench
from flowbench.envs.ithor.client import ThorClient
from flowbench.envs.ithor.players import find_standin
from flowbench.envs.ithor.simulator import _SETTINGS

#: Of every kind, so that no turn is like the one before.
MOVES = np.random.default_rng(0).integers(3, size=4096)
NAMES = ("MoveAhead", "RotateRight", "RotateLeft")


class Rate(NamedTuple):
    """How fast steps are.

    Attributes:
        wall: Steps per second.
        processor: Steps per second of processor time of client and player.
    """

    wall: float
    processor: float


def processor_s(pid: int) -> float:
    """Return the processor time of another process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(step: Callable[[int], object], pid: int, steps: int) -> Rate:
    """Take some steps, and return the best of three turns."""
    rates = []
    for turn in range(3):
        before, own, wall = processor_s(pid), time.process_time(), time.perf_counter()
        for number in range(steps):
            step(turn * steps + number)
        wall = time.perf_counter() - wall
        rates.append(Rate(steps / wall, steps / (processor_s(pid) - before + time.process_time() - own)))
    return Rate(*(max(rate[index] for rate in rates) for index in range(2)))


def through_flowbench(modalities: tuple[str, ...], steps: int) -> Rate:
    """Steps of the environment, which reads what it was asked for at every one."""
    env = flowbench.make("ithor12-standin", "Toaster", modalities=modalities)
    env.reset(seed=0)
    rate = measure(lambda number: env.step(int(MOVES[number])), env.simulator._client.pid, steps)
    env.close()
    return rate


def through_the_client(steps: int) -> Rate:
    """Steps of the client as released, with RGB and depth."""
    controller = Controller(
        local_executable_path=find_standin().arguments["local_executable_path"],
        x_display=":0",
        scene="FloorPlan1",
        width=64,
        height=64,
        **_SETTINGS,
    )

    def step(number: int) -> None:
        name = NAMES[MOVES[number]]
        controller.step(name, **({"degrees": 45} if name.startswith("Rotate") else {}))

    rate = measure(step, controller.unity_pid, steps)
    controller.stop()
    return rate


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    """Print Markdown rows."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    clients: list[ThorClient] = []
    start = lambda: clients.append(ThorClient(find_standin(), 64, 64, "FloorPlan1", **_SETTINGS))  # noqa: E731
    starts = []
    for _ in range(3):
        starts.append(seconds(start))
        if len(clients) > 1:
            clients.pop(0).close()
    client = clients[0]
    fresh = [
        seconds(lambda scene=scene: client.reset(scene)) for scene in ("FloorPlan201", "FloorPlan302", "FloorPlan12")
    ]
    again = min(seconds(lambda: client.reset("FloorPlan12")) for _ in range(5))
    client.close()
    looking, blind = through_flowbench(("rgb", "depth"), steps), through_flowbench((), steps)
    alone = through_the_client(steps)
    command = f"`python benchmarks/ithor_speed.py {steps}`"
    rows = {
        "stand-in, RGB-D 64x64 at every step": f"{looking.wall:.0f} steps/s; {looking.processor:.0f} per processor second",
        "the same against AI2-THOR's client alone": f"{looking.processor / alone.processor:.2f}x ({alone.processor:.0f})",
        "an agent that does not look, against one that does": f"{blind.processor / looking.processor:.1f}x "
        f"({blind.processor:.0f} per processor second)",
        "start of a player": f"{min(starts):.1f} s (median of three {sorted(starts)[1]:.1f} s)",
        "another room": f"{min(fresh):.2f} s (largest of three {max(fresh):.2f} s); the same room again {again * 1000:.0f} ms",
    }
    for what, figure in rows.items():
        print(f"| {what} | {figure} | {command} |")


if __name__ == "__main__":
    main()
