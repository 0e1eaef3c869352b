"""Drawers: pulled by the handle with a level hand, pushed shut with the finger tips on the handle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.agents.scripted.libero.hand import POINTING_DOWN, about_z, nearest_half_turn, pointing_towards
from flowbench.agents.scripted.libero.motion import CLOSE, OPEN, Arm, Steps
from flowbench.agents.scripted.libero.scene import Joint, Scene

#: How far a drawer is pulled to put something in, metres; farther, it would hide the table.
OPEN_ENOUGH_TO_FILL_M = 0.128
#: From here on a drawer counts as open enough, metres.
_FILLABLE_M = 0.115
#: Its full travel is 0.16 m; `Open` needs 0.14 m.
_FULLY_OPEN_M = 0.156
#: A handle lower than this above the table leaves no room for a level hand, metres.
_LEVEL_HAND_ABOVE_M = 0.105
#: Closed fingers that reach over a bar lean this much, to pass below the handle above, and this far beyond its middle.
_HOOKING_LEAN_RAD, _HOOK_BEHIND_BAR_M = np.deg2rad(60), 0.012
#: The hand leans by the first of these with which it gets in front of the handle: an upright one keeps the arm above things.
_PUSHING_LEANS_DEG = (52, 38)
#: A shut drawer is pressed on for this long: one that is just shut comes out again with the hand.
_PRESSING_STEPS = 6
#: Inside a drawer, an object leaning more than this stands in the way of closing, radians.
_LEANING_RAD = 0.12


class Handle(NamedTuple):
    """A drawer's handle bar.

    Attributes:
        center: (3,) world metres.
        outward: (3,) unit direction of opening.
        joint: The drawer's joint.
    """

    center: np.ndarray
    outward: np.ndarray
    joint: Joint

    @property
    def opening_m(self) -> float:
        """How far the drawer is open, metres."""
        return abs(self.joint.value)


def find_handle(scene: Scene, region_name: str) -> Handle:
    """Return the handle of a drawer: the geom of its body that sticks out farthest."""
    region = scene.region(region_name)
    joint = scene.joint(region.joint)
    outward = np.sign(sum(joint.limits)) * joint.axis
    bars = [scene.geom_points([geom]) for geom in scene.geoms(region.parent, joint.body)]
    # Equally far geoms are told apart by their order, not by rounding.
    reach = [round(float((points @ outward).max()), 4) for points in bars]
    bar = bars[int(np.argmax(reach))]
    return Handle((bar.min(axis=0) + bar.max(axis=0)) / 2, outward, joint)


def is_open(scene: Scene, region_name: str) -> bool:
    """Whether a drawer is open enough to put something in."""
    return find_handle(scene, region_name).opening_m >= _FILLABLE_M


def open_drawer(arm: Arm, region_name: str, opening_m: float = _FULLY_OPEN_M) -> Steps[None]:
    """Pull a drawer open by its handle."""
    scene = arm.scene
    handle = find_handle(scene, region_name)
    if handle.center[2] - scene.support_z < _LEVEL_HAND_ABOVE_M:
        yield from _open_by_hooking(arm, region_name, opening_m)
        return
    rotation = pointing_towards(-handle.outward, np.deg2rad(88))
    arm.gripper = OPEN
    yield from arm.travel(handle.center + 0.10 * handle.outward, rotation, hang_m=0.10, within_m=0.01)
    yield from arm.go_to(
        handle.center - 0.004 * handle.outward, rotation, within_m=0.005, within_rad=0.06, most_steps=40
    )
    yield from arm.close()
    for _ in range(60):
        handle = find_handle(scene, region_name)
        if handle.opening_m > opening_m:
            break
        yield arm.towards(handle.center + 0.041 * handle.outward, rotation)
    yield from arm.open(8)
    yield from arm.move_by(0.09 * handle.outward, most_steps=20, within_m=0.02)
    hand = scene.hand()
    yield from arm.go_to(hand.position + [0, 0, 0.12], POINTING_DOWN, within_m=0.04, within_rad=0.5, most_steps=30)


def _open_by_hooking(arm: Arm, region_name: str, opening_m: float) -> Steps[None]:
    """Pull a drawer whose handle is near the table: closed fingers reach over the bar, and stay pressed down behind it."""
    scene = arm.scene
    handle = find_handle(scene, region_name)
    rotation = pointing_towards(-handle.outward, _HOOKING_LEAN_RAD, closing_across=True)
    up = np.array([0, 0, 1.0])
    arm.gripper = CLOSE
    in_front = handle.center - 0.06 * rotation[:, 2] + 0.016 * up
    yield from arm.travel(in_front, rotation, hang_m=0.05, within_m=0.008)
    over = handle.center - _HOOK_BEHIND_BAR_M * handle.outward + 0.016 * up
    yield from arm.go_to(over, rotation, within_m=0.005, within_rad=0.05, most_steps=25, speed=0.5, patience=6)
    for _ in range(90):
        handle = find_handle(scene, region_name)
        if handle.opening_m > opening_m:
            break
        yield arm.towards(handle.center + 0.035 * handle.outward - 0.02 * up, rotation, speed=0.6)
    yield from arm.go_to(
        scene.hand().position - 0.02 * handle.outward + 0.05 * up,
        rotation,
        within_m=0.02,
        within_rad=0.3,
        most_steps=15,
    )
    yield from arm.move_by(0.06 * handle.outward + 0.08 * up, most_steps=20)
    arm.gripper = OPEN


def close_drawer(arm: Arm, region_name: str) -> Steps[None]:
    """Push a drawer shut.

    The hand leans by 52 degrees and its long side is level: finger tips lead, and the palm passes under the handles above.
    """
    scene = arm.scene
    handle = find_handle(scene, region_name)
    arm.gripper = CLOSE
    in_front = 0.012
    start = handle.center + (in_front + 0.05) * handle.outward
    for lean_deg in _PUSHING_LEANS_DEG:
        rotation = pointing_towards(-handle.outward, np.deg2rad(lean_deg), closing_across=True)
        if (yield from arm.travel(start, rotation, hang_m=0.05, within_m=0.015)) == "reached":
            break
    shut_steps = 0
    for _ in range(90):
        shut_steps += scene.holds(("close", region_name))
        if shut_steps > _PRESSING_STEPS:
            break
        handle = find_handle(scene, region_name)
        yield arm.towards(handle.center + (in_front - 0.08) * handle.outward, rotation)
    # Straight back, the finger tips would rub on the handle and pull the drawer out again; opening, they would catch it.
    yield from arm.move_by(-0.10 * rotation[:, 2], most_steps=20)
    arm.gripper = OPEN


def press_flat(arm: Arm, name: str, outward: np.ndarray) -> Steps[None]:
    """Press the high side of an object that leans in a drawer down with closed fingers."""
    scene = arm.scene
    for _ in range(2):
        if scene.tilt(name) < _LEANING_RAD:
            return
        points = scene.points(name, 0.004)
        highest = points[points[:, 2].argmax()]
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        rotation = nearest_half_turn(
            pointing_towards(-outward, np.deg2rad(30)) @ about_z(np.pi / 2), about_z(np.pi / 2) @ POINTING_DOWN
        )
        arm.gripper = CLOSE
        above = np.array([*(middle[:2] + 0.75 * (highest - middle)[:2]), highest[2] + 0.035])
        start = above + [*(0.05 * outward[:2]), 0.08]
        yield from arm.go_to(start, rotation, within_m=0.02, within_rad=0.2, most_steps=40)
        yield from arm.go_to(above, rotation, within_m=0.012, within_rad=0.15, most_steps=25)
        yield from arm.go_to(
            above - [0, 0, 0.09],
            rotation,
            within_m=0.01,
            within_rad=0.3,
            most_steps=30,
            speed=0.5,
            until=lambda: scene.tilt(name) < 0.05,
            patience=8,
        )
        yield from arm.move_by(0.03 * outward + [0, 0, 0.08], most_steps=20)
        arm.gripper = OPEN
