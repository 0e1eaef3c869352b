"""Goals in an order that works, and the skill that reaches each: one line per predicate of LIBERO's language."""

from __future__ import annotations

from collections.abc import Callable

from flowbench.agents.scripted.libero.door_opening import open_door
from flowbench.agents.scripted.libero.drawers import close_drawer, open_drawer
from flowbench.agents.scripted.libero.knobs import turn_off, turn_on
from flowbench.agents.scripted.libero.microwaves import close_door
from flowbench.agents.scripted.libero.motion import Arm, Steps
from flowbench.agents.scripted.libero.putting import Goal, put
from flowbench.errors import AgentError

Skill = Callable[[Arm, Goal], Steps[None]]


def _open(arm: Arm, goal: Goal) -> Steps[None]:
    if arm.scene.is_region(goal[1]):
        yield from open_drawer(arm, goal[1])
    else:
        yield from open_door(arm, goal[1])


def _close(arm: Arm, goal: Goal) -> Steps[None]:
    if arm.scene.is_region(goal[1]):
        yield from close_drawer(arm, goal[1])
    else:
        yield from close_door(arm, goal[1])


def _turn_on(arm: Arm, goal: Goal) -> Steps[None]:
    yield from turn_on(arm, goal[1])


def _turn_off(arm: Arm, goal: Goal) -> Steps[None]:
    yield from turn_off(arm, goal[1])


#: Skills by predicate.
SKILLS: dict[str, Skill] = {
    "open": _open,
    "turnon": _turn_on,
    "turnoff": _turn_off,
    "in": put,
    "on": put,
    "close": _close,
}


def ordered(goals: list[Goal]) -> list[Goal]:
    """Return the goals in the order in which they are reached.

    What nothing goes into is closed first: open, it would be in the way. Then come doors and knobs, then things, each after
    what it is put on or in, and at last what was filled is closed.

    Raises:
        AgentError: If a predicate is not known.
    """
    for goal in goals:
        if goal[0] not in SKILLS:
            raise AgentError(
                f"The scripted expert of LIBERO has no skill for the predicate {goal[0]!r} of the goal ({' '.join(goal)}); "
                f"it knows: {', '.join(sorted(SKILLS))}."
            )
    puts = [goal for goal in goals if goal[0] in ("in", "on")]

    def rank(goal: Goal) -> int:
        if goal[0] == "close":
            # A drawer is a region itself, a microwave has one, named after it.
            return 2 + len(puts) if any(put[0] == "in" and put[2].startswith(goal[1]) for put in puts) else 0
        return 2 + _things_below(goal, puts) if goal in puts else 1

    return sorted(goals, key=rank)


def _things_below(goal: Goal, puts: list[Goal]) -> int:
    """Return how many objects have to be where they belong before this one is put on them."""
    count = 0
    below = next((other for other in puts if other[1] == goal[2]), None)
    while below is not None and count < len(puts):
        count += 1
        below = next((other for other in puts if other[1] == below[2]), None)
    return count


def reach(arm: Arm, goal: Goal) -> Steps[None]:
    """Try once to reach a goal."""
    yield from SKILLS[goal[0]](arm, goal)
