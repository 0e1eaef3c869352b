"""How long episodes last: by outcome for each run, and until success for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from flowbench.result import STATUSES

#: Widths of a bin in steps, before a power of ten.
_WIDTHS = (1, 2, 2.5, 5)
_MOST_BINS = 25


class Bin(NamedTuple):
    """Episodes of similar length.

    Attributes:
        first: Fewest steps.
        last: Most steps.
        counts: Episodes per status, in the order of `STATUSES`.
    """

    first: int
    last: int
    counts: tuple[int, ...]


class Quartiles(NamedTuple):
    """Length of the successful episodes of a task, in steps.

    Attributes:
        shortest: The shortest.
        lower: A quarter are at most this long.
        median: Half are.
        upper: Three quarters are.
        longest: The longest.
        n: Number of successful episodes.
    """

    shortest: float
    lower: float
    median: float
    upper: float
    longest: float
    n: int


@dataclass(frozen=True)
class Lengths:
    """Lengths of the episodes of all runs, on one scale.

    Attributes:
        bins: Per run its histogram; all have the same bins.
        most_steps: The longest episode of any run.
        tasks: Per task and run, how long successes took; None without one.
    """

    bins: tuple[tuple[Bin, ...], ...]
    most_steps: int
    tasks: dict[str, tuple[Quartiles | None, ...]]


def measure_lengths(episodes: Sequence[pd.DataFrame], tasks: Sequence[str]) -> Lengths:
    """Count steps.

    Args:
        episodes: Per run a frame with the columns `task` (as in `tasks`), `status` and `steps`.
        tasks: Names of the tasks, in order.
    """
    most = max(1, *(int(frame["steps"].max()) for frame in episodes))
    width = _bin_width(most)
    histograms = []
    for frame in episodes:
        # An episode that broke before its first step goes with the shortest ones.
        which = np.maximum(frame["steps"].to_numpy() - 1, 0) // width
        counts = [np.bincount(which[frame["status"] == status], minlength=-(-most // width)) for status in STATUSES]
        histograms.append(
            tuple(
                Bin(index * width + 1, (index + 1) * width, tuple(int(count) for count in column))
                for index, column in enumerate(np.transpose(counts))
            )
        )
    successes = [frame[frame["status"] == "success"].groupby("task")["steps"] for frame in episodes]
    by_task = {task: tuple(_quartiles(groups, task) for groups in successes) for task in tasks}
    return Lengths(tuple(histograms), most, by_task)


def _bin_width(most_steps: int) -> int:
    """Return the smallest round width with which the longest episode falls into one of the bins."""
    round_widths = (factor * 10**power for power in range(12) for factor in _WIDTHS if factor * 10**power % 1 == 0)
    return int(next(width for width in round_widths if most_steps <= width * _MOST_BINS))


def _quartiles(groups: pd.core.groupby.SeriesGroupBy, task: str) -> Quartiles | None:
    if task not in groups.groups:
        return None
    steps = groups.get_group(task).to_numpy()
    return Quartiles(*(float(value) for value in np.quantile(steps, (0, 0.25, 0.5, 0.75, 1))), len(steps))
