"""AVDC's rule with a plan that knows nothing: what every result of a plan has to be compared with."""

from __future__ import annotations

from flowbench.agents.avdc.agent import AvdcAgent


class RandomPlanAgent(AvdcAgent):
    """Follows a flow of 3 px per frame in one random direction per plan; everything else is AVDC's.

    On metaworld11 it presses every handle and opens most faucets. It measures how much of a score needs no plan at all.
    """

    def __init__(self, rule: str = "paper", solver: str | None = None, max_replans: int | None = None) -> None:
        """Choose the rule that it is a control for.

        Args:
            rule: `paper` or `robust`.
            solver: As `avdc` takes it.
            max_replans: Likewise.
        """
        super().__init__("random-plan", solver=solver, rule=rule, max_replans=max_replans)
