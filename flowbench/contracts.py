"""What the contract tests of suites and of agents share: how a violation is reported, and when two values are the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any

import numpy as np

from flowbench.env import TaskEnv
from flowbench.errors import FlowBenchError


class ContractViolation(FlowBenchError):
    """Raised when a suite or an agent breaks its contract; the message says how to mend it."""


@contextmanager
def closing(env: TaskEnv) -> Iterator[TaskEnv]:
    """Close an environment, and let no error of closing it hide the first one."""
    try:
        yield env
    except BaseException:
        with suppress(Exception):
            env.close()
        raise
    env.close()


def require(holds: bool, sentence: str) -> None:
    """Raise a violation unless `holds`."""
    if not holds:
        raise ContractViolation(sentence)


def differing_field(first: Any, second: Any) -> str:
    """Return the name of the first field in which two simulator states differ; empty when they are equal."""
    for field in fields(first):
        if not same(getattr(first, field.name), getattr(second, field.name)):
            return field.name
    return ""


def same(first: Any, second: Any) -> bool:
    """Compare nested containers of arrays and values, exactly; NaN equals NaN."""
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        first, second = np.asarray(first), np.asarray(second)
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        return np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and (first == second or first != first)
