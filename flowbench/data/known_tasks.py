"""Which of our suites a foreign recording belongs to, so that its episodes can be paired with ours."""

from __future__ import annotations

from collections.abc import Iterable

from flowbench.registry import get_suite, suite_names
from flowbench.task import Task


def find_task(name: str, suites: Iterable[str]) -> Task | None:
    """Return the first task of this name, searching the suites in the order given; None if none has it.

    Args:
        name: Name of the task, as the upstream project spells it.
        suites: Names of suites; those that are not installed are passed over.
    """
    installed = set(suite_names())
    for suite in suites:
        if suite in installed:
            for task in get_suite(suite).tasks:
                if task.name == name:
                    return task
    return None
