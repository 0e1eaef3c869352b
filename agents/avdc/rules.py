"""From the path of a contact point to hand motions: AVDC's published rule, and ours.

Both do the same four things (go above the object, come down, follow the path, ask for a new plan when nothing moves any more)
and differ in how they decide what is a grasp, where a push starts, and what happens after the first plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from flowbench.agents.avdc.hands import Hand

Mode = Literal["grasp", "push"]


class NoDirection(Exception):
    """Raised when the published rule divides zero by zero."""


class Command(NamedTuple):
    """Where the hand is to go, (3,) world metres, and whether it is to be closed."""

    target_world: np.ndarray
    close: bool


@dataclass(frozen=True)
class RuleConstants:
    """Numbers that both rules share, metres and steps.

    Source: `MyPolicy_CL` in `experiment/mypolicy.py` of AVDC_experiments at e9b5b00; `max_replans` and `timeout_steps` from
    its `benchmark_mw.py` and constructor.
    """

    above_m: float = 0.2
    aligned_m: float = 0.02
    down_m: float = 0.04
    reached_push_m: float = 0.12
    reached_grasp_m: float = 0.04
    close_within_m: float = 0.08
    push_lower_m: float = 0.03
    push_back_m: float = 0.08
    push_sideways_m: float = 0.1
    still_m: float = 0.001
    timeout_steps: int = 15
    max_replans: int = 5


class PublishedRule:
    """`MyPolicy_CL` decision by decision.

    With `faithful`, everything that its code does: the mode is decided by the first plan alone; push subgoals are lowered in
    the first plan only; at a replan the contact and the first subgoal are one array, so that the step back before a push
    moves both; and a push whose subgoals stand exactly above each other divides zero by zero, which ends the episode. Without
    it, what the paper describes: every plan is treated as the first one is, and nothing is divided by zero.

    Where motions are `exact`, nothing is divided by zero either: a handle goes straight down then, and the published code,
    which has only estimates, would not be tried but tripped.
    """

    def __init__(
        self, hand: Hand, *, faithful: bool = True, exact: bool = False, constants: RuleConstants | None = None
    ) -> None:
        self.constants = constants or RuleConstants()
        self._divides = faithful and not exact
        self.mode: Mode | None = None
        self._hand, self._faithful = hand, faithful
        self._last_hand = np.zeros(3)
        self._plans = 0
        self._countdown = 0
        self._following = False
        self._contact = np.zeros(3)
        self._subgoals: list[np.ndarray] = []

    def wants_plan(self, hand_world: np.ndarray) -> bool:
        """Notice whether the hand moved, and say whether a new plan is due. Called once per step, before `command`."""
        if self._plans == 0:
            self._last_hand = hand_world
            return True
        if np.linalg.norm(hand_world - self._last_hand) < self.constants.still_m:
            self._countdown -= 1
        self._last_hand = hand_world
        return self._countdown <= 0 and self._plans <= self.constants.max_replans

    def take(self, path_world: np.ndarray) -> None:
        """Adopt a plan: (T, 3) positions of the contact point, metres.

        Raises:
            NoDirection: If the published rule divides by zero (`faithful` only).
        """
        first = self._plans == 0
        self._plans += 1
        self._countdown = self.constants.timeout_steps
        as_first = first or not self._faithful
        if as_first:
            self.mode = published_mode(path_world)
        # As in the published code the contact is the first subgoal's own memory, until lowering makes new ones.
        self._subgoals = list(np.array(path_world, dtype=np.float64))
        self._contact = self._subgoals[0]
        if self.mode == "push":
            if as_first:
                self._subgoals = [subgoal - [0, 0, self.constants.push_lower_m] for subgoal in self._subgoals]
            self._start_push()
        elif as_first:
            self._following = False
        # Of a replan, the published code returns the first subgoal without asking where the hand is.
        self._fresh_replan = not first

    def command(self, hand_world: np.ndarray) -> Command:
        """Return what to do now."""
        target = self._target(hand_world)
        near = abs(hand_world[2] - self._contact[2]) < self.constants.close_within_m
        return Command(target, bool(self._following or self.mode == "push" or near))

    def _target(self, hand_world: np.ndarray) -> np.ndarray:
        constants = self.constants
        if self._fresh_replan:
            self._fresh_replan = False
            return self._subgoals[0]
        if not self._following:
            if np.linalg.norm(hand_world[:2] - self._contact[:2]) > constants.aligned_m:
                return self._contact + [0, 0, constants.above_m]
            if abs(hand_world[2] - self._contact[2]) <= constants.down_m:
                self._following = True
            return self._contact
        reached_m = constants.reached_push_m if self.mode == "push" else constants.reached_grasp_m
        if np.linalg.norm(hand_world - self._subgoals[0]) <= reached_m and len(self._subgoals) > 1:
            self._subgoals.pop(0)
        return self._subgoals[0]

    def _start_push(self) -> None:
        """Step back from the contact, against the first subgoal that is far enough sideways (else the last)."""
        self._following = False
        for subgoal in self._subgoals:
            sideways = subgoal[:2] - self._contact[:2]
            distance_m = float(np.linalg.norm(sideways))
            if distance_m > self.constants.push_sideways_m:
                break
        if distance_m == 0 and self._divides:
            raise NoDirection("the last subgoal stands exactly above the contact, so the push has no direction")
        direction = sideways / distance_m if distance_m > 0 else np.zeros(2)
        start = self._contact[:2] - self.constants.push_back_m * direction
        if self._faithful:
            # In place: at a replan this is the first subgoal, too.
            self._contact[:2] = start
        else:
            self._contact = np.array([*start, self._contact[2]])


def published_mode(path_world: np.ndarray, threshold_m: float = 0.10) -> Mode:
    """Decide by the largest height difference between consecutive subgoals, leaving out the first link and the last.

    It depends on the frame rate: a lift of 12 cm in six links is a push.
    """
    steps_m = np.abs(path_world[1:-2, 2] - path_world[2:-1, 2])
    return "grasp" if len(steps_m) and steps_m.max() > threshold_m else "push"


@dataclass(frozen=True)
class RobustConstants(RuleConstants):
    """Numbers of the robust rule; measured on metaworld11 with exact motion (docs/agents.md has the table).

    How near is near enough (`down_m`, `close_within_m`) is the hand's own.
    """

    #: Net rise of the contact point that makes a plan a grasp. It separates all eleven tasks.
    lift_m: float = 0.05
    #: A path that goes less than this sideways, and more than that up or down, has no direction to step back from.
    min_sideways_m: float = 0.04
    #: Kept above the hand's lowest height; below it the hand could never come down far enough to go on.
    floor_margin_m: float = 0.01
    #: Steps that the fingers get to close.
    dwell_steps: int = 10
    #: How far the hand goes up before a new plan.
    retreat_m: float = 0.15
    #: Of a held object, how far from a subgoal's height is level with it.
    level_m: float = 0.02


class RobustRule:
    """The published rule with its measured faults mended.

    Departures, each with the success it is worth on the tasks concerned (exact motion, seeds 0-2): a grasp is a net lift over
    the plan, decided anew for each plan (hammer 0 to 100 %); a grasp is approached again after each replan (assembly 67 to
    100); no step back for pushes that go straight up or down (button-press-topdown 56 to 100, with a contact in the object's
    middle); heights are kept within the hand's reach (hammer 33 to 100, after the contact had moved to the middle); fingers
    get time to close; before it looks again, the hand opens and goes up, out of what it wants to see.
    """

    def __init__(self, hand: Hand, *, constants: RobustConstants | None = None) -> None:
        self.constants = replace(constants or RobustConstants(), down_m=hand.down_m, close_within_m=hand.close_within_m)
        self.mode: Mode | None = None
        self._hand = hand
        self._last_hand = np.zeros(3)
        self._plans = 0
        self._countdown = 0
        self._phase: Literal["approach", "dwell", "follow", "retreat"] = "approach"
        self._dwell_left = 0
        self._away = np.zeros(3)

    def wants_plan(self, hand_world: np.ndarray) -> bool:
        """Notice whether the hand moved, and say whether a new plan is due. Called once per step, before `command`."""
        if self._plans == 0:
            self._last_hand = hand_world
            return True
        if np.linalg.norm(hand_world - self._last_hand) < self.constants.still_m:
            self._countdown -= 1
        self._last_hand = hand_world
        if self._plans > self.constants.max_replans:
            return False
        if self._phase == "retreat":
            return self._countdown <= 0 or np.linalg.norm(hand_world - self._away) < self.constants.aligned_m
        if self._countdown <= 0:
            self._retreat(hand_world)
        return False

    def see_nothing(self, hand_world: np.ndarray) -> None:
        """Answer a look that did not show the object: use it up, and get out of the way."""
        self._plans += 1
        self._retreat(hand_world)

    def _retreat(self, hand_world: np.ndarray) -> None:
        self._phase = "retreat"
        self._countdown = self.constants.timeout_steps
        self._away = hand_world + [0, 0, self.constants.retreat_m]

    def take(self, path_world: np.ndarray) -> None:
        """Adopt a plan: (T, 3) positions of the contact point, metres."""
        constants = self.constants
        self._plans += 1
        self._countdown = constants.timeout_steps
        self._phase = "approach"
        self.mode = "grasp" if path_world[:, 2].max() - path_world[0, 2] > constants.lift_m else "push"
        self._subgoals = list(np.array(path_world, dtype=np.float64))
        self._contact = self._subgoals[0].copy()
        if self.mode == "push":
            self._contact[:2] -= constants.push_back_m * self._push_direction(path_world)
            self._subgoals = [subgoal - [0, 0, constants.push_lower_m] for subgoal in self._subgoals]
        else:
            lowest_m = self._hand.lowest_m
            self._contact[2] = max(self._contact[2], lowest_m + constants.floor_margin_m)
            self._subgoals = [np.array([*goal[:2], max(goal[2], lowest_m)]) for goal in self._subgoals]

    def command(self, hand_world: np.ndarray) -> Command:
        """Return what to do now."""
        if self._phase == "retreat":
            return Command(self._away, close=False)
        target = self._target(hand_world)
        near = abs(hand_world[2] - self._contact[2]) < self.constants.close_within_m
        return Command(target, bool(self._phase != "approach" or self.mode == "push" or near))

    def _target(self, hand_world: np.ndarray) -> np.ndarray:
        constants = self.constants
        if self._phase == "approach":
            if np.linalg.norm(hand_world[:2] - self._contact[:2]) > constants.aligned_m:
                return self._contact + [0, 0, constants.above_m]
            if abs(hand_world[2] - self._contact[2]) > constants.down_m:
                return self._contact
            self._phase = "dwell" if self.mode == "grasp" else "follow"
            self._dwell_left = constants.dwell_steps
            return self._contact
        if self._phase == "dwell" and self._dwell_left > 0:
            self._dwell_left -= 1
            return self._contact
        self._phase = "follow"
        reached_m = constants.reached_push_m if self.mode == "push" else constants.reached_grasp_m
        if np.linalg.norm(hand_world - self._subgoals[0]) <= reached_m and len(self._subgoals) > 1:
            self._subgoals.pop(0)
        return self._subgoals[0] if self.mode == "push" else self._carry(hand_world, self._subgoals[0])

    def _carry(self, hand_world: np.ndarray, goal_world: np.ndarray) -> np.ndarray:
        """Return where to carry what is held next: up before sideways, and sideways before down."""
        constants = self.constants
        rise_m = goal_world[2] - hand_world[2]
        sideways_m = np.linalg.norm(goal_world[:2] - hand_world[:2])
        if sideways_m > constants.aligned_m:
            if rise_m > constants.level_m:
                return np.array([*hand_world[:2], goal_world[2]])
            if rise_m < -constants.level_m:
                return np.array([*goal_world[:2], hand_world[2]])
        return goal_world

    def _push_direction(self, path_world: np.ndarray) -> np.ndarray:
        """Return the (2,) direction in which a push goes sideways; zero if it goes up or down."""
        sideways = path_world[:, :2] - path_world[0, :2]
        distances_m = np.linalg.norm(sideways, axis=1)
        farthest_m = distances_m.max()
        if (
            farthest_m < self.constants.min_sideways_m
            and np.abs(path_world[:, 2] - path_world[0, 2]).max() > farthest_m
        ):
            return np.zeros(2)
        # The first clear move; 0.9 of the way where no move is.
        chosen = int(np.argmax(distances_m >= min(self.constants.push_sideways_m, 0.9 * farthest_m)))
        return sideways[chosen] / max(distances_m[chosen], 1e-9)
