"""Episodes that share a scenario are not independent: the sample that remembers which those are.

An agent that looks at nothing does the same from every camera, so its three cameras are one observation and not three;
an agent that sees lies in between. Whatever averages several cameras therefore counts scenarios, through one number: the
design effect, by which the variance of the mean exceeds that of as many independent episodes (Kish 1965).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri, stdtrit


@dataclass(frozen=True)
class ClusteredSample:
    """Numbers measured in episodes, with the cell and the scenario of each.

    Attributes:
        values: (N,) what was measured: 0 or 1 for success, -1 to 1 for a difference of two agents.
        cell: (N,) index of the cell, task x camera; the mean of the sample is the mean of its cells' means.
        scenario: (N,) index of the scenario; episodes of one scenario may depend on each other, others do not.
        task: (N,) index of the task; each scenario and each cell belongs to one.
    """

    values: np.ndarray
    cell: np.ndarray
    scenario: np.ndarray
    task: np.ndarray

    @classmethod
    def from_labels(
        cls, values: Sequence[float], tasks: Sequence[str], cameras: Sequence[str], scenarios: Sequence[str]
    ) -> ClusteredSample:
        """Number the labels of N episodes; scenario keys of different tasks are different scenarios."""
        import pandas as pd

        task = pd.factorize(np.asarray(tasks, dtype=object))[0]
        camera, camera_names = pd.factorize(np.asarray(cameras, dtype=object))
        key, key_names = pd.factorize(np.asarray(scenarios, dtype=object))
        cell = pd.factorize(task.astype(np.int64) * max(len(camera_names), 1) + camera)[0]
        scenario = pd.factorize(task.astype(np.int64) * max(len(key_names), 1) + key)[0]
        return cls(np.asarray(values, dtype=np.float64), cell, scenario, task)

    @classmethod
    def from_array(cls, values: np.ndarray) -> ClusteredSample:
        """Make a sample of a full (T, S, C) array: task x scenario x camera; NaN where there is no episode."""
        values = np.asarray(values, dtype=np.float64)
        tasks, scenarios, cameras = values.shape
        task, scenario, camera = np.indices(values.shape)
        found = ~np.isnan(values)
        return cls(
            values[found],
            _renumber((task * cameras + camera)[found]),
            _renumber((task * scenarios + scenario)[found]),
            _renumber(task[found]),
        )

    def take(self, chosen: np.ndarray) -> ClusteredSample:
        """Return the episodes at a boolean mask or at indices."""
        parts = (self.cell[chosen], self.scenario[chosen], self.task[chosen])
        return ClusteredSample(self.values[chosen], *map(_renumber, parts))

    @property
    def n(self) -> int:
        """Number of episodes N."""
        return len(self.values)

    @cached_property
    def cells(self) -> int:
        """Number of cells."""
        return int(self.cell.max()) + 1 if self.n else 0

    @cached_property
    def scenarios(self) -> int:
        """Number of scenarios."""
        return int(self.scenario.max()) + 1 if self.n else 0

    @cached_property
    def cell_counts(self) -> np.ndarray:
        """(cells,) episodes per cell."""
        return np.bincount(self.cell, minlength=self.cells)

    def mean_of(self, values: np.ndarray) -> float:
        """Return the mean of the cells' means of (N,) values; NaN without an episode."""
        if not self.n:
            return float("nan")
        return float(np.mean(np.bincount(self.cell, values, self.cells) / self.cell_counts))

    @cached_property
    def mean(self) -> float:
        """Mean of the cells' means."""
        return self.mean_of(self.values)

    @cached_property
    def nominal_n(self) -> float:
        """Number of independent episodes that a mean of cells is worth: N if all cells have equally many, else less."""
        return self.cells**2 / float(np.sum(1 / self.cell_counts)) if self.n else 0.0

    @cached_property
    def design_effect(self) -> float:
        """Factor by which episodes of one scenario that go together widen the variance; from 1, which is independence.

        The variance of the mean from scenario totals within tasks, over the same from single episodes. Where no cell
        varies it cannot be estimated, and is what it is if all episodes of a scenario are one.
        """
        if not self.n:
            return 1.0
        most = self.n / self.scenarios
        weights = 1 / (self.cells * self.cell_counts)
        centered = weights[self.cell] * (
            self.values - (np.bincount(self.cell, self.values, self.cells) / self.cell_counts)[self.cell]
        )
        squares = np.bincount(self.scenario, centered, self.scenarios) ** 2
        task_of_scenario = np.zeros(self.scenarios, dtype=int)
        task_of_scenario[self.scenario] = self.task
        per_task = np.bincount(task_of_scenario)
        correction = per_task / np.maximum(per_task - 1, 1)
        clustered = float(np.sum(correction * np.bincount(task_of_scenario, squares)))
        independent = float(np.sum(correction * np.bincount(self.task, centered**2)))
        # Rounding leaves 1e-34 where nothing varies.
        if independent <= 1e-18 / self.n:
            return most
        return float(np.clip(clustered / independent, 1.0, max(np.bincount(self.scenario).max(), 1)))

    def worth(self, n: float, confidence: float) -> float:
        """Return how many independent episodes n of this sample's are worth in an interval.

        Divided by the design effect; and where that is estimated, by what Student's quantile exceeds the normal one, as
        Korn & Graubard (1998) do for the few scenarios that it is estimated from. Never less than if all episodes of a
        scenario were one, which is the worst that can be: a further camera does not take away what the first one said.
        """
        if self.n == self.scenarios:
            return n
        freedom = max(self.scenarios - int(self.task.max()) - 1, 1)
        tail = 0.5 + confidence / 2
        estimated = n / self.design_effect * float(ndtri(tail) / stdtrit(freedom, tail)) ** 2
        return max(estimated, n / int(np.bincount(self.scenario).max()))


def _renumber(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1] if len(labels) else labels.astype(int)
