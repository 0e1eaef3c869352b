"""The microwave: an object goes in from the front under the top slab, the door follows the hand along its arc."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.agents.scripted.libero.hand import POINTING_DOWN, about_z, pointing_towards, wrap
from flowbench.agents.scripted.libero.motion import CLOSE, Arm, Steps
from flowbench.agents.scripted.libero.picking import Wish
from flowbench.agents.scripted.libero.scene import Joint, Region, Scene

#: The hand leans this far into the microwave, so that it stays outside below the top slab, radians.
LEAN_RAD = np.deg2rad(50)
#: Height of the inner floor above the body's origin and the free height above the floor that a carried object keeps, metres.
_FLOOR_M, _CLEAR_OF_FLOOR_M = 0.024, 0.009
#: Distance from the hinge at which the door is pushed, metres.
_PUSH_RADIUS_M = 0.14
#: How far ahead of the door the hand's target runs, radians.
_AHEAD_RAD = 0.30


class Door(NamedTuple):
    """A hinged door.

    Attributes:
        joint: Its hinge; 0 is shut, negative is open.
        hinge: (3,) a point of the hinge's axis, world metres.
        shut_rotation: (3, 3) the door's frame when shut: x from the hinge along the door, y inwards.
    """

    joint: Joint
    hinge: np.ndarray
    shut_rotation: np.ndarray

    @property
    def inward(self) -> np.ndarray:
        """Unit (3,) direction into the microwave."""
        return self.shut_rotation[:, 1]


def find_door(scene: Scene, name: str) -> Door:
    """Return a microwave's door."""
    joint = scene.joint(scene.upstream_object(name).joints[0])
    shut = scene.body_rotation(joint.body) @ about_z(-joint.value)
    return Door(joint, scene.body_position(joint.body), shut)


def close_door(arm: Arm, name: str) -> Steps[None]:
    """Push the door shut from its outer face."""
    scene = arm.scene
    door = find_door(scene, name)
    arm.gripper = CLOSE

    def beside(angle: float, offset_m: float) -> tuple[np.ndarray, np.ndarray]:
        rotation = door.shut_rotation @ about_z(angle)
        along, inward = rotation[:, 0], rotation[:, 1]
        yaw = wrap(np.arctan2(along[1], along[0]) - np.pi / 2)
        if yaw > 1.9:
            yaw -= np.pi
        if yaw < -1.2:
            yaw += np.pi
        position = door.hinge + _PUSH_RADIUS_M * along + offset_m * inward - [0, 0, 0.045]
        return position, about_z(yaw) @ POINTING_DOWN

    start, rotation = beside(door.joint.value, -0.10)
    yield from arm.travel(start, rotation, within_m=0.03)
    for _ in range(140):
        if scene.holds(("close", name)):
            break
        angle = find_door(scene, name).joint.value
        position, rotation = beside(min(angle + _AHEAD_RAD, 0.15), -0.03)
        yield arm.towards(position, rotation)
    yield from arm.wait(2)
    yield from arm.move_by(-0.10 * door.inward)


def grasp_for_microwave(scene: Scene, region: Region, name: str) -> Wish:
    """Return how to hold an object that goes into a microwave: by the rim, hand leaning inwards, fingers closing across."""
    inward = find_door(scene, region.parent).inward
    across = np.cross(inward, [0, 0, 1.0])
    if across @ (scene.position(name) - scene.robot_base()) < 0:
        across = -across
    points = scene.points(name, 0.006)
    middle, top = points.mean(axis=0), points[:, 2].max()
    yaw = float(np.arctan2(inward[1], inward[0]))

    def bonus(grasp) -> float:
        offset = grasp.position - middle
        return float(
            10 * np.clip(offset @ across, -0.04, 0.04)
            - 8 * abs(offset @ inward)
            - 25 * abs(grasp.position[2] - (top - 0.008))
        )

    return Wish(bonus=bonus, yaws=[yaw], lean=(inward, float(LEAN_RAD)))


def put_into_microwave(arm: Arm, goal: tuple[str, ...], region: Region) -> Steps[None]:
    """Push the held object in just above the floor, let go, and help with closed fingers if it stands too far out."""
    scene, name = arm.scene, goal[1]
    inward = find_door(scene, region.parent).inward
    across = np.cross(inward, [0, 0, 1.0])
    base = scene.position(region.parent)
    hand = scene.hand()
    rotation = hand.rotation
    root = scene.position(name)
    rise = base[2] + _FLOOR_M + _CLEAR_OF_FLOOR_M - scene.points(name, 0.006)[:, 2].min()

    # Away from the door and the robot by 5.5 cm, and 22 cm in front of the middle.
    toward_robot = across * np.sign(across @ (scene.robot_base() - base))
    lane = base + 0.055 * toward_robot
    front = lane + inward * (inward @ (region.position - lane) - 0.22)
    start = hand.position + [*(front - root)[:2], rise]
    high = np.array([*start[:2], max(start[2], hand.position[2])])
    yield from arm.go_to(high, rotation, within_m=0.02, within_rad=0.3, most_steps=60, speed=0.45)
    if not scene.is_gripped(name):
        yield from arm.release()
        return
    yield from arm.go_to(start, rotation, within_m=0.008, within_rad=0.1, most_steps=40, speed=0.6)

    def depth() -> float:
        return float(inward @ (scene.position(name) - region.position))

    position = scene.hand().position
    inside = position + 0.185 * inward
    inside[2] = start[2]
    yield from arm.go_to(
        inside,
        rotation,
        within_m=0.008,
        within_rad=0.2,
        most_steps=60,
        speed=0.6,
        patience=8,
        until=lambda: depth() > -0.03,
    )
    position = scene.hand().position
    yield from arm.go_to(
        position - [0, 0, 0.03],
        rotation,
        within_m=0.004,
        within_rad=0.2,
        most_steps=15,
        speed=0.3,
        until=lambda: bool(scene.touching(name)),
        patience=5,
    )
    yield from arm.release(-0.12 * rotation[:, 2])
    if not scene.holds(goal):
        yield from _push_in(arm, goal, region, inward)
    yield from arm.go_to(
        scene.hand().position - 0.06 * inward + 0.05 * toward_robot + [0, 0, 0.06],
        POINTING_DOWN,
        within_m=0.05,
        within_rad=0.6,
        most_steps=25,
    )


def _push_in(arm: Arm, goal: tuple[str, ...], region: Region, inward: np.ndarray) -> Steps[None]:
    scene, name = arm.scene, goal[1]
    middle = scene.middle(name)
    rotation = pointing_towards(inward, np.deg2rad(60))
    arm.gripper = CLOSE
    yield from arm.go_to(middle - 0.16 * inward + [0, 0, 0.06], rotation, within_m=0.02, within_rad=0.3, most_steps=40)
    yield from arm.go_to(middle - 0.10 * inward, rotation, within_m=0.015, within_rad=0.2, most_steps=30)
    position = scene.hand().position
    target = position + inward * (inward @ (region.position - position) - 0.06)
    yield from arm.go_to(
        target,
        rotation,
        within_m=0.01,
        within_rad=0.3,
        most_steps=40,
        speed=0.5,
        until=lambda: scene.holds(goal) and inward @ (scene.position(name) - region.position) > -0.05,
    )
    yield from arm.move_by(-0.15 * inward)
