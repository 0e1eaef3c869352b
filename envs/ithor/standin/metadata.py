"""What the player says about the world after every action: AI2-THOR's metadata, with every key of it.

Most of an object's 39 entries never change in a room where nothing moves, so they are packed once; a message holds them as
they are.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack

from flowbench.envs.ithor.standin.rooms import Room
from flowbench.envs.ithor.standin.things import Thing

#: Properties of objects that nothing here has or changes (names and types as in the recorded metadata).
_UNCHANGING = {
    "toggleable": False, "isToggled": False, "breakable": False, "isBroken": False, "canFillWithLiquid": False,
    "isFilledWithLiquid": False, "fillLiquid": None, "dirtyable": False, "isDirty": False, "canBeUsedUp": False,
    "isUsedUp": False, "cookable": False, "isCooked": False, "temperature": "RoomTemp", "isHeatSource": False,
    "isColdSource": False, "sliceable": False, "isSliced": False, "openable": False, "isOpen": False, "openness": 0.0,
    "moveable": False, "salientMaterials": None, "isPickedUp": False, "controlledObjects": None, "isMoving": False,
    "assetId": "", "objectOrientedBoundingBox": None,
}  # fmt: skip
#: Entries of the message that nothing here sets.
_EMPTY = {
    "inventoryObjects": [], "collided": False, "collidedObjects": [], "cameraOrthSize": 0.0, "colorBounds": None,
    "isOpenableGrid": [], "flatSurfacesOnGrid": [], "distances": [], "normals": [], "segmentedObjectIds": [],
    "objectIdsInBox": [], "actionIntReturn": 0, "actionFloatReturn": 0.0, "actionStringsReturn": [],
    "actionFloatsReturn": [], "actionVector3sReturn": [], "visibleRange": None, "isSceneAtRest": True,
}  # fmt: skip


def vector(x: float, y: float, z: float) -> dict[str, float]:
    """Return a vector as the wire has it."""
    return {"x": float(x), "y": float(y), "z": float(z)}


class ObjectList:
    """The metadata of a room's objects, packed but for what depends on the agent."""

    def __init__(self, room: Room) -> None:
        self._positions = [thing.position for thing in room.things]
        held: dict[str, list[str]] = {}
        for thing in room.things:
            for parent in thing.parents:
                held.setdefault(parent, []).append(thing.object_id)
        self._fixed = []
        for thing in room.things:
            entries = _fixed_entries(thing, held.get(thing.object_id, []))
            # The header of a map in MessagePack, for what never changes and three entries more.
            header = b"\xde" + (len(entries) + 3).to_bytes(2, "big")
            self._fixed.append(header + b"".join(msgpack.packb(item) for pair in entries.items() for item in pair))
        self._keys = [msgpack.packb(key) for key in ("distance", "visible", "isInteractable")]

    def pack(self, agent: tuple[float, float, float], visible: set[int]) -> bytes:
        """Return the packed list for an agent at a (3,) position that sees these things."""
        distance_key, visible_key, interactable_key = self._keys
        parts = [b"\xdd" + len(self._fixed).to_bytes(4, "big")]
        for index, (fixed, position) in enumerate(zip(self._fixed, self._positions, strict=True)):
            seen = b"\xc3" if index in visible else b"\xc2"
            distance = msgpack.packb(math.dist(position, agent))
            parts += (fixed, distance_key, distance, visible_key, seen, interactable_key, seen)
        return b"".join(parts)


def _fixed_entries(thing: Thing, held: list[str]) -> dict[str, Any]:
    low, high = (corner.tolist() for corner in thing.bounds)
    corners = [[x, y, z] for x in (high[0], low[0]) for y in (high[1], low[1]) for z in (high[2], low[2])]
    center, size = zip(*(((one + other) / 2, other - one) for one, other in zip(low, high, strict=True)))
    return {
        "name": thing.name,
        "objectId": thing.object_id,
        "objectType": thing.type,
        "position": vector(*thing.position),
        "rotation": vector(0, thing.yaw_deg, 0),
        "axisAlignedBoundingBox": {"cornerPoints": corners, "center": vector(*center), "size": vector(*size)},
        "receptacle": thing.receptacle,
        "receptacleObjectIds": held if thing.receptacle else None,
        "parentReceptacles": list(thing.parents) or None,
        "pickupable": thing.pickupable,
        "mass": 1.0 if thing.pickupable else 0.0,
        **_UNCHANGING,
    }


def scene_bounds(room: Room) -> dict[str, Any]:
    """Return the box around a room."""
    (x, z), (width, depth), height = room.center, room.size, room.height_m
    corners = [[x + sx * width / 2, y, z + sz * depth / 2] for sx in (1, -1) for y in (height, 0.0) for sz in (1, -1)]
    return {"cornerPoints": corners, "center": vector(x, height / 2, z), "size": vector(width, height, depth)}


def pack_message(agent: dict[str, Any], objects: bytes, sequence_id: int) -> bytes:
    """Return the packed metadata of one agent.

    Args:
        agent: Everything but its objects.
        objects: From `ObjectList.pack`.
        sequence_id: That of the action that is answered.
    """
    agent = {**_EMPTY, **agent}
    # Unity sends the list of objects among the rest; a map may hold its entries in any order.
    packed = b"\xde" + (len(agent) + 1).to_bytes(2, "big") + msgpack.packb("objects") + objects
    packed += b"".join(msgpack.packb(item) for pair in agent.items() for item in pair)
    message = {"thirdPartyCameras": agent["thirdPartyCameras"], "activeAgentId": 0, "sequenceId": sequence_id}
    head = b"\x84" + msgpack.packb("agents") + b"\x91" + packed
    return head + b"".join(msgpack.packb(item) for pair in message.items() for item in pair)
