"""The 1000 five-task sequences of CALVIN's long-horizon evaluation: how upstream draws them, and the result.

Drawing takes a minute, because most random sequences make no sense and are thrown away, so the result is shipped; the test
`test_the_generator_draws_the_sequences_that_are_shipped` draws it again. The published list of RoboFlamingo
(eval_sequences.json) is the same.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from flowbench.envs.calvin.initial_states import initial_conditions
from flowbench.envs.calvin.tasks import TASKS, Condition, after
from flowbench.errors import DataError

COUNT = 1000
LENGTH = 5
#: SHA-256 of `json.dumps` of the 1000 (condition, tasks) pairs.
DIGEST = "840cb992c69ce9b6d59f6020966b6300c15233f8e0b9667b6486c1962424d308"
_FILE = "sequences.txt"


class Sequence(NamedTuple):
    """One sequence.

    Attributes:
        condition: The world at its start.
        tasks: Names of its five tasks, in order.
    """

    condition: Condition
    tasks: tuple[str, ...]


@cache
def sequences() -> tuple[Sequence, ...]:
    """Return the 1000 sequences in upstream's order.

    Raises:
        DataError: If the shipped file was changed.
    """
    conditions, names = initial_conditions(), list(TASKS)
    found = []
    for line in (files(__package__) / _FILE).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            condition, *tasks = map(int, line.split())
            found.append(Sequence(conditions[condition], tuple(names[task] for task in tasks)))
    if digest(found) != DIGEST:
        raise DataError(f"{_FILE} does not hold CALVIN's evaluation sequences; install FlowBench again.")
    return tuple(found)


def digest(found: list[Sequence]) -> str:
    """Return the hash by which lists of sequences are compared."""
    return hashlib.sha256(json.dumps([[dict(one.condition), list(one.tasks)] for one in found]).encode()).hexdigest()


def draw_sequences(count: int = COUNT) -> list[Sequence]:
    """Draw sequences as upstream's `get_sequences(count)` does; a minute for 1000.

    Upstream spreads the conditions over processes, each of which seeds NumPy's global generator with the condition's number;
    the last shuffle uses the parent's, seeded with 0.
    """
    conditions = initial_conditions()
    found = []
    for index, share in enumerate(np.array_split(range(count), len(conditions))):
        found += [Sequence(conditions[index], tasks) for tasks in _draw(conditions[index], len(share), index)]
    np.random.RandomState(0).shuffle(found)
    return found


def _draw(condition: Condition, count: int, seed: int) -> list[tuple[str, ...]]:
    """Draw `count` sequences that are possible from a condition."""
    rng = np.random.RandomState(seed)
    names = list(TASKS)
    categories = np.array([TASKS[name].category for name in names])
    found: list[tuple[str, ...]] = []
    while len(found) < count:
        # What `choice(names, size=5, replace=False)` draws.
        chosen = rng.permutation(len(names))[:LENGTH]
        if len(set(categories[chosen].tolist())) == LENGTH:
            tasks = tuple(names[index] for index in chosen)
            if _possible(condition, tasks):
                found.append(tasks)
    return found


def _possible(condition: Condition, tasks: tuple[str, ...]) -> bool:
    """Whether each task, when its turn comes, can be understood in exactly one way."""
    for task in tasks:
        outcomes = after(condition, task)
        if len(outcomes) != 1:
            return False
        condition = outcomes[0]
    return True
