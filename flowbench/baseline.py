"""The small file that a gate compares a run with: committed to git, and readable in its diffs.

It holds what makes two runs comparable, the counts per task and camera, and every outcome as one character, so that a
changed scenario can be named years after the run's folder is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from flowbench.errors import BadValue, StoreError
from flowbench.outcomes import RunOutcomes, field_differences

#: Raised when the layout of the file changes.
FORMAT_VERSION = 1
#: What makes outcomes comparable; also the fields of a spec that all runs of one baseline share.
RULES = (
    *("suite", "suite_version", "protocol", "max_steps"),
    *("image_size", "image_view", "profile", "clip_actions"),
)
#: Character of each status in an outcome string; `-` stands for an episode that is not in the run.
CHARACTERS = {"success": "1", "failure": "0", "error": "e"}
_STATUSES = {character: status for status, character in CHARACTERS.items()}


@dataclass(frozen=True)
class BaselineCell:
    """One task from one camera.

    Attributes:
        task: Name of the task.
        camera: Text of the camera pose.
        success: Number of successes.
        failure: Number of failures.
        error: Number of errors.
        outcomes: One character per scenario of the baseline; None if only counts are kept.
        steps: Steps of each scenario's episode, None where there is none; None if only counts are kept.
    """

    task: str
    camera: str
    success: int
    failure: int
    error: int
    outcomes: str | None = None
    steps: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Baseline:
    """What a run is held against.

    Attributes:
        suite: Name of the suite.
        suite_version: Version of its episode ids.
        protocol: Name of the protocol.
        max_steps: Horizon instead of the protocol's.
        image_size: Image size, if the user chose it.
        image_view: Image orientation, if the user chose it.
        profile: Render profile.
        clip_actions: Whether out-of-range actions were clipped.
        agent: Name, arguments, checkpoint and content hash of the agent.
        privileged: Whether it reads simulator state.
        versions: Packages that can change a result.
        commit: Commit of the source tree; None outside a checkout.
        commands: The commands that made the runs.
        spec_digests: Hashes of their specs.
        created: UTC time, ISO 8601.
        scenarios: Keys of the scenarios, in the order of the outcome strings; empty if only counts are kept.
        cells: Task by task, camera by camera.
    """

    suite: str
    suite_version: int
    protocol: str
    max_steps: int | None
    image_size: tuple[int, int] | None
    image_view: str | None
    profile: str
    clip_actions: bool
    agent: Mapping[str, Any]
    privileged: bool
    versions: Mapping[str, str]
    commit: str | None
    commands: tuple[str, ...]
    spec_digests: tuple[str, ...]
    created: str
    scenarios: tuple[str, ...]
    cells: tuple[BaselineCell, ...]

    @classmethod
    def of(cls, runs: Sequence[RunOutcomes], *, outcomes: bool = True) -> Baseline:
        """Make a baseline of finished runs of one agent under one set of rules.

        Args:
            runs: One or more; they may differ in tasks, cameras and scenarios.
            outcomes: Whether to keep each scenario's outcome; without, only rates can be compared.

        Raises:
            BadValue: If a run is not finished, runs do not belong together, or an episode is in two of them.
        """
        for run in runs:
            if run.missing:
                raise BadValue(
                    f"{run.name} is not finished: {run.missing} episodes have no result yet. Finish it by its own command: "
                    f"{run.manifest.command}"
                )
        frame, first = join(runs), runs[0]
        scenarios = tuple(dict.fromkeys(frame["scenario"])) if outcomes else ()
        position = {key: index for index, key in enumerate(scenarios)}
        cells = []
        for (task, camera), group in frame.groupby(["task", "camera"], sort=False):
            counts = {status: int((group["status"] == status).sum()) for status in CHARACTERS}
            letters, steps = ["-"] * len(scenarios), [None] * len(scenarios)
            if outcomes:
                for row in group.itertuples():
                    letters[position[row.scenario]] = CHARACTERS[row.status]
                    steps[position[row.scenario]] = int(row.steps)
            kept = ("".join(letters), tuple(steps)) if outcomes else (None, None)
            cells.append(BaselineCell(task, camera, **counts, outcomes=kept[0], steps=kept[1]))
        return cls(
            **{field: getattr(first.spec, field) for field in RULES},
            agent=asdict(first.spec.agent),
            privileged=first.manifest.privileged,
            versions=dict(first.manifest.versions),
            commit=first.manifest.commit,
            commands=tuple(run.manifest.command for run in runs),
            spec_digests=tuple(run.spec.digest for run in runs),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            scenarios=scenarios,
            cells=tuple(cells),
        )

    @property
    def frame(self) -> pd.DataFrame:
        """One row per episode, with the columns of `RunOutcomes.frame` but `id`; empty if only counts are kept."""
        rows = [
            (cell.task, cell.camera, key, _STATUSES[letter], steps)
            for cell in self.cells
            if cell.outcomes is not None and cell.steps is not None
            for key, letter, steps in zip(self.scenarios, cell.outcomes, cell.steps)
            if letter != "-"
        ]
        return pd.DataFrame(rows, columns=["task", "camera", "scenario", "status", "steps"])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(dict.fromkeys(cell.task for cell in self.cells))

    def to_json(self) -> str:
        """Return JSON text with one line per cell, so that git shows which one changed."""
        values = {"kind": "flowbench-baseline", "format_version": FORMAT_VERSION, **asdict(self)}
        cells = [json.dumps(cell, separators=(",", ":")) for cell in values.pop("cells")]
        values["scenarios"] = " ".join(values["scenarios"])
        head = json.dumps(values, indent=1)[: -len("\n}")]
        return head + ',\n "cells": [\n  ' + ",\n  ".join(cells) + "\n ]\n}\n"

    @classmethod
    def read(cls, path: Path | str) -> Baseline:
        """Read a baseline.

        Raises:
            StoreError: If the file is missing, or is no baseline of this format.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if values.pop("kind", None) != "flowbench-baseline":
                raise StoreError(f"{path} is no baseline. Make one: flowbench baseline RUN --out {path}")
            version = values.pop("format_version", None)
            if version != FORMAT_VERSION:
                raise StoreError(
                    f"{path} has format_version {version!r}; this FlowBench reads version {FORMAT_VERSION}. Make it again: "
                    f"flowbench baseline RUN --out {path}"
                )
            return cls._from_json(values)
        except OSError as error:
            raise StoreError(
                f"Baseline {path} cannot be read: {error.strerror}. Make one: flowbench baseline RUN --out {path}"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{path} is no complete baseline ({error}).") from error

    @classmethod
    def _from_json(cls, values: dict[str, Any]) -> Baseline:
        values["scenarios"] = tuple(values["scenarios"].split())
        for name in ("commands", "spec_digests", "image_size"):
            values[name] = None if values[name] is None else tuple(values[name])
        cells = []
        for cell in values["cells"]:
            steps = cell["steps"]
            made = BaselineCell(**{**cell, "steps": None if steps is None else tuple(steps)})
            lengths = {len(values["scenarios"])} | {
                len(part) for part in (made.outcomes, made.steps) if part is not None
            }
            if len(lengths) > 1 and made.outcomes is not None:
                raise ValueError(f"{made.task} from {made.camera} has another number of outcomes than of scenarios")
            if made.outcomes is not None and not set(made.outcomes) <= {*_STATUSES, "-"}:
                raise ValueError(f"{made.task} from {made.camera} has an outcome other than 1, 0, e and -")
            cells.append(made)
        return cls(**{**values, "cells": tuple(cells)})


def join(runs: Sequence[RunOutcomes]) -> pd.DataFrame:
    """Put the episodes of several runs one after the other.

    Raises:
        BadValue: If the runs differ in rules or agent, or share an episode.
    """
    first = runs[0]
    for run in runs[1:]:
        if different := field_differences(first.spec, run.spec, (*RULES, "agent")):
            raise BadValue(f"{first.name} and {run.name} do not belong together: {'; '.join(different)}.")
    frame = pd.concat([run.frame for run in runs], ignore_index=True)
    repeated = frame["id"][frame["id"].duplicated()]
    if len(repeated):
        raise BadValue(f"Episode {repeated.iloc[0]} is in two of the runs; each episode is counted once.")
    return frame
