"""A room: its things, its walls, and where the agent starts; and which rooms there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flowbench.envs.ithor.standin.things import Block, Thing

#: iTHOR's default agent: radius of its capsule, height of its origin, and of its camera above that, in metres
#: (positions in the recorded metadata; `AgentManager` and the agent's prefab in allenai/ai2thor).
AGENT_RADIUS_M = 0.2
AGENT_Y_M = 0.9009992
EYE_ABOVE_AGENT_M = 0.6750001
#: Things that begin above this height do not block the agent's capsule.
AGENT_TOP_M = 1.8

_WALL_THICKNESS_M = 0.1
_ROOMS = {
    "Kitchen": range(1, 31),
    "LivingRoom": range(201, 231),
    "Bedroom": range(301, 331),
    "Bathroom": range(401, 431),
}
#: The names of iTHOR's 120 rooms, as the player lists them.
SCENES = tuple(f"FloorPlan{number}_physics" for numbers in _ROOMS.values() for number in numbers)


@dataclass(frozen=True)
class Room:
    """A room and everything in it.

    Attributes:
        scene: Name of the scene, e.g. `"FloorPlan1_physics"`.
        things: Sim objects, in the order in which the player lists them.
        shell: Walls and ceiling; drawn and named in segmentation, but no sim objects.
        center: (2,) x and z of the middle of the floor.
        size: (2,) extents along x and z in metres.
        start: (2,) x and z of the agent after a reset.
        start_yaw_deg: Its direction then.
    """

    scene: str
    things: tuple[Thing, ...]
    shell: tuple[Thing, ...]
    center: tuple[float, float]
    size: tuple[float, float]
    start: tuple[float, float]
    start_yaw_deg: float

    @property
    def height_m(self) -> float:
        """Height of the ceiling."""
        return float(max(thing.bounds.low[1] for thing in self.shell))

    def thing(self, object_id: str) -> Thing | None:
        """Return the sim object of this id, or None."""
        return next((thing for thing in self.things if thing.object_id == object_id), None)


RoomMaker = Callable[[str], Room]


def number_and_kind(scene: str) -> tuple[int, str]:
    """Return the number and the kind of a scene, e.g. (201, "LivingRoom").

    Raises:
        ValueError: If there is no such scene.
    """
    match = re.fullmatch(r"FloorPlan(\d+)(?:_physics)?", scene)
    for kind, numbers in _ROOMS.items():
        if match and int(match[1]) in numbers:
            return int(match[1]), kind
    raise ValueError(f"there is no scene {scene!r}")


def floor(center: tuple[float, float], size: tuple[float, float]) -> Thing:
    """Return the floor, which AI2-THOR lists as an object."""
    block = Block("box", (0.0, -0.05, 0.0), (size[0], 0.1, size[1]), "floor")
    identifier = "Floor|+00.00|+00.00|+00.00"
    return Thing("Floor", (center[0], 0.0, center[1]), 0.0, (block,), identifier, "Floor", receptacle=True, solid=False)


def shell(center: tuple[float, float], size: tuple[float, float], height_m: float) -> tuple[Thing, ...]:
    """Return four walls and a ceiling around a rectangular floor."""
    (x, z), (width, depth), thick = center, size, _WALL_THICKNESS_M
    outer = width + 2 * thick
    parts = {
        "Wall_North": ((x, height_m / 2, z + (depth + thick) / 2), (outer, height_m, thick)),
        "Wall_South": ((x, height_m / 2, z - (depth + thick) / 2), (outer, height_m, thick)),
        "Wall_East": ((x + (width + thick) / 2, height_m / 2, z), (thick, height_m, depth)),
        "Wall_West": ((x - (width + thick) / 2, height_m / 2, z), (thick, height_m, depth)),
        "Ceiling": ((x, height_m + thick / 2, z), (outer, thick, depth + 2 * thick)),
    }
    return tuple(
        Thing(
            name.partition("_")[0],
            position,
            0.0,
            (Block("box", (0.0, 0.0, 0.0), extents, "ceiling" if name == "Ceiling" else "wall"),),
            name,
            name,
            structure=True,
        )
        for name, (position, extents) in parts.items()
    )


class Obstacles(NamedTuple):
    """What the agent bumps into, seen from above: rectangles, with rounded corners where things are round.

    Attributes:
        centers: (N, 2) x and z in metres.
        halves: (N, 2) half extents along the rectangles' own axes, less the rounding.
        turns: (N, 2) cosine and sine of their yaw.
        roundings: (N,) radius of their corners.
    """

    centers: np.ndarray
    halves: np.ndarray
    turns: np.ndarray
    roundings: np.ndarray


def obstacles(things: tuple[Thing, ...]) -> Obstacles:
    """Return what of these things is in an agent's way."""
    centers, halves, turns, roundings = [], [], [], []
    for thing in things:
        if not thing.solid:
            continue
        yaw = np.radians(thing.yaw_deg)
        for block, center, half in zip(thing.blocks, thing.centers, thing.halves, strict=True):
            if center[1] - half[1] < AGENT_TOP_M and center[1] + half[1] > 0.02:
                rounding = 0.0 if block.shape == "box" else half[0]
                centers.append(center[[0, 2]])
                halves.append(half[[0, 2]] - rounding)
                turns.append((np.cos(yaw), np.sin(yaw)))
                roundings.append(rounding)
    return Obstacles(*map(np.array, (centers, halves, turns, roundings)))
