"""Keeps plans by content, so that another rule on the same plans, or the same run again, imagines nothing twice.

A plan is found by what was seen (the pixels), what was asked, the seed, and what made it. Whatever else differs (agent,
rule, run, machine) shares it. Planners that read more than that say so with an empty `identity`, and are never kept.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.agent import Needs
from flowbench.agents.planning.plan import Plan, Planner, Window
from flowbench.atomic import write_atomically
from flowbench.cache import cache_folder
from flowbench.observation import Observation
from flowbench.task import Task

#: Raised when a stored plan means something else.
FORMAT = 1


class CachedPlanner:
    """A planner that looks into a folder first; it is one itself.

    Several processes may share the folder: a plan appears complete or not at all, and two that make the same plan at the same
    time write the same file.
    """

    def __init__(self, planner: Planner, folder: Path | None = None) -> None:
        """Wrap a planner.

        Args:
            planner: Asked for what is not there.
            folder: Where plans are kept; None takes `plans` in the user's cache folder.
        """
        self.planner = planner
        self.folder = folder or cache_folder() / "plans"
        #: Plans that were found, and plans that were made, since this was built.
        self.hits = self.misses = 0

    @property
    def needs(self) -> Needs:
        """Those of the planner."""
        return self.planner.needs

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """That of the planner."""
        return self.planner.identity

    def reset(self, task: Task) -> None:
        """Pass the task on."""
        self.planner.reset(task)

    def plan(self, observation: Observation, seed: int) -> Plan:
        """Return the plan that is kept, or make and keep it.

        Raises:
            BadValue: If the folder cannot be written.
        """
        if not self.planner.identity:
            return self.planner.plan(observation, seed)
        path = self._path(observation, seed)
        found = _read(path)
        if found is not None:
            self.hits += 1
            return found
        self.misses += 1
        plan = self.planner.plan(observation, seed)
        _write(path, plan)
        return plan

    def _path(self, observation: Observation, seed: int) -> Path:
        image = np.ascontiguousarray(observation.rgb())
        facts = {
            "format": FORMAT,
            "shape": image.shape,
            "instruction": observation.instruction,
            "seed": seed,
            "planner": dict(self.planner.identity),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode() + image.tobytes()).hexdigest()
        # A folder of a hundred thousand files is slow on some file systems.
        return self.folder / digest[:2] / f"{digest}.npz"


def _write(path: Path, plan: Plan) -> None:
    arrays = {name: value for name in ("frames", "flow_px") if (value := getattr(plan, name)) is not None}
    facts = {"instruction": plan.instruction, "seed": plan.seed, "window": list(plan.window)}
    write_atomically(
        path, lambda temporary: np.savez_compressed(temporary, facts=json.dumps(facts), **arrays), "plan_cache"
    )


def _read(path: Path) -> Plan | None:
    """Return a stored plan; None if there is none, or if what is there is no plan."""
    try:
        with np.load(path) as stored:
            facts = json.loads(str(stored["facts"]))
            arrays = {name: stored[name] for name in ("frames", "flow_px") if name in stored}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # Damaged by something else than us; it is made again and replaced.
        return None
    return Plan(facts["instruction"], facts["seed"], Window(*facts["window"]), **arrays)
