"""What the LIBERO benchmarks share: upstream's own environment beside ours, and timing in turns.

Timing in turns matters on shared machines: both sides meet the same disturbances.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flowbench.envs.gl import configure_rendering
from flowbench.registry import get_suite

configure_rendering()  # Before MuJoCo is imported.

#: A table top with cabinet, rack and stove; a kitchen whose stove is on at the start; a living room without fixtures.
TASKS = (("libero-goal", 7), ("libero10", 8), ("libero10", 0))


def task_name(suite: str, index: int) -> str:
    """Return a task's name by its upstream index."""
    return get_suite(suite).tasks[index].name


def upstream_env(name: str, **settings: Any) -> Any:
    """Build upstream's `ControlEnv` of a task; without settings, without any rendering."""
    from flowbench.envs.libero import upstream

    defaults = {"has_offscreen_renderer": False, "use_camera_obs": False, "ignore_done": True}
    control_env = upstream.load()
    with upstream.quiet():
        return control_env(bddl_file_name=str(upstream.bddl_file(name)), **{**defaults, **settings})


def official_state(name: str, index: int) -> Any:
    """Return one official initial state of a task."""
    from flowbench.envs.libero import upstream
    from flowbench.envs.libero.init_states import load_init_states

    return load_init_states(upstream.init_states_file(name))[index]


def times_s(repeats: int, *calls: Callable[[], Any]) -> np.ndarray:
    """Time several calls in turns; return (repeats, calls) seconds. Each call runs once before, unmeasured."""
    times = np.empty((repeats, len(calls)))
    for call in calls:
        call()
    for row in times:
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            row[index] = time.perf_counter() - start
    return times


def ratio(times: np.ndarray, slow: int, fast: int) -> float:
    """Return how much longer one call takes than another: the median over the turns, each of which met one disturbance."""
    return float(np.median(times[:, slow] / times[:, fast]))


def print_row(what: str, measured: str, ratio: str, command: str) -> None:
    """Print one Markdown row under its header."""
    print("| what | measured | ratio | command |")
    print("|---|---|---|---|")
    print(f"| {what} | {measured} | {ratio} | `{command}` |")
