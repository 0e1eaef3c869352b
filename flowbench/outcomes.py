"""How each episode of a run ended, ready to be laid beside another run's: what comparisons and gates work on.

A table needs counts per cell; telling two runs apart needs to know which scenario each outcome belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flowbench.chains import chain_length, planned_episodes, rung, rungs_of
from flowbench.errors import BadValue
from flowbench.stats.sample import ClusteredSample
from flowbench.store import read_manifest, read_rows

if TYPE_CHECKING:
    from flowbench.manifest import RunManifest
    from flowbench.spec import EvalSpec
    from flowbench.store import Run
    from flowbench.tables import ErrorAccounting

#: What an episode is found by in another run.
KEY = ["task", "camera", "scenario"]


@dataclass(frozen=True)
class RunOutcomes:
    """The outcomes of one run.

    Attributes:
        name: How the user calls it: its folder.
        manifest: What was run.
        frame: One row per finished episode in the order in which they finished, with the columns `id`, `task`, `camera`,
            `scenario` (its key within the task), `status` and `steps`. An episode that is a chain of instructions has one row
            for each number of instructions in a row, in the place of cameras; the mean over them is the average length as a
            share of the whole chain.
        missing: Episodes of the spec without a result.
    """

    name: str
    manifest: RunManifest
    frame: pd.DataFrame
    missing: int

    @classmethod
    def read(cls, folder: Path | str) -> RunOutcomes:
        """Read a stored run.

        Raises:
            StoreError: If the folder holds no run or a damaged one.
            BadValue: If no episode has finished yet.
        """
        manifest = read_manifest(Path(folder))
        rows, _ = read_rows(Path(folder))
        if not rows:
            raise BadValue(
                f"{folder} holds a run without a finished episode. Go on with it by its own command: {manifest.command}"
            )
        return cls._of(str(folder), manifest, rows)

    @classmethod
    def of(cls, run: Run) -> RunOutcomes:
        """Take the outcomes of a run that is in memory."""
        return cls._of(str(run.folder), run.manifest, [vars(result) for result in run.results])

    @classmethod
    def _of(cls, name: str, manifest: RunManifest, rows: Sequence[dict[str, Any]]) -> RunOutcomes:
        names = ["id", "task", "camera", "status", "steps"]
        finished, longest = len(rows), chain_length(manifest.spec)
        if longest > 1:
            rows = [part for row in rows for part in rungs_of(row, longest)]
        frame = pd.DataFrame.from_records([[row[column] for column in names] for row in rows], columns=names)
        # An id is SUITE/TASK@CAMERA/SCENARIO, and a scenario's key holds no slash.
        frame["scenario"] = [identifier.rpartition("/")[2].partition("#")[0] for identifier in frame["id"]]
        return cls(name, manifest, frame, max(planned_episodes(manifest.spec) - finished, 0))

    @property
    def spec(self) -> EvalSpec:
        """The evaluation."""
        return self.manifest.spec

    @property
    def label(self) -> str:
        """The agent, marked if it is privileged."""
        return f"{self.spec.agent.name}, privileged" if self.manifest.privileged else self.spec.agent.name

    def count(self, status: str) -> int:
        """Return how many episodes ended so."""
        return int((self.frame["status"] == status).sum())


def count_errors(frame: pd.DataFrame, errors: ErrorAccounting) -> pd.DataFrame:
    """Add the column `success`, 1 or 0, leaving out error episodes or counting them as failures."""
    if errors == "exclude":
        frame = frame[frame["status"] != "error"]
    return frame.assign(success=(frame["status"] == "success").astype(float))


def sample_of(frame: pd.DataFrame, values: np.ndarray | pd.Series) -> ClusteredSample:
    """Number the cells and scenarios of a frame with the columns `task`, `camera` and `scenario`."""
    return ClusteredSample.from_labels(np.asarray(values), *(frame[name].to_numpy() for name in KEY))


def field_differences(a: Any, b: Any, fields: Iterable[str]) -> list[str]:
    """Return the fields in which two specs, or two baselines, differ, each as `protocol: stock_v3 != avdc`."""
    return [
        f"{field}: {_show(getattr(a, field))} != {_show(getattr(b, field))}"
        for field in fields
        if getattr(a, field) != getattr(b, field)
    ]


def version_differences(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """Return the packages whose versions differ, each as `mujoco 3.3.0 != 3.3.2`."""
    names = sorted({*a, *b})
    return [f"{n} {a.get(n, 'none')} != {b.get(n, 'none')}" for n in names if a.get(n) != b.get(n)]


def _show(value: Any) -> str:
    if value is None:
        return "default"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def planned_keys(spec: EvalSpec) -> set[tuple[str, str, str]]:
    """Return (task, camera, scenario) of every row that the finished run has."""
    longest = chain_length(spec)
    cameras = {camera: [camera] for camera in spec.cameras}
    if longest > 1:
        cameras = {camera: [rung(camera, count) for count in range(1, longest + 1)] for camera in spec.cameras}
    return {(e.task, camera, e.scenario.key) for e in spec.episodes() for camera in cameras[e.camera]}
