"""The rungs of AVDC: for each rule the truth taken away part by part, then what is reached without any plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowbench.agents.avdc.plan_flow import EXACT, EXACT_MOTION
from flowbench.errors import unknown_name
from flowbench.registry import get_suite
from flowbench.rungs import Rung

RULES = ("paper", "robust")


def avdc_ladder(
    flow: str = "dis",
    flow_checkpoint: str | None = None,
    planner: str | None = None,
    checkpoint: str | None = None,
    rules: Sequence[str] = RULES,
    suite: str | None = None,
) -> tuple[Rung, ...]:
    """Return the rungs of `flowbench diagnose ladder --agent avdc`.

    The controls of navigation are other ones: somebody who says at once that he has arrived, and random actions.

    Args:
        flow: The flow estimator that is held responsible.
        flow_checkpoint: Its weights.
        planner: The planner that is held responsible; None leaves its rung out.
        checkpoint: Its weights or demonstrations.
        rules: Subset of `paper` and `robust`.
        suite: Where it is run; None is a suite of manipulation.

    Raises:
        UnknownName: If a rule or suite does not exist.
    """
    walks = suite is not None and bool(get_suite(suite).tasks[0].action_spec.choices)
    moving = "camera" if walks else "object"
    estimated: dict[str, Any] = {"flow": flow} | ({"flow_checkpoint": flow_checkpoint} if flow_checkpoint else {})
    # name, what is true in it, what is not true any more, arguments, checkpoint
    steps: list[tuple[str, str, str, dict[str, Any], str | None]] = [
        (
            "exact-motion",
            f"true motion of the {moving}",
            "rule",
            {"planner": "oracle", "flow": EXACT_MOTION},
            None,
        ),
        ("exact-flow", "exact flow of a perfect plan", "geometry", {"planner": "oracle", "flow": EXACT}, None),
        ("estimated-flow", f"{flow} flow of a perfect plan", "flow", {"planner": "oracle", **estimated}, None),
    ]
    if planner:
        says = f"{flow} flow of a {planner} plan"
        steps.append(("imagined-plan", says, "planner", {"planner": planner, **estimated}, checkpoint))
    rungs = []
    for rule in rules:
        if rule not in RULES:
            raise unknown_name("rule", rule, RULES, "Agent avdc")
        group = f"rule={rule}"
        for name, says, part, arguments, weights in steps:
            rungs.append(Rung(f"{rule}-{name}", group, says, "avdc", {**arguments, "rule": rule}, weights, part))
        says = "one random direction per plan"
        rungs.append(Rung(f"{rule}-random-plan", group, says, "random-plan", {"rule": rule}))
    if walks:
        controls = {"random": "random actions", "done-at-once": "the end, declared at once"}
        return (*rungs, *(Rung(name, "", says, name) for name, says in controls.items()))
    return (*rungs, Rung("zero", "", "no action at all", "zero"))
