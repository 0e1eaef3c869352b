"""What the expert may know about a LIBERO scene, in words of the task: objects, regions, joints, contacts, goals.

Everything is read anew from the simulator's state; only the shapes of geoms, which never change, are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import mujoco
import numpy as np

from flowbench.agents.scripted.libero.collision_points import surface_points

_FINGER_GEOMS = (
    ("gripper0_finger1_collision", "gripper0_finger1_pad_collision"),
    ("gripper0_finger2_collision", "gripper0_finger2_pad_collision"),
)
_ROBOT_PREFIXES = ("robot0", "gripper0", "mount")


class PrivilegedSimulator(Protocol):
    """The part of a LIBERO simulator that the expert needs."""

    control_env: Any
    model: mujoco.MjModel
    data: mujoco.MjData

    def update_poses(self) -> None:
        """Bring poses up to the state."""
        ...


class HandPose(NamedTuple):
    """Where the grip site is.

    Attributes:
        position: (3,) world metres.
        rotation: (3, 3) hand to world.
    """

    position: np.ndarray
    rotation: np.ndarray


class Region(NamedTuple):
    """A goal region, a box-shaped site.

    Attributes:
        name: Name of the site.
        parent: Object or fixture that it belongs to; empty for a zone of the table.
        position: (3,) world metres.
        rotation: (3, 3) site to world.
        half_size: (3,) metres.
        joint: Name of the drawer joint that moves it; empty if it does not move.
    """

    name: str
    parent: str
    position: np.ndarray
    rotation: np.ndarray
    half_size: np.ndarray
    joint: str


class Joint(NamedTuple):
    """A hinge or slide of a fixture.

    Attributes:
        id: Its index in the model.
        body: The body it moves.
        value: Its position, radians or metres.
        axis: (3,) world.
        limits: Lowest and highest position.
    """

    id: int
    body: int
    value: float
    axis: np.ndarray
    limits: tuple[float, float]


class Scene:
    """One task's scene.

    Attributes:
        names: Objects, then fixtures, in the order of the BDDL file.
        objects: The movable ones.
        support_z: Height of the table or floor, world metres; measured when an episode starts.
    """

    def __init__(self, simulator: PrivilegedSimulator) -> None:
        self.simulator = simulator
        self.model = simulator.model
        self.domain = simulator.control_env.env
        bodies = self.domain.obj_body_id
        self.objects = tuple(name for name in self.domain.objects_dict if name in bodies)
        self.names = (*self.objects, *(name for name in self.domain.fixtures_dict if name in bodies))
        self._body = {name: int(bodies[name]) for name in self.names}
        colliding = np.flatnonzero((self.model.geom_contype != 0) | (self.model.geom_conaffinity != 0))
        self._geoms: dict[str, list[int]] = {name: [] for name in self.names}
        self._owner: dict[int, str] = {}
        name_of_body = {body: name for name, body in self._body.items()}
        for geom in map(int, colliding):
            owner = self._named_ancestor(int(self.model.geom_bodyid[geom]), name_of_body)
            if owner is not None:
                self._geoms[owner].append(geom)
                self._owner[geom] = owner
        self._finger_of = {
            self.model.geom(name).id: finger for finger, names in enumerate(_FINGER_GEOMS) for name in names
        }
        self._robot_geoms = {
            geom for geom in range(self.model.ngeom) if self.model.geom(geom).name.startswith(_ROBOT_PREFIXES)
        }
        self._grip_site = self.model.site("gripper0_grip_site").id
        self._finger_qpos = [self.model.joint(f"gripper0_finger_joint{finger}").qposadr[0] for finger in (1, 2)]
        self._local_points: dict[tuple[int, float], np.ndarray] = {}
        self.support_z = 0.0

    @property
    def data(self) -> mujoco.MjData:
        """The simulator's state."""
        return self.simulator.data

    def start_episode(self) -> None:
        """Measure what holds for one episode."""
        lowest = [self.points(name, 0.01)[:, 2].min() for name in self.objects if self._geoms[name]]
        self.support_z = float(min(lowest)) if lowest else 0.0

    # --- goals

    def goals(self) -> list[tuple[str, ...]]:
        """Return the goal's predicates, e.g. `("on", "akita_black_bowl_1", "plate_1")`, names in lower case."""
        return [(goal[0].lower(), *goal[1:]) for goal in self.domain.parsed_problem["goal_state"]]

    def holds(self, goal: tuple[str, ...]) -> bool:
        """Whether a predicate is true, by upstream's own rule."""
        return bool(self.domain._eval_predicate(list(goal)))

    # --- objects

    def hand(self) -> HandPose:
        """Return the pose of the grip site."""
        rotation = self.data.site_xmat[self._grip_site].reshape(3, 3)
        return HandPose(self.data.site_xpos[self._grip_site].copy(), rotation.copy())

    def finger_positions(self) -> np.ndarray:
        """Return the (2,) finger joint positions, metres."""
        return self.data.qpos[self._finger_qpos]

    def position(self, name: str) -> np.ndarray:
        """Return an object's root, (3,) world metres; it need not be the middle of the shape."""
        return self.data.xpos[self._body[name]].copy()

    def rotation(self, name: str) -> np.ndarray:
        """Return an object's (3, 3) orientation, object to world."""
        return self.data.xmat[self._body[name]].reshape(3, 3).copy()

    def center_of_mass(self, name: str) -> np.ndarray:
        """Return an object's centre of mass, (3,) world metres."""
        return self.data.subtree_com[self._body[name]].copy()

    def tilt(self, name: str) -> float:
        """Return the angle between an object's own vertical and the world's, radians."""
        return float(np.arccos(np.clip(self.rotation(name)[2, 2], -1, 1)))

    def upstream_object(self, name: str) -> Any:
        """Return LIBERO's own object, which knows what counts as open."""
        return self.domain.get_object(name)

    # --- shapes

    def geoms(self, name: str, body: int | None = None) -> list[int]:
        """Return the collision geoms of an object, or of one of its bodies."""
        return [geom for geom in self._geoms[name] if body is None or self.model.geom_bodyid[geom] == body]

    def geom_points(self, geoms: Iterable[int], spacing_m: float = 0.004) -> np.ndarray:
        """Return (N, 3) world points on the surfaces of geoms."""
        parts = []
        for geom in geoms:
            key = (geom, spacing_m)
            if key not in self._local_points:
                self._local_points[key] = surface_points(self.model, geom, spacing_m)
            rotation = self.data.geom_xmat[geom].reshape(3, 3)
            parts.append(self._local_points[key] @ rotation.T + self.data.geom_xpos[geom])
        return np.concatenate(parts) if parts else np.zeros((0, 3))

    def points(self, name: str, spacing_m: float = 0.004) -> np.ndarray:
        """Return (N, 3) world points on an object's collision surface."""
        return self.geom_points(self._geoms[name], spacing_m)

    def obstacles(self, without: Iterable[str] = (), spacing_m: float = 0.006) -> np.ndarray:
        """Return (N, 3) world points on everything but the named objects, the table and the robot."""
        excluded = tuple(without)
        return self.geom_points(
            (geom for name in self.names if name not in excluded for geom in self._geoms[name]), spacing_m
        )

    def middle(self, name: str) -> np.ndarray:
        """Return the centre of an object's axis-aligned box, (3,) world metres."""
        points = self.points(name, 0.006)
        return (points.min(axis=0) + points.max(axis=0)) / 2

    # --- contacts

    def touching(self, name: str) -> set[str]:
        """Return what an object touches: names, and `world` for the table; the robot is left out."""
        mine, others = set(self._geoms[name]), set()
        for one, other in self._contact_pairs():
            if one in mine and other not in mine and other not in self._robot_geoms:
                others.add(self._owner.get(other, "world"))
        return others

    def is_gripped(self, name: str) -> bool:
        """Whether both fingers touch the object."""
        mine = set(self._geoms[name])
        fingers = {
            self._finger_of[other] for one, other in self._contact_pairs() if one in mine and other in self._finger_of
        }
        return len(fingers) == 2

    def _contact_pairs(self) -> list[tuple[int, int]]:
        pairs = self.data.contact.geom[: self.data.ncon].tolist()
        return [(a, b) for a, b in pairs] + [(b, a) for a, b in pairs]

    # --- regions and joints

    def is_region(self, name: str) -> bool:
        """Whether a goal's argument is a region rather than an object."""
        return name in self.domain.object_sites_dict

    def region(self, name: str) -> Region:
        """Return a goal region where it is now."""
        upstream = self.domain.object_sites_dict[name]
        site = self.model.site(name).id
        joints = getattr(upstream, "joints", None) or ()
        return Region(
            name,
            getattr(upstream, "parent_name", None) or "",
            self.data.site_xpos[site].copy(),
            self.data.site_xmat[site].reshape(3, 3).copy(),
            np.array(upstream.size, dtype=float),
            joints[0] if joints else "",
        )

    def joint(self, name: str) -> Joint:
        """Return a fixture's joint as it stands now."""
        index = self.model.joint(name).id
        return Joint(
            index,
            int(self.model.jnt_bodyid[index]),
            float(self.data.qpos[self.model.jnt_qposadr[index]]),
            self.data.xaxis[index].copy(),
            (float(self.model.jnt_range[index, 0]), float(self.model.jnt_range[index, 1])),
        )

    def body_position(self, body: int) -> np.ndarray:
        """Return a body's origin, (3,) world metres."""
        return self.data.xpos[body].copy()

    def body_rotation(self, body: int) -> np.ndarray:
        """Return a body's (3, 3) orientation, body to world."""
        return self.data.xmat[body].reshape(3, 3).copy()

    def robot_base(self) -> np.ndarray:
        """Return where the arm stands, (3,) world metres."""
        return self.data.xpos[self.model.body("robot0_base").id].copy()

    def _named_ancestor(self, body: int, names: dict[int, str]) -> str | None:
        while body > 0:
            if body in names:
                return names[body]
            body = int(self.model.body_parentid[body])
        return None
