"""The player itself: actions in, metadata and pictures out.

Names, arguments and failures of actions are those of `BaseFPSAgentController` and `AgentManager` in allenai/ai2thor; what
iTHOR's navigation needs is here, and everything else is refused by name.
"""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgpack
import numpy as np

from flowbench.envs.ithor.standin.metadata import ObjectList, pack_message, scene_bounds, vector
from flowbench.envs.ithor.standin.painter import FAR_M, NEAR_M, Canvas, Eye, Painter, Pictures
from flowbench.envs.ithor.standin.rooms import AGENT_Y_M, EYE_ABOVE_AGENT_M, SCENES, Room, RoomMaker
from flowbench.envs.ithor.standin.sight import Sight
from flowbench.envs.ithor.standin.walking import Floor
from flowbench.envs.ithor.standin.wire import Field

#: Taken by every action.
_COMMON = {"action", "sequenceId", "agentId", "renderImage", "renderInstanceSegmentation", "renderObjectImage"}
#: Answered without pictures, when `Initialize` leaves fastActionEmit on: nothing changes.
_FAST = {"GetScenesInBuild", "GetReachablePositions", "GetInteractablePoses"}
#: How far the agent looks up and down, degrees.
_HORIZONS_DEG = (-30.0, 60.0)
_FOV_DEG = (0.0, 180.0)


class Refused(Exception):
    """An action that fails; the agent stays where it is.

    Attributes:
        code: `InvalidAction`, `MissingArguments` and `InvalidArgument` make the client raise; it passes over others.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Body(NamedTuple):
    """Where the agent is: x and z in metres, direction and horizon in degrees."""

    x: float
    z: float
    yaw_deg: float
    horizon_deg: float


class Settings(NamedTuple):
    """What `Initialize` set."""

    grid_m: float = 0.25
    fov_deg: float = 90.0
    turn_deg: float = 90.0
    snap: bool = True
    reach_m: float = 1.5
    depth: bool = False
    ids: bool = False
    fast: bool = True


class World(NamedTuple):
    """A room with everything that is derived from it."""

    room: Room
    painter: Painter
    sight: Sight
    floor: Floor
    objects: ObjectList

    @classmethod
    def of(cls, room: Room) -> World:
        """Prepare a room."""
        painter = Painter(room)
        return cls(room, painter, Sight(painter), Floor(room), ObjectList(room))


Action = Callable[..., Any]
ACTIONS: dict[str, Action] = {}


def action(function: Action) -> Action:
    """Let clients call a method by its name in AI2-THOR's spelling."""
    ACTIONS["".join(word.capitalize() for word in function.__name__.split("_"))] = function
    return function


class Player:
    """One agent in one room.

    Non-obvious behaviours:
        - `snapToGrid` rounds each coordinate after a free move, as Unity does: a step of 0.25 m at 45 degrees ends on the
          diagonal neighbour, 0.354 m away, which nobody checked for obstacles.
        - Depth is sent in metres, and says so (`depthFormat`).
        - Instance ids come with an action that asks for them (`renderInstanceSegmentation`), or always after an
          `Initialize` that did; those that move third-party cameras never do, as in Unity's `AgentManager`.
    """

    def __init__(self, make_room: RoomMaker, width: int, height: int) -> None:
        """Load the first scene.

        Args:
            make_room: Makes the room of a scene name.
            width: Width of pictures in pixels.
            height: Height of pictures in pixels.
        """
        self._make_room = make_room
        self._canvas = Canvas(width, height)
        self._worlds: dict[str, World] = {}
        self._started = time.monotonic()
        self._last = {
            "lastAction": "",
            "lastActionSuccess": True,
            "errorMessage": "",
            "errorCode": "",
            "actionReturn": None,
        }
        self._shows_images = os.environ.get("AI2THOR_SERVER_SIDE_SCREENSHOT", "True") == "True"
        self._load(SCENES[0])

    def close(self) -> None:
        """Free what draws."""
        self._canvas.close()

    def do(self, message: dict[str, Any]) -> None:
        """Carry out an action, or note why it is refused."""
        name = message["action"]
        code, error, returned = "", "", None
        try:
            returned = self._call(name, message)
        except Refused as refusal:
            error, code = str(refusal), refusal.code
        self._last = {
            "lastAction": name,
            "lastActionSuccess": not error,
            "errorMessage": error,
            "errorCode": code,
            "actionReturn": returned,
        }

    def reply(self, message: dict[str, Any] | None = None) -> list[tuple[Field, bytes]]:
        """Return the answer to an action that was carried out; None stands for the greeting of a player that has started."""
        message = message or {}
        if message.get("action") in _FAST and self._settings.fast:
            return [(Field.METADATA_PATCH, msgpack.packb({**self._last, "agentId": 0}))]
        shows = self._shows_images and message.get("renderImage", True)
        flipped = message.get("renderInstanceSegmentation") or message.get("renderObjectImage")
        ids = self._settings.ids or bool(flipped and not str(message.get("action")).endswith("ThirdPartyCamera"))
        metadata = pack_message(self._metadata(shows, ids), self._objects(), message.get("sequenceId", 0))
        fields = [(Field.METADATA, metadata)]
        if shows:
            for camera in self._cameras:
                fields += self._pictures(
                    camera, ids, (Field.THIRD_PARTY_RGB, Field.THIRD_PARTY_DEPTH, Field.THIRD_PARTY_IDS)
                )
            fields += self._pictures(self._eye, ids, (Field.RGB, Field.DEPTH, Field.IDS))
        return fields

    # --- actions

    @action
    def pass_(self) -> None:
        """Do nothing."""

    @action
    def done(self) -> None:
        """Do nothing; the client decides what it means."""

    @action
    def change_quality(self, quality: str) -> None:
        """Do nothing: there is one quality."""

    @action
    def get_scenes_in_build(self) -> list[str]:
        """Return the names of all scenes."""
        return list(SCENES)

    @action
    def change_resolution(self, x: float, y: float) -> None:
        """Draw pictures of another size from now on."""
        size = (int(x), int(y))
        if min(size) < 1 or max(size) > 4096:
            raise Refused(f"a picture of {size[0]} x {size[1]} pixels cannot be drawn")
        if size != (self._canvas.width, self._canvas.height):
            self._canvas.close()
            self._canvas = Canvas(*size)

    @action
    def reset(self, sceneName: str) -> None:
        """Load a scene and forget all settings."""
        if sceneName not in SCENES:
            raise Refused(f"scene {sceneName} is not in this player", "InvalidArgument")
        self._load(sceneName)

    @action
    def initialize(
        self,
        gridSize: float = 0.25,
        fieldOfView: float = 90.0,
        rotateStepDegrees: float = 90.0,
        snapToGrid: bool = True,
        visibilityDistance: float = 1.5,
        renderDepthImage: bool = False,
        renderInstanceSegmentation: bool = False,
        fastActionEmit: bool = True,
        **_others: Any,
    ) -> dict[str, float]:
        """Set how the agent moves and sees."""
        if not _FOV_DEG[0] < fieldOfView < _FOV_DEG[1]:
            raise Refused("fov must be set to (0, 180) noninclusive.")
        if rotateStepDegrees <= 0:
            raise Refused("rotateStepDegrees must be a non-zero, non-negative float")
        # Players since March 2022, so 5.0.0 and not 4.0.0 (allenai/ai2thor pull request 998).
        if snapToGrid and rotateStepDegrees % 90:
            raise Refused(
                f"Invalid values 'rotateStepDegrees': {rotateStepDegrees} and 'snapToGrid': True. 'snapToGrid': True is not "
                "supported when 'rotateStepDegrees' is different from grid rotation steps of 0, 90, 180, 270 or 360."
            )
        if not 0 < gridSize <= 5:
            raise Refused("grid size must be in the range (0,5]")
        self._settings = Settings(
            gridSize, fieldOfView, rotateStepDegrees, snapToGrid, visibilityDistance, renderDepthImage,
            renderInstanceSegmentation, fastActionEmit,
        )  # fmt: skip
        return {"cameraNearPlane": NEAR_M, "cameraFarPlane": FAR_M}

    @action
    def move_ahead(self, moveMagnitude: float | None = None) -> None:
        """Step forward."""
        self._move(0, moveMagnitude)

    @action
    def move_right(self, moveMagnitude: float | None = None) -> None:
        """Step to the right."""
        self._move(90, moveMagnitude)

    @action
    def move_back(self, moveMagnitude: float | None = None) -> None:
        """Step back."""
        self._move(180, moveMagnitude)

    @action
    def move_left(self, moveMagnitude: float | None = None) -> None:
        """Step to the left."""
        self._move(270, moveMagnitude)

    @action
    def rotate_left(self, degrees: float | None = None) -> None:
        """Turn counter-clockwise, seen from above."""
        self._turn(-1, degrees)

    @action
    def rotate_right(self, degrees: float | None = None) -> None:
        """Turn clockwise, seen from above."""
        self._turn(1, degrees)

    @action
    def look_up(self, degrees: float = 30.0) -> None:
        """Look higher."""
        self._look(-degrees)

    @action
    def look_down(self, degrees: float = 30.0) -> None:
        """Look lower."""
        self._look(degrees)

    @action
    def teleport(
        self,
        position: dict[str, float] | None = None,
        rotation: dict[str, float] | None = None,
        horizon: float | None = None,
        standing: bool | None = None,
        forceAction: bool = False,
    ) -> None:
        """Put the agent somewhere; what is not given stays."""
        del standing
        place = (self._body.x, self._body.z) if position is None else (float(position["x"]), float(position["z"]))
        if not forceAction and not self._world.floor.fits(np.array(place)):
            raise Refused("Teleport failed. No agent can fit at the target position.")
        yaw_deg = self._body.yaw_deg if rotation is None else float(rotation["y"]) % 360
        self._body = Body(*place, yaw_deg, self._body.horizon_deg if horizon is None else float(horizon))

    ACTIONS["TeleportFull"] = teleport

    @action
    def get_reachable_positions(
        self,
        gridSize: float | None = None,
        maxStepCount: int = 0,
        directionsRelativeAgent: bool = False,
    ) -> list[dict[str, float]]:
        """Return the positions that steps along x and z lead to from here."""
        del maxStepCount, directionsRelativeAgent
        places = self._world.floor.reachable((self._body.x, self._body.z), gridSize or self._settings.grid_m)
        return [vector(x, AGENT_Y_M, z) for x, z in places]

    @action
    def get_interactable_poses(
        self,
        objectId: str,
        positions: list[dict[str, float]] | None = None,
        rotations: list[float] | None = None,
        horizons: list[float] | None = None,
        standings: list[bool] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the poses from which an object is visible."""
        thing = self._world.room.thing(objectId)
        if thing is None:
            raise Refused(f"{objectId} is not the objectId on any object in the scene!")
        if standings is not None and True not in standings:
            return []
        index = self._world.room.things.index(thing)
        places = [(place["x"], place["z"]) for place in positions or self.get_reachable_positions()]
        low, high = thing.bounds
        found = []
        for x, z in places:
            if math.hypot(max(low[0] - x, 0, x - high[0]), max(low[2] - z, 0, z - high[2])) > self._settings.reach_m:
                continue
            for yaw_deg in rotations or (0.0, 90.0, 180.0, 270.0):
                for horizon_deg in horizons or (-30.0, 0.0, 30.0, 60.0):
                    if index in self._visible(Body(x, z, yaw_deg, horizon_deg), only=index):
                        pose = {"x": x, "y": AGENT_Y_M, "z": z}
                        found.append({**pose, "rotation": yaw_deg, "standing": True, "horizon": horizon_deg})
        return found

    @action
    def add_third_party_camera(
        self,
        position: dict[str, float],
        rotation: dict[str, float],
        fieldOfView: float = 90.0,
    ) -> None:
        """Add a camera that stands in the room."""
        self._cameras.append(_camera(position, rotation, fieldOfView))

    @action
    def update_third_party_camera(
        self,
        position: dict[str, float],
        rotation: dict[str, float],
        thirdPartyCameraId: int = 0,
        fieldOfView: float = 90.0,
    ) -> None:
        """Move such a camera."""
        if not 0 <= thirdPartyCameraId < len(self._cameras):
            raise Refused(f"thirdPartyCameraId: {thirdPartyCameraId} must be below {len(self._cameras)}.")
        self._cameras[thirdPartyCameraId] = _camera(position, rotation, fieldOfView)

    # --- what actions are made of

    def _call(self, name: str, message: dict[str, Any]) -> Any:
        method = ACTIONS.get(name)
        if method is None:
            raise Refused(f"Invalid action: {name}. This player knows {', '.join(sorted(ACTIONS))}.", "InvalidAction")
        signature = _signature(method)
        arguments = {key: value for key, value in message.items() if key not in _COMMON or key in signature.parameters}
        try:
            signature.bind(self, **arguments)
        except TypeError as error:
            missing = "missing" in str(error)
            raise Refused(f"{name}: {error}", "MissingArguments" if missing else "InvalidArgument") from None
        return method(self, **arguments)

    def _load(self, scene: str) -> None:
        if scene not in self._worlds:
            # One room at a time: its textures are what a player's memory is spent on.
            self._worlds = {scene: World.of(self._make_room(scene))}
        self._world = self._worlds[scene]
        room = self._world.room
        self._body = Body(*room.start, room.start_yaw_deg, 0.0)
        self._settings = Settings()
        self._cameras: list[Eye] = []

    def _move(self, aside_deg: float, magnitude: float | None) -> None:
        body, grid_m = self._body, self._settings.grid_m
        length, heading = (grid_m if magnitude is None else magnitude), math.radians(body.yaw_deg + aside_deg)
        end = (body.x + length * math.sin(heading), body.z + length * math.cos(heading))
        if not self._world.floor.is_free((body.x, body.z), end):
            raise Refused(
                f"something is blocking Agent 0 from moving by ({end[0] - body.x:.4f}, 0.0000, {end[1] - body.z:.4f})."
            )
        if self._settings.snap:
            end = tuple(round(value / grid_m) * grid_m for value in end)
        self._body = body._replace(x=end[0], z=end[1])

    def _turn(self, sign: int, degrees: float | None) -> None:
        degrees = self._settings.turn_deg if degrees is None else degrees
        self._body = self._body._replace(yaw_deg=(self._body.yaw_deg + sign * degrees) % 360)

    def _look(self, degrees: float) -> None:
        horizon_deg = self._body.horizon_deg + degrees
        if not _HORIZONS_DEG[0] <= horizon_deg <= _HORIZONS_DEG[1]:
            raise Refused("can't look beyond the min/max horizon")
        self._body = self._body._replace(horizon_deg=horizon_deg)

    # --- what goes back

    def _eye_of(self, body: Body) -> Eye:
        position = (body.x, AGENT_Y_M + EYE_ABOVE_AGENT_M, body.z)
        return Eye(position, body.yaw_deg, body.horizon_deg, 0.0, self._settings.fov_deg)

    @property
    def _eye(self) -> Eye:
        return self._eye_of(self._body)

    def _visible(self, body: Body, only: int | None = None) -> set[int]:
        aspect = self._canvas.width / self._canvas.height
        return self._world.sight.visible(self._eye_of(body), aspect, self._settings.reach_m, only)

    def _objects(self) -> bytes:
        return self._world.objects.pack((self._body.x, AGENT_Y_M, self._body.z), self._visible(self._body))

    def _pictures(self, eye: Eye, ids: bool, kinds: tuple[Field, Field, Field]) -> list[tuple[Field, bytes]]:
        drawn: Pictures = self._world.painter.draw(self._canvas, eye, ids=ids)
        fields = [(kinds[0], drawn.rgb.tobytes())]
        if self._settings.depth:
            fields.append((kinds[1], drawn.depth_m.tobytes()))
        if drawn.ids is not None:
            fields.append((kinds[2], drawn.ids.tobytes()))
        return fields

    def _metadata(self, shows: bool, ids: bool) -> dict[str, Any]:
        x, z, yaw_deg, horizon_deg = self._body
        cameras = [
            {
                "thirdPartyCameraId": number,
                "position": vector(*eye.position),
                "rotation": vector(eye.pitch_deg, eye.yaw_deg, eye.roll_deg),
                "fieldOfView": eye.fovy_deg,
            }
            for number, eye in enumerate(self._cameras)
        ]
        zero = vector(0, 0, 0)
        return {
            **self._last,
            "agentId": 0,
            "sceneName": self._world.room.scene,
            "screenWidth": self._canvas.width,
            "screenHeight": self._canvas.height,
            "fov": self._settings.fov_deg,
            "depthFormat": "Meters",
            "agent": {
                "name": "agent",
                "position": vector(x, AGENT_Y_M, z),
                "rotation": vector(0, yaw_deg, 0),
                "cameraHorizon": horizon_deg,
                "isStanding": True,
                "inHighFrictionArea": False,
            },
            "cameraPosition": vector(*self._eye.position),
            "heldObjectPose": {"position": zero, "rotation": zero, "localPosition": zero, "localRotation": zero},
            "sceneBounds": scene_bounds(self._world.room),
            "currentTime": time.monotonic() - self._started,
            "thirdPartyCameras": cameras if shows else [],
            "colors": self._world.painter.colors if shows and ids else None,
        }


#: Looking a function's arguments up takes longer than a step.
_signature = cache(inspect.signature)


def _camera(position: dict[str, float], rotation: dict[str, float], fov_deg: float) -> Eye:
    if not _FOV_DEG[0] < fov_deg < _FOV_DEG[1]:
        raise Refused(f"fieldOfView: {fov_deg} must be in 0 < fieldOfView < 180.")
    place = (float(position["x"]), float(position["y"]), float(position["z"]))
    return Eye(place, float(rotation["y"]), float(rotation["x"]), float(rotation["z"]), float(fov_deg))
