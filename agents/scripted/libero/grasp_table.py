"""What the geometry does not say about holding things: a few words per kind of object, and nothing else.

The planner finds grasps for everything. An entry shifts its preference where the best-looking grasp is a poor one for
reasons that surface points do not show.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraspHabits:
    """How a kind of object likes to be held.

    Attributes:
        lift_m: How far it is lifted before the grip is judged.
        lift_speed: Largest component of the action while lifting; heavy things slip when jerked.
    """

    lift_m: float = 0.08
    lift_speed: float = 0.8


_DEFAULT = GraspHabits()
#: By LIBERO's category, the name without its number.
_TABLE: dict[str, GraspHabits] = {}


def habits_of(name: str) -> GraspHabits:
    """Return the habits of an object by its BDDL name, e.g. `moka_pot_1`."""
    return _TABLE.get(name.rstrip("_0123456789"), _DEFAULT)
