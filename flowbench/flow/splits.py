"""What a flow network does not get to see: seeds, cameras, tasks and suites, held out by what a pair says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowbench.flow.pairs import PairSet


@dataclass(frozen=True)
class HoldOut:
    """What is held out.

    Attributes:
        every_seed: Of so many consecutive seeds the last is held out; 0 holds none out.
        views: Names of cameras.
        tasks: Names of tasks.
        suites: Names of suites.
    """

    every_seed: int = 4
    views: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()


def split_pairs(pairs: PairSet, held_out: HoldOut) -> dict[str, np.ndarray]:
    """Return the numbers of the pairs of each split.

    `train` holds what is held out in no respect; `seed`, `camera`, `task` and `suite` what is held out in that respect and in
    none after it, so that what `camera` measures is a camera and not a task.
    """
    respects = {
        "suite": np.isin(pairs.column("suite"), held_out.suites),
        "task": np.isin(pairs.column("task"), held_out.tasks),
        "camera": np.isin(pairs.column("view"), held_out.views),
        "seed": np.zeros(len(pairs), dtype=bool),
    }
    if held_out.every_seed:
        respects["seed"] = pairs.column("seed") % held_out.every_seed == held_out.every_seed - 1
    taken = np.zeros(len(pairs), dtype=bool)
    splits = {}
    for name, held in respects.items():
        splits[name] = np.flatnonzero(held & ~taken)
        taken |= held
    splits["train"] = np.flatnonzero(~taken)
    return {name: splits[name] for name in ("train", "seed", "camera", "task", "suite")}
