"""Rooms blocked out from a record of the real ones: where iTHOR's objects are, how large, of which type, under which names.

The package `procthor` carries AI2-THOR's own metadata of all 120 rooms, written by the real player. It has boxes and no
shapes, so an object here is a box, or a few boxes for furniture that is not; what is turned off the axes gets a box that is,
and what is concave gets one that does not swallow what it holds.
"""

from __future__ import annotations

import importlib.util
import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowbench.envs.ithor.standin.rooms import AGENT_RADIUS_M, Room, floor, number_and_kind, shell
from flowbench.envs.ithor.standin.things import Block, Shape, Thing, directions
from flowbench.errors import missing_extra

_GRID_M = 0.25
_CEILING_M = 2.6
_REACH_M = 1.5
_GROUPS = {"Kitchen": "kitchens", "LivingRoom": "living_rooms", "Bedroom": "bedrooms", "Bathroom": "bathrooms"}

#: Height of the seat; behind it there is a back.
_SEATS_M = {"Bed": 0.55, "Sofa": 0.45, "ArmChair": 0.45, "Chair": 0.5}
#: Boards on legs.
_TABLES = {"Desk", "DiningTable", "CoffeeTable", "Stool"}
#: Boxes that are air with a board below, or with a rim above.
_BOARDS = {"Shelf", "BathtubBasin"}
_RIMS = {"SinkBasin"}
#: Furniture that things stand in or on wherever its box says: it ends below the lowest of them.
_OPEN = {
    "CounterTop", "SideTable", "Dresser", "TVStand", "Sink", "Bathtub", "Toilet", "Box", "ShelvingUnit", "TowelHolder",
    "HandTowelHolder", "ToiletPaperHanger", *_TABLES, *_SEATS_M,
}  # fmt: skip
#: What never stops an agent or a look, as large as its box may be.
_AIRY = {
    *_BOARDS,
    *_RIMS,
    "StoveBurner",
    "Curtains",
    "ShowerGlass",
    "ShowerDoor",
    "ShowerCurtain",
    "StoveKnob",
    "Faucet",
    "ShelvingUnit",
}
#: What is round.
_ROUND = {
    "DogBed",
    "GarbageCan",
    "HousePlant",
    "FloorLamp",
    "Vase",
    "Bowl",
    "Pan",
    "Pot",
    "Plate",
    "Mug",
    "Cup",
    "Candle",
}
_THINNEST_M = 0.008
_MATERIALS = {
    "Television": "screen", "Laptop": "screen", "CellPhone": "screen", "Mirror": "mirror", "Window": "sky",
    "Painting": "art", "Poster": "poster", "Bread": "bread", "SoapBar": "pink", "ToiletPaper": "paper", "Toilet": "white",
    "Bathtub": "white", "Sink": "white", "Fridge": "steel", "Toaster": "steel", "Microwave": "steel", "Blinds": "shade",
    "Pillow": "pillow", "Spatula": "dark", "GarbageCan": "dark", "Bed": "bedding", "Sofa": "fabric", "ArmChair": "leather",
    "CounterTop": "stone", "Cabinet": "cabinet", "Drawer": "front", "HousePlant": "leaf", "Lettuce": "leaf",
    "Tomato": "red", "Apple": "red", "Potato": "bread", "Towel": "towel", "HandTowel": "towel", "Curtains": "blanket",
}  # fmt: skip
_OTHER_MATERIALS = ("wood", "metal", "cabinet", "darkwood", "pottery", "cardboard", "green", "blue", "yellow", "wicker")


class Start(NamedTuple):
    """Where the agent stood when a room was recorded.

    Attributes:
        position: (3,) metres.
        error_m: Largest difference between a recorded distance and the one from this position.
    """

    position: np.ndarray
    error_m: float


@cache
def record() -> dict[str, list[list[dict[str, Any]]]]:
    """Return the record: kind of room -> room -> objects.

    Raises:
        MissingExtra: If the package that carries it is not installed.
    """
    spec = importlib.util.find_spec("procthor")
    if spec is None:
        raise missing_extra("The record of iTHOR's rooms", "ithor-recorded", "no module named 'procthor'")
    # Read as data: importing the package needs meshes and solvers.
    folder = Path(spec.submodule_search_locations[0])
    return json.loads((folder / "databases" / "ai2thor-object-metadata.json").read_bytes())


def recorded_objects(scene: str) -> list[dict[str, Any]]:
    """Return the recorded metadata of a room's objects."""
    number, kind = number_and_kind(scene)
    return record()[_GROUPS[kind]][(number - 1) % 100]


def recorded_start(objects: list[dict[str, Any]]) -> Start:
    """Find where the agent stood: every object tells how far away it was."""
    points = np.array([_vector(thing["position"]) for thing in objects])
    distances = np.array([thing["distance"] for thing in objects])
    # |p - x|^2 = d^2, less the equation of the first, is linear in x.
    slopes = 2 * (points[1:] - points[0])
    rest = (points[1:] ** 2).sum(axis=1) - (points[0] ** 2).sum() - distances[1:] ** 2 + distances[0] ** 2
    position = np.linalg.lstsq(slopes, rest, rcond=None)[0]
    return Start(position, float(np.abs(np.linalg.norm(points - position, axis=1) - distances).max()))


def make_room(scene: str) -> Room:
    """Return the room of a scene name."""
    objects = recorded_objects(scene)
    start = recorded_start(objects)
    place = tuple(round(float(start.position[axis]) / _GRID_M) * _GRID_M for axis in (0, 2))
    boxes = _boxes(objects)
    things = tuple(
        _thing(entry, box, _is_solid(entry, box, place))
        for entry, box in zip(objects, boxes, strict=True)
        if box is not None
    )
    ground = next(_box(entry) for entry in objects if entry["objectType"] == "Floor")
    low = np.min([ground.center - ground.half, *(thing.bounds.low for thing in things)], axis=0)
    high = np.max([ground.center + ground.half, *(thing.bounds.high for thing in things)], axis=0)
    center = (float(low[0] + high[0]) / 2, float(low[2] + high[2]) / 2)
    size = (float(high[0] - low[0]), float(high[2] - low[2]))
    return Room(
        scene=scene,
        things=(floor(center, size), *things),
        shell=shell(center, size, max(_CEILING_M, float(high[1]) + 0.1)),
        center=center,
        size=size,
        start=place,
        start_yaw_deg=_direction(objects, start.position),
    )


# --- from boxes to blocks -----------------------------------------------------------------------------------------


class _Box(NamedTuple):
    """A box on its own axes: (3,) centre and half extents in metres, and yaw."""

    center: np.ndarray
    half: np.ndarray
    yaw_deg: float

    def holds(self, point: np.ndarray) -> bool:
        """Whether a (3,) point lies inside."""
        right, forward = directions(self.yaw_deg)
        away = point - self.center
        return bool((np.abs([away @ right, away[1], away @ forward]) < self.half).all())

    def cut(self, top: float) -> _Box:
        """Return the part below a height."""
        bottom = self.center[1] - self.half[1]
        height = max(top - bottom, _THINNEST_M)
        center, half = self.center.copy(), self.half.copy()
        center[1], half[1] = bottom + height / 2, height / 2
        return _Box(center, half, self.yaw_deg)


def _boxes(objects: list[dict[str, Any]]) -> list[_Box | None]:
    """Return the boxes of a room's objects, cut so that none swallows another; None for the floor."""
    whole = [None if entry["objectType"] == "Floor" else _box(entry) for entry in objects]
    held: dict[str, list[_Box]] = {}
    for entry, box in zip(objects, whole, strict=True):
        for parent in entry["parentReceptacles"] or ():
            if box is not None:
                held.setdefault(parent, []).append(box)
    boxes: list[_Box | None] = []
    for entry, box in zip(objects, whole, strict=True):
        if box is not None and entry["objectType"] in _OPEN:
            bottom = box.center[1] - box.half[1]
            tops = [inner.center[1] - inner.half[1] for inner in held.get(entry["objectId"], ())]
            # A counter's own bottom may be a hair below what lies on it; other furniture holds things in its feet, too.
            tops = [top for top in tops if top > bottom + (-0.02 if entry["objectType"] == "CounterTop" else 0.05)]
            if tops and entry["objectType"] not in _SEATS_M:
                box = box.cut(min(tops))
        boxes.append(box)
    return boxes


def _box(entry: dict[str, Any]) -> _Box:
    """Return an object's box: turned where the object is, because a box along the axes around it is too large."""
    around = entry["axisAlignedBoundingBox"]
    center, half = _vector(around["center"]), np.maximum(_vector(around["size"]) / 2, _THINNEST_M / 2)
    own = entry["objectOrientedBoundingBox"]
    if own is not None:
        turned = _upright(np.array(own["cornerPoints"]))
        return turned or _Box(center, half, 0.0)
    rotation = entry["rotation"]
    yaw_deg = rotation["y"] % 90
    upright = all(min(rotation[axis] % 90, 90 - rotation[axis] % 90) < 2 for axis in "xz")
    if not upright or min(yaw_deg, 90 - yaw_deg) < 3:
        return _Box(center, half, 0.0)
    # The box around a turned one is wider: width = w cos + d sin, depth = w sin + d cos.
    cosine, sine = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    determinant = cosine**2 - sine**2
    if abs(determinant) < 0.2:
        # Near 45 degrees the two cannot be told apart: a square then.
        side = (half[0] + half[2]) / (2 * (cosine + sine))
        own_half = np.array([side, half[1], side])
    else:
        own_half = np.array(
            [
                (half[0] * cosine - half[2] * sine) / determinant,
                half[1],
                (half[2] * cosine - half[0] * sine) / determinant,
            ]
        )
    if own_half.min() <= 0:
        return _Box(center, half, 0.0)
    return _Box(center, np.maximum(own_half, _THINNEST_M / 2), yaw_deg)


def _upright(corners: np.ndarray) -> _Box | None:
    """Return the box with these (8, 3) corners if one of its edges is vertical; None if it lies askew."""
    # Unity lists the four corners below, in order, then the four above.
    edges = np.array([corners[1] - corners[0], corners[3] - corners[0], corners[4] - corners[0]])
    lengths = np.linalg.norm(edges, axis=1)
    if lengths.min() < 1e-6:
        return None
    upward = np.abs(edges[:, 1]) / lengths
    vertical = int(upward.argmax())
    if upward[vertical] < 0.99:
        return None
    along = edges[(vertical + 1) % 3]
    # Right of something that faces yaw is (cos, -sin) in x and z.
    yaw_deg = math.degrees(math.atan2(-along[2], along[0])) % 360
    half = np.array([lengths[(vertical + 1) % 3], lengths[vertical], lengths[(vertical + 2) % 3]]) / 2
    return _Box(corners.mean(axis=0), np.maximum(half, _THINNEST_M / 2), yaw_deg)


def _is_solid(entry: dict[str, Any], box: _Box | None, start: tuple[float, float]) -> bool:
    if box is None or entry["pickupable"] or entry["objectType"] in _AIRY:
        return False
    # What swallows the place where the agent really stood is the box around something bent, such as an L-shaped counter.
    right, forward = directions(box.yaw_deg)
    away = np.array([start[0], 0, start[1]]) - box.center
    gap = np.maximum(np.abs([away @ right, away @ forward]) - box.half[[0, 2]], 0)
    return bool(np.hypot(*gap) >= AGENT_RADIUS_M)


def _thing(entry: dict[str, Any], box: _Box, solid: bool) -> Thing:
    type_ = entry["objectType"]
    material = _MATERIALS.get(type_, _OTHER_MATERIALS[sum(map(ord, type_)) % len(_OTHER_MATERIALS)])
    position = _vector(entry["position"])
    right, forward = directions(box.yaw_deg)
    shift = box.center - position
    # Blocks are placed from the object's own position, along the box's axes.
    origin = np.array([shift @ right, shift[1], shift @ forward])
    blocks = tuple(
        Block(shape, tuple((origin + center).tolist()), tuple(size.tolist()), material)
        for shape, center, size in _parts(type_, 2 * box.half)
    )
    return Thing(
        type=type_,
        position=tuple(position.tolist()),
        yaw_deg=box.yaw_deg,
        blocks=blocks,
        object_id=entry["objectId"],
        name=entry["name"],
        receptacle=entry["receptacle"],
        pickupable=entry["pickupable"],
        parents=tuple(entry["parentReceptacles"] or ()),
        solid=solid,
    )


def _parts(type_: str, size: np.ndarray) -> list[tuple[Shape, np.ndarray, np.ndarray]]:
    """Return shape, (3,) centre and (3,) extents of the blocks that an object's box is made of."""
    width, height, depth = size
    if type_ in _BOARDS or type_ in _RIMS:
        board, side = min(height, 0.02), 1 if type_ in _RIMS else -1
        return [("box", np.array([0, side * (height - board) / 2, 0]), np.array([width, board, depth]))]
    if type_ in _TABLES and height > 0.2:
        top = min(0.06, height / 4)
        leg = min(0.06, width / 4, depth / 4)
        board = ("box", np.array([0, (height - top) / 2, 0]), np.array([width, top, depth]))
        legs: list[tuple[Shape, np.ndarray, np.ndarray]] = [
            (
                "box",
                np.array([sx * (width - leg) / 2, -top / 2, sz * (depth - leg) / 2]),
                np.array([leg, height - top, leg]),
            )
            for sx in (-1, 1)
            for sz in (-1, 1)
        ]
        return [board, *legs]
    seat = _SEATS_M.get(type_)
    if seat is not None and height > seat + 0.05:
        # Which side the back is on is not recorded; half of them would be wrong, so there is none.
        return [("box", np.array([0, (seat - height) / 2, 0]), np.array([width, seat, depth]))]
    if type_ in _ROUND:
        diameter = min(width, depth)
        return [("cylinder", np.zeros(3), np.array([diameter, height, diameter]))]
    return [("box", np.zeros(3), size)]


def _direction(objects: list[dict[str, Any]], position: np.ndarray) -> float:
    """Return the direction, in quarter turns, in which the agent of the record sees what it says it sees.

    What is hidden is not asked about: of the objects within reach, those that were visible have to be ahead and the others
    had better not be.
    """
    near = [entry for entry in objects if entry["objectType"] != "Floor"]
    centers = np.array([_vector(entry["axisAlignedBoundingBox"]["center"]) for entry in near])
    seen = np.array([entry["visible"] for entry in near])
    away = (centers - position)[:, [0, 2]]
    reached = np.hypot(*away.T) <= _REACH_M
    scores = {}
    for yaw_deg in (0.0, 90.0, 180.0, 270.0):
        right, forward = directions(yaw_deg)
        ahead = np.abs(away @ right[[0, 2]]) <= away @ forward[[0, 2]]
        scores[yaw_deg] = float((ahead & seen).sum() - (~ahead & seen).sum() - 0.3 * (ahead & ~seen & reached).sum())
    return max(scores, key=scores.__getitem__)


def _vector(entries: dict[str, float]) -> np.ndarray:
    return np.array([entries["x"], entries["y"], entries["z"]])
