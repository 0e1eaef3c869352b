"""Rooms made up from a seed: every scene name stands for one room, the same on every machine.

Furniture is put where it finds room, then what stands on it, then what hangs; a room in which not everything fits, or that
cannot be walked, is given up and drawn anew.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np

from flowbench.envs.ithor.standin.catalogue import CONTENTS, ROOM_SIZES_M, Item, Model
from flowbench.envs.ithor.standin.rooms import Room, floor, number_and_kind, shell
from flowbench.envs.ithor.standin.things import Thing, directions, object_id
from flowbench.envs.ithor.standin.walking import Floor
from flowbench.seeding import derive_rng

CEILING_M = 2.6
GRID_M = 0.25
#: Free floor between two pieces of furniture, and in front of those that are used from there, metres.
_GAP_M = 0.06
#: From how far away at most every object must be within reach of a place that the agent can walk to, metres: less than the
#: 1.5 m of `visible`, because the eye looks down at what is below it.
_REACH_M = 1.25
_TRIES = 80
_ROOMS_TRIED = 400


class _NoRoom(Exception):
    """Something does not fit."""


def make_room(scene: str) -> Room:
    """Return the room of a scene name; a pure function of it."""
    for attempt in range(_ROOMS_TRIED):
        try:
            return _Furnishing(scene, derive_rng(f"ithor-standin/{scene}", f"room-{attempt}")).finish()
        except _NoRoom:
            continue
    raise RuntimeError(f"no room could be furnished for {scene}")


class _Furnishing:
    """One attempt at a room."""

    def __init__(self, scene: str, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.kind = number_and_kind(scene)[1]
        low, high = ROOM_SIZES_M[self.kind]
        self.width, self.depth = (round(float(rng.uniform(low, high)) / GRID_M) * GRID_M for _ in range(2))
        self.things: list[Thing] = []
        self.models: dict[str, Model] = {}

    def finish(self) -> Room:
        """Furnish the room and check that it can be lived in."""
        for item in CONTENTS[self.kind]:
            if item.chance == 1 or self.rng.random() < item.chance:
                self.things.append(self._place(item))
        identifiers = [thing.object_id for thing in self.things]
        if len(set(identifiers)) < len(identifiers):
            raise _NoRoom
        # Hangers come before what hangs on them, as in iTHOR's own lists.
        ordered = sorted(self.things, key=lambda thing: thing.pickupable)
        size = (self.width, self.depth)
        room = Room(
            scene=self.scene,
            things=(floor((0.0, 0.0), size), *ordered),
            shell=shell((0.0, 0.0), size, CEILING_M),
            center=(0.0, 0.0),
            size=size,
            start=(0.0, 0.0),
            start_yaw_deg=float(self.rng.choice([0, 90, 180, 270])),
        )
        return self._with_start(room)

    def _with_start(self, room: Room) -> Room:
        """Put the agent near the middle of the part of the room that can be walked."""
        walkable = Floor(room)
        steps = np.arange(-12, 13) * GRID_M
        places = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        free = places[walkable.fits(places)]
        if not len(free):
            raise _NoRoom
        start = tuple(min(free.tolist(), key=lambda place: math.hypot(*place)))
        reached = np.array(walkable.reachable(start, GRID_M))
        if len(reached) < (16 if self.kind == "Bathroom" else 60) or len(reached) < 0.9 * len(free):
            raise _NoRoom
        for thing in room.things:
            low, high = thing.bounds
            away = np.maximum(np.maximum(low[[0, 2]] - reached, reached - high[[0, 2]]), 0)
            if np.hypot(*away.T).min() > _REACH_M:
                raise _NoRoom
        return replace(room, start=start)

    # --- placing

    def _place(self, item: Item) -> Thing:
        if item.place == "over":
            return self._over(item)
        propose = {
            "wall": self._against_wall, "middle": self._in_the_middle, "on": self._on_host, "hung": self._hung,
            "above": self._above,
        }[item.place]  # fmt: skip
        for _ in range(_TRIES):
            thing = propose(item)
            if self._is_free(thing, item):
                return thing
        raise _NoRoom

    def _thing(self, item: Item, position: tuple[float, float, float], yaw_deg: float, parent: str = "") -> Thing:
        position = tuple(round(float(value), 4) for value in position)
        digest = hashlib.sha1(f"{self.scene}/{item.type}/{position}".encode()).hexdigest()[:8]
        identifier, model = object_id(item.type, position), item.model
        self.models[identifier] = model
        return Thing(
            type=item.type,
            position=position,
            yaw_deg=float(yaw_deg),
            blocks=model.blocks,
            object_id=identifier,
            name=f"{item.type}_{digest}",
            receptacle=model.surface is not None
            or item.type in ("ToiletPaperHanger", "TowelHolder", "HandTowelHolder"),
            pickupable=model.pickupable,
            parents=(parent,) if parent else (),
            solid=item.place != "on",
        )

    def _against_wall(self, item: Item) -> Thing:
        width, back = _extent(item.model)
        return self._at_wall(item, width / 2, back + 0.01, 0.0)

    def _hung(self, item: Item) -> Thing:
        width, back = _extent(item.model)
        return self._at_wall(item, width / 2 + 0.05, back, item.height_m)

    def _at_wall(self, item: Item, margin: float, back: float, height: float) -> Thing:
        yaw = int(self.rng.choice([0, 90, 180, 270]))
        length = self.width if yaw in (0, 180) else self.depth
        along = float(self.rng.uniform(-length / 2 + margin, length / 2 - margin))
        right, forward = directions(yaw)
        # The wall behind something that faces forward is at -forward.
        reach = (self.depth if yaw in (0, 180) else self.width) / 2
        x, _, z = along * right - (reach - back) * forward
        return self._thing(item, (x, height, z), yaw)

    def _in_the_middle(self, item: Item) -> Thing:
        x, z = (float(self.rng.uniform(-size / 2 + 0.9, size / 2 - 0.9)) for size in (self.width, self.depth))
        return self._thing(item, (x, 0.0, z), int(self.rng.choice([0, 90, 180, 270])), "Floor|+00.00|+00.00|+00.00")

    def _on_host(self, item: Item) -> Thing:
        hosts = [thing for thing in self.things if thing.type == item.host]
        host = hosts[int(self.rng.integers(len(hosts)))]
        width, depth, height, shift = self.models[host.object_id].surface
        size = _size(item.model)
        free = (width - size[0] - 0.04, depth - size[2] - 0.04)
        if min(free) < 0:
            raise _NoRoom
        aside, ahead = (float(self.rng.uniform(-room / 2, room / 2)) for room in free)
        right, forward = directions(host.yaw_deg)
        place = np.array(host.position) + aside * right + (ahead + shift) * forward
        return self._thing(item, (place[0], host.position[1] + height, place[2]), host.yaw_deg, host.object_id)

    def _above(self, item: Item) -> Thing:
        hosts = [thing for thing in self.things if thing.type == item.host]
        host = hosts[int(self.rng.integers(len(hosts)))]
        right, forward = directions(host.yaw_deg)
        aside = float(self.rng.uniform(-0.5, 0.5)) * max(
            0.0, _extent(self.models[host.object_id])[0] - _extent(item.model)[0]
        )
        reach = self.depth if host.yaw_deg in (0, 180) else self.width
        wall = np.array(host.position) - forward * (np.array(host.position) @ forward + reach / 2)
        x, _, z = wall + aside * right + _extent(item.model)[1] * forward
        return self._thing(item, (x, item.height_m, z), host.yaw_deg)

    def _over(self, item: Item) -> Thing:
        host = next(thing for thing in self.things if thing.type == item.host)
        forward = directions(host.yaw_deg)[1]
        depth = {"Blinds": 0.06, "ToiletPaper": 0.06}.get(item.type, 0.05)
        drop = {"Towel": 0.28, "HandTowel": 0.16}.get(item.type, 0.0)
        x, y, z = np.array(host.position) + depth * forward
        return self._thing(item, (x, y - drop, z), host.yaw_deg, host.object_id)

    def _is_free(self, thing: Thing, item: Item) -> bool:
        low, high = thing.bounds
        if item.place in ("wall", "middle"):
            gap = np.array([_GAP_M, 0.0, _GAP_M])
            half = np.array([self.width, 1e9, self.depth]) / 2 + 1e-6
            if (low < -half).any() or (high > half).any():
                return False
        else:
            gap = np.array([0.01, 0.0, 0.01]) if item.place == "on" else np.array([0.04, 0.03, 0.04])
        for other in self.things:
            if other.type == item.host and item.place == "on":
                if not self._clears_host(thing, other):
                    return False
            elif (low - gap < other.bounds.high).all() and (high + gap > other.bounds.low).all():
                return False
        return True

    @staticmethod
    def _clears_host(thing: Thing, host: Thing) -> bool:
        """Whether nothing of the host (a sofa's back, a tap) is where the thing stands."""
        low, high = thing.bounds
        for center, half in zip(host.centers, host.halves, strict=True):
            # All procedural things stand at right angles.
            extent = half if host.yaw_deg in (0, 180) else half[[2, 1, 0]]
            if (low < center + extent - 1e-3).all() and (high > center - extent + 1e-3).all():
                return False
        return True


def _size(model: Model) -> np.ndarray:
    """Return the (3,) extents of a model in its own axes, symmetric about its position."""
    blocks = model.blocks
    center, half = np.array([block.center for block in blocks]), np.array([block.size for block in blocks]) / 2
    return 2 * np.maximum(np.abs(center - half), np.abs(center + half)).max(axis=0)


def _extent(model: Model) -> tuple[float, float]:
    """Return the width of a model along a wall, and how far its back is behind its position, in metres."""
    back = max(block.size[2] / 2 - block.center[2] for block in model.blocks)
    return float(_size(model)[0]), float(back)
