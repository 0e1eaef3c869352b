"""One iTHOR task as a FlowBench simulator: AI2-THOR's client, calibrated, and the same on every player."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from flowbench.camera import CameraParams, View
from flowbench.envs.ithor.client import ThorClient
from flowbench.envs.ithor.geometry import camera_to_world, to_world, unity_pose
from flowbench.envs.ithor.players import find_player
from flowbench.envs.ithor.suites import ACTIONS, goal_of
from flowbench.errors import BadValue, FlowBenchError
from flowbench.simulator import Frame, RenderSettings, SimulatorState, StepOutcome
from flowbench.task import DONE, ProtocolRules, Scenario, Task

#: The controller's settings in AVDC's code, and the client's defaults for what it leaves open.
GRID_M = 0.25
TURN_DEG = 45.0
VISIBILITY_M = 1.5
FOVY_DEG = 90.0
_SETTINGS = {
    "gridSize": GRID_M,
    "fieldOfView": FOVY_DEG,
    "visibilityDistance": VISIBILITY_M,
    "snapToGrid": True,
    # AVDC gives 45 here, which players since March 2022 refuse together with snapToGrid (allenai/ai2thor pull request 998).
    # The turn goes with each action instead, which is what AVDC's ai2thor 4.0.0 does.
    "rotateStepDegrees": 90,
    "renderDepthImage": True,
    "renderInstanceSegmentation": False,
}
#: Further than this share of the far plane is nothing.
_NOTHING = 1 - 1e-4
_DONE = ACTIONS.index(DONE)


class AgentPose(NamedTuple):
    """Where the agent stands, in AI2-THOR's terms: x and z in metres, direction and horizon in degrees."""

    x: float
    z: float
    yaw_deg: float
    horizon_deg: float


class IthorSimulator:
    """One target in one room.

    Non-obvious behaviours:
        - Pictures come with the answer to an action if the answer before was looked at, and are asked for separately
          otherwise, so that an agent that does not look costs no picture.
        - A displaced camera is one of AI2-THOR's third-party cameras, which stays in the room until the next reset.
        - Depth is along the optical axis; players that send it as a share of the clipping range are corrected by
          far / (far - near), because their shader divides by far and the client multiplies by far - near.
        - A player that has ended is started again by the next `reset`; everything else then raises `SimulatorLost`.
        - Starts are AVDC's: the scene's own start, then a reachable position drawn by `RandomState(seed)`; direction and
          horizon stay the scene's.
    """

    backend: ClassVar[str] = "auto"
    views = ("agent",)
    passes = (frozenset({"rgb", "depth"}), frozenset({"segmentation"}))
    settle_action = np.array([float(_DONE)])
    # What a privileged agent needs to know besides the pose.
    grid_m, turn_deg = GRID_M, TURN_DEG

    def __init__(self, task: Task, rules: ProtocolRules, render: RenderSettings) -> None:
        """Start a player and go to scenario 0.

        Raises:
            MissingExtra: If there is no player.
            SimulatorLost: If it does not start.
        """
        goal = goal_of(task.name)
        assert goal is not None, task.name
        self._scene, self._target = goal
        self._by_name = rules.initial_states == "avdc"
        self._render_settings = render
        self._command = find_player(self.backend)
        self._client: ThorClient | None = None
        self._start_player()
        self.reset(Scenario(0))

    # --- running

    def reset(self, scenario: Scenario) -> None:
        """See `Simulator.reset`.

        Raises:
            BadValue: If the room has no such object.
        """
        if self._client is None or self._client.lost:
            self._start_player()
        self._client.reset(self._scene)
        self._third_party, self._looked, self._looked_at_ids = False, False, False
        places = self._client.do("GetReachablePositions").metadata["actionReturn"]
        # AVDC's own draw: `RandomState(seed).choice(positions)`.
        chosen = np.random.RandomState(scenario.seed).choice(len(places))
        event = self._client.do("Teleport", position=places[int(chosen)], renderImage=False)
        if not event.metadata["lastActionSuccess"]:
            raise FlowBenchError(
                f"The player calls {places[int(chosen)]} of {self._scene} reachable and does not let the agent be put there: "
                f"{event.metadata['errorMessage']}"
            )
        self._see(event)
        self._index = self._find_target(event.metadata["objects"])

    def step(self, action: np.ndarray) -> StepOutcome:
        """See `Simulator.step`; the reward is 1 for `Done` where the target is visible, else 0."""
        chosen = int(action[0])
        name = ACTIONS[chosen]
        arguments = {"degrees": TURN_DEG} if name.startswith("Rotate") else {}
        looked, self._looked = self._looked, False
        self._see(
            self._client.do(
                name, renderImage=looked, renderInstanceSegmentation=looked and self._looked_at_ids, **arguments
            )
        )
        self._had_effect = bool(self._event.metadata["lastActionSuccess"])
        over, visible = chosen == _DONE, self.target_visible
        return StepOutcome(float(over and visible), visible, over)

    def proprio(self) -> np.ndarray:
        """See `Simulator.proprio`; the layout stands in `flowbench.envs.ithor.suites`."""
        return np.array([self.pose.horizon_deg, self._had_effect], dtype=np.float32)

    def get_state(self) -> SimulatorState:
        """See `Simulator.get_state`: the agent's pose, whether its last action had an effect, and the target's place in the list.

        Nothing else in the room ever changes.
        """
        agent = self._event.metadata["agent"]
        position, target = agent["position"], -1 if self._index is None else self._index
        values = [position["x"], position["y"], position["z"], agent["rotation"]["y"], agent["cameraHorizon"]]
        return SimulatorState(np.array([*values, self._had_effect, target], dtype=np.float64))

    def set_state(self, state: SimulatorState) -> None:
        """See `Simulator.set_state`."""
        x, y, z, yaw_deg, horizon_deg, had_effect, target = state.physics.tolist()
        looked, self._looked = self._looked, False
        event = self._client.do(
            "TeleportFull",
            position={"x": x, "y": y, "z": z},
            rotation={"x": 0.0, "y": yaw_deg, "z": 0.0},
            horizon=horizon_deg,
            standing=True,
            forceAction=True,
            renderImage=looked,
            renderInstanceSegmentation=looked and self._looked_at_ids,
        )
        if not event.metadata["lastActionSuccess"]:
            raise FlowBenchError(f"The agent cannot be put back to {self._scene}: {event.metadata['errorMessage']}")
        self._see(event)
        self._had_effect, self._index = bool(had_effect), None if target < 0 else int(target)

    def close(self) -> None:
        """Stop the player; may be called twice."""
        if self._client is not None:
            self._client.close()

    # --- looking

    def view(self, name: str) -> View:
        """See `Simulator.view`."""
        if self._view is None:
            pose, position = self.pose, self._event.metadata["cameraPosition"]
            self._view = View(camera_to_world(position, pose.yaw_deg, pose.horizon_deg), FOVY_DEG, mounted=True)
        return self._view

    @property
    def workspace_center_world(self) -> np.ndarray:
        """The middle of the room, metres."""
        return to_world(self._event.metadata["sceneBounds"]["center"])

    def render(self, name: str, camera: CameraParams, modalities: frozenset[str]) -> Frame:
        """See `Simulator.render`."""
        ids = "segmentation" in modalities
        own = self.view(name)
        if np.array_equal(camera.camera_to_world, own.camera_to_world) and abs(camera.fovy_deg - FOVY_DEG) < 1e-9:
            frame = self._own_pictures(ids)
        else:
            frame = self._pictures_from(camera, ids)
        wanted = {"rgb": frame.rgb, "depth_m": frame.depth_m, "segmentation": frame.segmentation}
        names = {"rgb": "rgb", "depth_m": "depth", "segmentation": "segmentation"}
        return Frame(
            **{key: value if names[key] in modalities else None for key, value in wanted.items()},
            # Nothing in the room moves but the camera.
            bodies=np.zeros((camera.height, camera.width), np.int32) if "bodies" in modalities else None,
        )

    def body_poses(self) -> np.ndarray:
        """See `BodySource.body_poses`: there is the room, and nothing in it moves."""
        return np.eye(4)[None]

    def enclosing_object(self, point_world: np.ndarray) -> str | None:
        """See `Simulator.enclosing_object`; by boxes around the objects, except where the agent's own camera is."""
        if np.allclose(point_world, to_world(self._event.metadata["cameraPosition"]), atol=1e-3):
            return None
        for thing in self._event.metadata["objects"]:
            box = thing["axisAlignedBoundingBox"]
            half = to_world(box["size"]) / 2
            if half.any() and (np.abs(point_world - to_world(box["center"])) < half).all():
                return thing["objectType"]
        bounds = self._event.metadata["sceneBounds"]
        outside = np.abs(point_world - to_world(bounds["center"])) > to_world(bounds["size"]) / 2
        return "Wall" if outside.any() else None

    def segmentation_names(self) -> Mapping[int, str]:
        """See `Simulator.segmentation_names`: object types and parts of the building, in alphabetical order."""
        if not self._names:
            event = self._client.do("Pass", renderInstanceSegmentation=True)
            self._see(event)
            self._learn_colors(event.metadata["colors"])
        return self._names

    # --- for privileged agents

    @property
    def pose(self) -> AgentPose:
        """Where the agent stands."""
        agent = self._event.metadata["agent"]
        position = agent["position"]
        return AgentPose(position["x"], position["z"], agent["rotation"]["y"] % 360, agent["cameraHorizon"])

    @property
    def target_visible(self) -> bool:
        """Whether the success predicate holds."""
        objects = self._event.metadata["objects"]
        if self._index is not None:
            return bool(objects[self._index]["visible"])
        return any(thing["visible"] for thing in objects if thing["objectType"] == self._target)

    def reachable_positions(self) -> list[tuple[float, float]]:
        """Return x and z of the places that steps along the axes lead to."""
        places = self._client.do("GetReachablePositions").metadata["actionReturn"]
        return [(place["x"], place["z"]) for place in places]

    def poses_seeing_target(self) -> list[AgentPose]:
        """Return the reachable poses, looking as far down as now, from which the success predicate holds."""
        objects = self._event.metadata["objects"]
        horizon_deg = self.pose.horizon_deg
        if self._index is not None:
            wanted = [objects[self._index]["objectId"]]
        else:
            wanted = [thing["objectId"] for thing in objects if thing["objectType"] == self._target]
        poses = []
        for identifier in wanted:
            found = self._client.do(
                "GetInteractablePoses",
                objectId=identifier,
                rotations=[TURN_DEG * count for count in range(round(360 / TURN_DEG))],
                horizons=[horizon_deg],
                standings=[True],
            ).metadata["actionReturn"]
            poses += [AgentPose(pose["x"], pose["z"], pose["rotation"] % 360, pose["horizon"]) for pose in found or ()]
        return poses

    # --- how

    def _start_player(self) -> None:
        if self._client is not None:
            self._client.close()
        width, height = self._render_settings.width, self._render_settings.height
        self._client = ThorClient(self._command, width, height, self._scene, **_SETTINGS)
        self._names: dict[int, str] = {}
        self._had_effect = True
        self._index: int | None = None

    def _find_target(self, objects: list[dict[str, Any]]) -> int | None:
        """Return the target's place in the list under AVDC's rule; None where any object of the type counts."""
        self._had_effect = True
        if self._by_name:
            for index, thing in enumerate(objects):
                # A substring: "ToiletPaper" finds the hanger if it comes first.
                if self._target in thing["name"]:
                    return index
        elif any(thing["objectType"] == self._target for thing in objects):
            return None
        types = sorted({thing["objectType"] for thing in objects})
        raise BadValue(f"{self._scene} has no {self._target}. It has: {', '.join(types)}.")

    def _see(self, event: Any) -> None:
        self._event = event
        self._own: Frame | None = None
        self._view: View | None = None

    def _own_pictures(self, ids: bool) -> Frame:
        """Return what the agent sees, from the last answer if it shows it."""
        self._looked = True
        self._looked_at_ids |= ids
        if self._own is None or (ids and self._own.segmentation is None):
            if self._event.frame is None or (ids and self._event.instance_segmentation_frame is None):
                self._see(self._client.do("Pass", renderInstanceSegmentation=ids))
            event = self._event
            self._own = self._frame(event.frame, event.depth_frame, event.instance_segmentation_frame, event.metadata)
        return self._own

    def _pictures_from(self, camera: CameraParams, ids: bool) -> Frame:
        """Return what a third-party camera at this place sees."""
        place = unity_pose(camera.camera_to_world)
        # In Unity these two actions never bring instance ids, so the pictures come with another one.
        name, which = (
            ("UpdateThirdPartyCamera", {"thirdPartyCameraId": 0}) if self._third_party else ("AddThirdPartyCamera", {})
        )
        arguments = {"position": place.position, "rotation": place.rotation, "fieldOfView": camera.fovy_deg}
        self._client.do(name, renderImage=False, **which, **arguments)
        self._third_party = True
        event = self._client.do("Pass", renderInstanceSegmentation=ids)
        self._see(event)
        colors = event.third_party_instance_segmentation_frames[0] if ids else None
        return self._frame(
            event.third_party_camera_frames[0], event.third_party_depth_frames[0], colors, event.metadata
        )

    def _frame(
        self, rgb: np.ndarray, depth: np.ndarray, colors: np.ndarray | None, metadata: Mapping[str, Any]
    ) -> Frame:
        # The client's arrays are read-only and upside down in memory, which torch does not take.
        rgb = np.array(rgb[:, :, :3], dtype=np.uint8, order="C")
        near_m, far_m = self._client.clipping_planes_m
        depth_m = metric_depth(depth, metadata.get("depthFormat"), near_m, far_m)
        return Frame(rgb, depth_m, None if colors is None else self._decode(colors, metadata["colors"]))

    def _decode(self, colors: np.ndarray, known: list[dict[str, Any]]) -> np.ndarray:
        """Return int32 (H, W) ids of a (H, W, 3) picture of id colours."""
        if not self._names:
            self._learn_colors(known)
        codes = colors[..., 0].astype(np.int32) << 16 | colors[..., 1].astype(np.int32) << 8 | colors[..., 2]
        at = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[at] == codes, self._ids[at], 0).astype(np.int32)

    def _learn_colors(self, known: list[dict[str, Any]]) -> None:
        # An instance is named `Type|...`; everything else by its type or by the part of the building.
        types = [entry["name"].split("|")[0] for entry in known]
        self._names = dict(enumerate(sorted(set(types)), start=1))
        id_of_type = {name: index for index, name in self._names.items()}
        codes = np.array([red << 16 | green << 8 | blue for red, green, blue in (entry["color"] for entry in known)])
        order = np.argsort(codes)
        self._codes, self._ids = codes[order], np.array([id_of_type[name] for name in types])[order]


class UnitySimulator(IthorSimulator):
    """On AI2-THOR's own player."""

    backend = "unity"


class StandinSimulator(IthorSimulator):
    """On FlowBench's stand-in, in procedural rooms."""

    backend = "standin"


class RecordedSimulator(IthorSimulator):
    """On FlowBench's stand-in, in rooms blocked out from a record of the real ones."""

    backend = "recorded"


def metric_depth(depth: np.ndarray, source_format: str | None, near_m: float, far_m: float) -> np.ndarray:
    """Return float32 (H, W) metres along the optical axis, 0 where nothing was hit.

    Args:
        depth: The client's `depth_frame`.
        source_format: How the player sent it: `Meters`, `Normalized`, or None for players that do not say and mean the latter.
        near_m: The camera's near plane.
        far_m: Its far plane.
    """
    depth_m = np.array(depth, dtype=np.float32, order="C")
    if source_format in (None, "Normalized"):
        depth_m *= far_m / (far_m - near_m)
    depth_m[depth_m >= _NOTHING * far_m] = 0
    return depth_m
