"""When an episode is over and whether it counts: one small state machine per success rule."""

from __future__ import annotations

from typing import NamedTuple

from flowbench.task import ProtocolRules, SuccessRuleName

#: AVDC keeps stepping until this many steps have succeeded (`collect_video` of AVDC_experiments at e9b5b00).
AVDC_HELD_STEPS = 10


class SuccessTracker(NamedTuple):
    """Follows one episode's success predicate, step by step.

    `first_success`: the episode ends, successfully, at the first step whose predicate holds.

    `avdc_strict` (AVDC's `collect_video`): after the first success the episode goes on until ten steps have succeeded
    or success is lost; it counts if the initial image and one image per step are at most `horizon` images by then. A
    success that is held must therefore come by step `horizon - 10`.

    `at_end`: the episode ends when the agent says so, or at the horizon, and counts if the predicate holds then; having held
    in passing is not enough.

    In a chain of instructions each has the whole horizon and ends at its own first success; the episode succeeds if all do.

    Attributes:
        rule: Name of the rule.
        horizon: Number of agent steps allowed.
        steps: Agent steps so far.
        first_success: Step of the first success, counted from 1; None before it.
        held: Number of successful steps so far; under `at_end`, of those up to now without a break.
        ended: Whether success has been decided.
        chain: Number of instructions, one after the other.
        completed: Number of instructions that were carried out.
        since: Step at which the present instruction was given.
    """

    rule: SuccessRuleName
    horizon: int
    steps: int = 0
    first_success: int | None = None
    held: int = 0
    ended: bool = False
    chain: int = 1
    completed: int = 0
    since: int = 0

    @classmethod
    def of(cls, rules: ProtocolRules) -> SuccessTracker:
        """Return the tracker of an episode that starts now."""
        return cls(rules.success_rule, rules.horizon, chain=rules.chain)

    def update(self, success: bool, over: bool = False) -> SuccessTracker:
        """Return the tracker after one more step; once decided, an episode stays decided.

        Args:
            success: Whether the success predicate holds now.
            over: Whether the agent said that it has finished.
        """
        if self.ended:
            return self
        success = bool(success)
        steps = self.steps + 1
        if self.chain > 1:
            if not success:
                return self._replace(steps=steps)
            completed = self.completed + 1
            done = completed == self.chain
            return self._replace(
                steps=steps, completed=completed, since=steps, ended=done, first_success=steps if done else None
            )
        first = steps if success and self.first_success is None else self.first_success
        held = self.held + success
        if self.rule == "first_success":
            ended = first is not None
        elif self.rule == "at_end":
            ended, held = over, held if success else 0
        else:
            ended = first is not None and (held >= AVDC_HELD_STEPS or not success)
        return SuccessTracker(self.rule, self.horizon, steps, first, held, ended)

    @property
    def succeeded(self) -> bool:
        """Whether the episode counts as a success by now."""
        if self.rule == "first_success":
            return self.first_success is not None
        if self.rule == "at_end":
            return (self.ended or self.out_of_time) and self.held > 0
        return self.ended and self.steps + 1 <= self.horizon

    @property
    def out_of_time(self) -> bool:
        """Whether the horizon is used up."""
        return self.steps - self.since >= self.horizon
