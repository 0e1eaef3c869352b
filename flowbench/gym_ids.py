"""Gymnasium ids: `gymnasium.make("FlowBench/metaworld-door-open-v0")` for every task, without importing a simulator.

Gymnasium calls `register_envs` through its own entry-point group, so the ids exist wherever FlowBench is installed.
"""

from __future__ import annotations

from gymnasium.envs.registration import register

from flowbench.registry import get_suite, suite_names


def register_envs() -> None:
    """Register one id per task: `FlowBench/<suite>-<task>-v<version>`, and `FlowBench/<family>-<task>-...` where all of a
    simulator's tasks have distinct names (`metaworld-door-open`).
    """
    seen = set()
    for suite_name in suite_names():
        suite = get_suite(suite_name)
        for task in suite.tasks:
            for prefix in (suite.name, suite.family):
                identifier = f"FlowBench/{prefix}-{task.name}-v{suite.version - 1}"
                if identifier not in seen:
                    seen.add(identifier)
                    register(
                        id=identifier,
                        entry_point="flowbench.registry:make",
                        kwargs={"suite": suite.name, "task": task.name},
                        order_enforce=False,
                    )
