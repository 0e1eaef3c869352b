"""A stored run with its episodes, as the report looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flowbench.store import read_rows
from flowbench.tables import RunSummary

_FIELDS = ["id", "task", "camera", "seed", "init_state", "status", "steps", "error"]


@dataclass(frozen=True)
class ReportRun:
    """One run.

    Attributes:
        folder: Where it lies.
        summary: Its counts per task x camera, and its manifest.
        episodes: One row per finished episode in the order of the spec, not in the order in which workers finished, so
            that the same results give the same page.
    """

    folder: Path
    summary: RunSummary
    episodes: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> ReportRun:
        """Read a run, finished or not.

        Raises:
            StoreError: If the folder holds no run or a damaged one.
            BadValue: If no episode has finished yet.
        """
        summary = RunSummary.read(folder)
        rows, _ = read_rows(folder)
        episodes = pd.DataFrame(rows)[_FIELDS]
        tasks, cameras = (
            list(dict.fromkeys(summary.cells.index.get_level_values(name))) for name in ("task", "camera")
        )
        ranks = {
            "task": {name: i for i, name in enumerate(tasks)},
            "camera": {name: i for i, name in enumerate(cameras)},
        }
        episodes = episodes.sort_values(
            ["task", "camera", "init_state", "seed", "id"],
            key=lambda column: column.map(ranks[column.name]) if column.name in ranks else column,
            ignore_index=True,
        )
        return cls(Path(folder), summary, episodes)
