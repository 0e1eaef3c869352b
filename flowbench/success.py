"""When an episode is over and whether it counts: one small state machine per success rule."""

from __future__ import annotations

from typing import NamedTuple

from flowbench.task import SuccessRuleName

#: AVDC keeps stepping until this many steps have succeeded (`collect_video` of AVDC_experiments at e9b5b00).
AVDC_HELD_STEPS = 10


class SuccessTracker(NamedTuple):
    """Follows one episode's success predicate, step by step.

    `first_success`: the episode ends, successfully, at the first step whose predicate holds.

    `avdc_strict` (AVDC's `collect_video`): after the first success the episode goes on until ten steps have succeeded
    or success is lost; it counts if the initial image and one image per step are at most `horizon` images by then. A
    success that is held must therefore come by step `horizon - 10`.

    Attributes:
        rule: Name of the rule.
        horizon: Number of agent steps allowed.
        steps: Agent steps so far.
        first_success: Step of the first success, counted from 1; None before it.
        held: Number of successful steps so far.
        ended: Whether success has been decided.
    """

    rule: SuccessRuleName
    horizon: int
    steps: int = 0
    first_success: int | None = None
    held: int = 0
    ended: bool = False

    def update(self, success: bool) -> SuccessTracker:
        """Return the tracker after one more step; once decided, an episode stays decided."""
        if self.ended:
            return self
        success = bool(success)
        steps = self.steps + 1
        first = steps if success and self.first_success is None else self.first_success
        held = self.held + success
        if self.rule == "first_success":
            ended = first is not None
        else:
            ended = first is not None and (held >= AVDC_HELD_STEPS or not success)
        return SuccessTracker(self.rule, self.horizon, steps, first, held, ended)

    @property
    def succeeded(self) -> bool:
        """Whether the episode counts as a success by now."""
        if self.rule == "first_success":
            return self.first_success is not None
        return self.ended and self.steps + 1 <= self.horizon

    @property
    def out_of_time(self) -> bool:
        """Whether the horizon is used up."""
        return self.steps >= self.horizon
