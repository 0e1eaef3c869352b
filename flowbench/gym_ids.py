"""Gymnasium ids: `gymnasium.make("FlowBench/metaworld-door-open-v0")` for every task, without importing a simulator.

They exist once `flowbench` is imported; `gymnasium.make("flowbench:FlowBench/metaworld-door-open-v0")` imports it itself.
"""

from __future__ import annotations

import gymnasium
from gymnasium.envs.registration import register

from flowbench.errors import FlowBenchError
from flowbench.registry import get_suite, suite_names


def register_envs() -> None:
    """Register one id per task: `FlowBench/<suite>-<task>-v<version>`, and `FlowBench/<family>-<task>-...` where all of a
    simulator's tasks have distinct names (`metaworld-door-open`).
    """
    try:
        names = suite_names()
    except FlowBenchError:  # A clone that is not installed: the error is for whoever asks for a suite.
        return
    seen = set()
    for suite_name in names:
        try:
            suite = get_suite(suite_name)
        except Exception as error:  # Somebody's broken suite must not take away the ids of all others.
            gymnasium.logger.warn(f"Suite {suite_name} could not be loaded and has no Gymnasium ids: {error}")
            continue
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
