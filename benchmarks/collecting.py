"""Collecting demonstrations state-only, against with pictures: the same episodes, written to disk, in turns in one process.

Meta-World: whole episodes of the scripted expert, 320x240, everything that is stored by default, from one camera and from
three. LIBERO: 100 steps, two cameras, 256x256 RGB-D. Run as `python benchmarks/collecting.py metaworld` or `... libero`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from flowbench.data.collect_spec import FIRST_TRAINING_SEED, CollectSpec
from flowbench.data.demo_runner import DemoRunner
from flowbench.data.parts import demonstration_path
from flowbench.registry import get_suite
from flowbench.runner import RunOptions
from flowbench.simulator import MODALITIES
from flowbench.spec import AgentSpec

REPEATS = 3
RGBD = ("rgb", "depth", "calibration")

SETTINGS = {
    "metaworld": (
        CollectSpec(
            suite="metaworld11",
            protocol="stock_v3",
            agent=AgentSpec("scripted"),
            tasks=("door-open",),
            cameras=(),
            seeds=(FIRST_TRAINING_SEED,),
            modalities=MODALITIES,
        ),
        {
            "one camera, all modalities": {"cameras": ("corner",)},
            "three cameras, all modalities": {"cameras": ("corner", "corner2", "corner3")},
        },
    ),
    "libero": (
        CollectSpec(
            suite="libero-goal",
            protocol="openvla",
            agent=AgentSpec("random"),
            tasks=("turn_on_the_stove",),
            cameras=(),
            seeds=(FIRST_TRAINING_SEED,),
            modalities=RGBD,
            max_steps=100,
            keep_failures=True,
        ),
        {"two cameras, RGB-D": {"cameras": ("agentview", "robot0_eye_in_hand")}},
    ),
}


def main() -> None:
    family = sys.argv[1] if len(sys.argv) > 1 else "metaworld"
    plain, variants = SETTINGS[family]
    hertz = get_suite(plain.suite).control_hz
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(folder=Path(folder))
        runners = {"state-only": DemoRunner(plain, options)}
        runners |= {name: DemoRunner(replace(plain, **changes), options) for name, changes in variants.items()}
        (episode,) = plain.attempts(plain.tasks[0])
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        megabytes = {}
        for repeat in range(1 + REPEATS):  # The first turn builds simulators and OpenGL contexts.
            for name, runner in runners.items():
                start = time.perf_counter()
                finished = runner.run(episode).result
                assert finished.status == "success" or plain.keep_failures, finished
                if repeat:
                    seconds[name].append((time.perf_counter() - start) / finished.steps)
                megabytes[name] = demonstration_path(options.folder, episode).stat().st_size / 1e6
                minutes = finished.steps / hertz / 60
        for runner in runners.values():
            runner.close()
    print("| what | measured | ratio | command |")
    print("|---|---|---|---|")
    for name in variants:
        ratio = median(slow / fast for slow, fast in zip(seconds[name], seconds["state-only"], strict=True))
        fast, slow = (1 / median(seconds[key]) for key in ("state-only", name))
        print(
            f"| {plain.suite}, {finished.steps} steps: state-only against {name} | {fast:.0f} against {slow:.1f} steps/s; "
            f"{megabytes['state-only'] / minutes:.0f} against {megabytes[name] / minutes:.0f} MB per minute | {ratio:.0f}x | "
            f"`python benchmarks/collecting.py {family}` |"
        )


if __name__ == "__main__":
    main()
