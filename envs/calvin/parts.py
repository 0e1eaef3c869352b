"""What the pixels of a CALVIN image belong to: PyBullet's body and link numbers as object ids, bodies and their poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Object ids and their names; blocks are named as upstream names them.
NAMES: Mapping[int, str] = {
    1: "robot",
    2: "gripper",
    3: "block_red",
    4: "block_blue",
    5: "block_pink",
    6: "table",
    7: "slider",
    8: "drawer",
    9: "button",
    10: "switch",
    11: "led",
    12: "lightbulb",
    13: "cabinet_floor",
}
_ID_OF = {name: index for index, name in NAMES.items()}
#: Links of the table, as its description names them -> object.
_TABLE_LINKS = {
    "base_link": "table",
    "slide_link": "slider",
    "drawer_link": "drawer",
    "button_link": "button",
    "switch_link": "switch",
    "led_link": "led",
    "light_link": "lightbulb",
    "plank_link": "cabinet_floor",
}
#: Links of the robot from the hand on.
_HAND_LINK = "panda_hand"


@dataclass(frozen=True)
class Parts:
    """The links of one world, numbered.

    Attributes:
        links: (uid, link) of every link that can be seen, -1 for a base; their positions are the bodies' indices minus 1.
        object_ids: (1 + len(links),) object id of each body; the first is the background's.
    """

    links: tuple[tuple[int, int], ...]
    object_ids: np.ndarray

    @classmethod
    def of(cls, core: Any) -> Parts:
        """Number the links of an upstream environment. Bodies are loaded in one order, so the numbers never change."""
        table = core.scene.fixed_objects[0]
        named = {link: _TABLE_LINKS.get(name, "table") for name, link in table.info_dict["links"].items()}
        found: dict[tuple[int, int], str] = {}
        joints = core.p.getNumJoints(core.robot.robot_uid, physicsClientId=core.cid)
        part = "robot"
        for link in range(-1, joints):
            if link >= 0 and link_name(core, core.robot.robot_uid, link) == _HAND_LINK:
                part = "gripper"
            found[core.robot.robot_uid, link] = part
        # The cylinder that the robot stands on comes right after it.
        found[core.robot.robot_uid + 1, -1] = "robot"
        for block in core.scene.movable_objects:
            found[block.uid, -1] = block.name
        for link, name in sorted(named.items()):
            found[table.uid, link] = name
        ids = np.array([0, *(_ID_OF[name] for name in found.values())], dtype=np.int32)
        return cls(tuple(found), ids)

    def bodies(self, values: np.ndarray) -> np.ndarray:
        """Turn PyBullet's (H, W) segmentation with link numbers into int32 body indices; the floor is the static world."""
        present, inverse = np.unique(values, return_inverse=True)
        index = {link: position + 1 for position, link in enumerate(self.links)}
        # -1 where nothing was hit.
        bodies = [
            0 if value < 0 else index.get((int(value) & 0xFFFFFF, (int(value) >> 24) - 1), 0) for value in present
        ]
        return np.array(bodies, dtype=np.int32)[inverse].reshape(values.shape)

    def poses(self, core: Any) -> np.ndarray:
        """Return the float64 (1 + len(links), 4, 4) poses of all bodies in the world, metres; the first is the identity."""
        poses = np.tile(np.eye(4), (1 + len(self.links), 1, 1))
        for index, (uid, link) in enumerate(self.links, start=1):
            if link < 0:
                position, quaternion = core.p.getBasePositionAndOrientation(uid, physicsClientId=core.cid)
            else:
                state = core.p.getLinkState(uid, link, physicsClientId=core.cid)
                position, quaternion = state[4], state[5]
            poses[index, :3, :3] = np.reshape(core.p.getMatrixFromQuaternion(quaternion), (3, 3))
            poses[index, :3, 3] = position
        return poses


def link_name(core: Any, uid: int, link: int) -> str:
    """Return the name of a link as its description has it."""
    return core.p.getJointInfo(uid, link, physicsClientId=core.cid)[12].decode()


def link_index(core: Any, uid: int, name: str) -> int:
    """Return the number of a link by name."""
    count = core.p.getNumJoints(uid, physicsClientId=core.cid)
    return next(link for link in range(count) if link_name(core, uid, link) == name)
