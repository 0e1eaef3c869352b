"""CALVIN as its expert sees it: the hand, the blocks, and the parts of the table that can be moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

COLOURS = ("red", "blue", "pink")
#: Height of the table's top and of the cabinet's floor, metres; a block's middle is 2 cm above.
TABLE_TOP_M = 0.44
#: Blocks beyond this y stand in the cabinet.
CABINET_Y_M = 0.02
#: Blocks below this height lie in the drawer.
DRAWER_BELOW_M = 0.42


#: Fingers that are closer together hold nothing, metres.
_THINNEST_M = 0.015


class PrivilegedSimulator(Protocol):
    """The part of a CALVIN simulator that the expert needs."""

    #: Upstream's `PlayTableSimEnv`.
    core: Any
    #: Upstream's `get_info()` of now.
    info: Mapping[str, Any]


class Hand(NamedTuple):
    """The tool centre as it is measured.

    Attributes:
        position: (3,) world metres.
        rotation: Orientation in the world.
    """

    position: np.ndarray
    rotation: Rotation


@dataclass(frozen=True)
class Block:
    """A block as it lies now.

    Attributes:
        colour: Its name.
        uid: PyBullet's number of it.
        position: (3,) its middle, world metres.
        rotation: (3, 3) its axes in the world.
        size: (3,) edge lengths, metres.
        touching: Numbers of the other bodies that it touches.
    """

    colour: str
    uid: int
    position: np.ndarray
    rotation: np.ndarray
    size: np.ndarray
    touching: frozenset[int]

    @property
    def in_cabinet(self) -> bool:
        """Whether it stands behind the sliding door's plane."""
        return bool(self.position[1] > CABINET_Y_M and self.position[2] > DRAWER_BELOW_M)

    @property
    def in_drawer(self) -> bool:
        """Whether it lies below the table's top."""
        return bool(self.position[2] < DRAWER_BELOW_M)

    @property
    def on_table(self) -> bool:
        """Whether it stands on the table, or on another block there."""
        return not self.in_cabinet and not self.in_drawer

    @property
    def radius_m(self) -> float:
        """Half the diagonal of its footprint as it stands."""
        return 0.5 * float(np.hypot(*self.footprint))

    @property
    def footprint(self) -> tuple[float, float]:
        """Its two horizontal edge lengths."""
        upright = int(np.argmax(np.abs(self.rotation[2])))
        first, second = (axis for axis in range(3) if axis != upright)
        return float(self.size[first]), float(self.size[second])


class Scene:
    """Reads one simulator."""

    def __init__(self, simulator: PrivilegedSimulator) -> None:
        self.simulator = simulator
        core = simulator.core
        self._p, self._client = core.p, {"physicsClientId": core.cid}

    @property
    def core(self) -> Any:
        """Upstream's environment; its lists are new after every reset."""
        return self.simulator.core

    @property
    def robot_uid(self) -> int:
        """PyBullet's number of the robot."""
        return self.core.robot.robot_uid

    def hand(self) -> Hand:
        """Return the tool centre as of the last physics step.

        Asking PyBullet to bring it up to date (`computeForwardKinematics`) would change what the arm does next, and a
        demonstration has to replay without an expert that looks.
        """
        robot = self.core.robot
        state = self._p.getLinkState(robot.robot_uid, robot.tcp_link_id, **self._client)
        return Hand(np.array(state[0]), Rotation.from_quat(state[1]))

    def target(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the position and the Euler angles that relative actions add to."""
        return np.array(self.core.robot.target_pos), np.array(self.core.robot.target_orn)

    @property
    def gripper_width_m(self) -> float:
        """Distance between the fingers."""
        return float(self.simulator.info["robot_info"]["gripper_opening_width"])

    def blocks(self) -> dict[str, Block]:
        """Return every block by colour."""
        found = {}
        for block in self.core.scene.movable_objects:
            state = self.simulator.info["scene_info"]["movable_objects"][block.name]
            colour = block.name.removeprefix("block_")
            size = self._p.getCollisionShapeData(block.uid, -1, **self._client)[0][3]
            touching = frozenset(contact[2] for contact in state["contacts"])
            rotation = Rotation.from_quat(state["current_orn"]).as_matrix()
            found[colour] = Block(colour, block.uid, np.array(state["current_pos"]), rotation, np.array(size), touching)
        return found

    def block(self, colour: str) -> Block:
        """Return one block."""
        return self.blocks()[colour]

    def held(self) -> Block | None:
        """Return the block between the fingers, if they are closed around one."""
        near = [
            block
            for block in self.blocks().values()
            if self.robot_uid in block.touching and np.linalg.norm(block.position - self.hand().position) < 0.05
        ]
        closed = self.core.robot.gripper_action < 0 and self.gripper_width_m > _THINNEST_M
        return min(near, key=self._from_hand) if near and closed else None

    def _from_hand(self, block: Block) -> float:
        return float(np.linalg.norm(block.position - self.hand().position))

    def touches(self, name: str) -> bool:
        """Whether the robot touches a link of the table."""
        table = self.core.scene.fixed_objects[0]
        part = (table.uid, table.info_dict["links"][name])
        return any((contact[2], contact[4]) == part for contact in self.simulator.info["robot_info"]["contacts"])

    def link(self, name: str) -> np.ndarray:
        """Return the (3,) origin of a link of the table, e.g. `drawer_link`, world metres."""
        table = self.core.scene.fixed_objects[0]
        link = table.info_dict["links"][name]
        return np.array(self._p.getLinkState(table.uid, link, **self._client)[4])

    def link_bounds(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the corners of the box around a link of the table, world metres."""
        table = self.core.scene.fixed_objects[0]
        low, high = self._p.getAABB(table.uid, table.info_dict["links"][name], **self._client)
        return np.array(low), np.array(high)

    def door(self, name: str) -> float:
        """Return the joint position of `base__slide` or `base__drawer`, metres."""
        return next(door.get_state() for door in self.core.scene.doors if door.name == name)
