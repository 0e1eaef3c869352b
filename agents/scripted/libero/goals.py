"""Goals in an order that works, and the skill that reaches each: one line per predicate of LIBERO's language."""

from __future__ import annotations

from collections.abc import Callable

from flowbench.agents.scripted.libero.drawers import close_drawer, open_drawer
from flowbench.agents.scripted.libero.knobs import turn_on
from flowbench.agents.scripted.libero.microwaves import close_door
from flowbench.agents.scripted.libero.motion import Arm, Steps
from flowbench.agents.scripted.libero.putting import Goal, put
from flowbench.errors import AgentError

Skill = Callable[[Arm, Goal], Steps[None]]


def _open(arm: Arm, goal: Goal) -> Steps[None]:
    yield from open_drawer(arm, goal[1])


def _close(arm: Arm, goal: Goal) -> Steps[None]:
    if arm.scene.is_region(goal[1]):
        yield from close_drawer(arm, goal[1])
    else:
        yield from close_door(arm, goal[1])


def _turn_on(arm: Arm, goal: Goal) -> Steps[None]:
    yield from turn_on(arm, goal[1])


#: Skills by predicate, in the order in which goals are reached: what is open first is filled, what is filled is closed.
SKILLS: dict[str, Skill] = {"open": _open, "turnon": _turn_on, "in": put, "on": put, "close": _close}
_RANK = {"open": 0, "turnon": 1, "turnoff": 1, "in": 2, "on": 2, "close": 3}


def ordered(goals: list[Goal]) -> list[Goal]:
    """Return the goals in the order in which they are reached.

    Raises:
        AgentError: If a predicate is not known.
    """
    for goal in goals:
        if goal[0] not in SKILLS:
            raise AgentError(
                f"The scripted expert of LIBERO has no skill for the predicate {goal[0]!r} of the goal ({' '.join(goal)}); "
                f"it knows: {', '.join(sorted(SKILLS))}."
            )
    return sorted(goals, key=lambda goal: _RANK[goal[0]])


def reach(arm: Arm, goal: Goal) -> Steps[None]:
    """Try once to reach a goal."""
    yield from SKILLS[goal[0]](arm, goal)
