"""The stove's knob: taken by its bar and turned by the wrist."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flowbench.agents.scripted.libero.hand import about_z, nearest_half_turn, pointing_down
from flowbench.agents.scripted.libero.motion import OPEN, Arm, Steps

#: `Turnon` needs 0.5 rad; the margin keeps it on when the fingers open.
_ON_RAD = 0.62
#: `Turnoff` needs less than 0, and the knob ends at -0.005 rad.
_OFF_RAD = -0.002
#: The wrist leads the knob by this angle, radians.
_LEAD_RAD = 0.35


def turn_on(arm: Arm, name: str) -> Steps[None]:
    """Turn a stove on."""
    yield from _turn(arm, name, lambda angle: angle > _ON_RAD, _LEAD_RAD)


def turn_off(arm: Arm, name: str) -> Steps[None]:
    """Turn a stove off."""
    yield from _turn(arm, name, lambda angle: angle < _OFF_RAD, -_LEAD_RAD)


def _turn(arm: Arm, name: str, is_done: Callable[[float], bool], lead_rad: float) -> Steps[None]:
    """Grip the knob's bar and turn it until `is_done(angle)`."""
    scene = arm.scene
    joint_name = scene.upstream_object(name).joints[0]
    joint = scene.joint(joint_name)
    points = scene.geom_points(scene.geoms(name, joint.body))
    bar = points[points[:, 2] > scene.body_position(joint.body)[2] + 0.03]
    middle = (bar.min(axis=0) + bar.max(axis=0)) / 2
    grip = np.array([*middle[:2], points[:, 2].max() - 0.018])
    rotation = pointing_down(joint.value)

    arm.gripper = OPEN
    yield from arm.travel(grip + [0, 0, 0.06], rotation)
    yield from arm.go_to(grip, rotation, within_m=0.005, most_steps=30)
    yield from arm.close()
    for _ in range(60):
        angle = scene.joint(joint_name).value
        if is_done(angle):
            break
        turned = about_z(angle + lead_rad - joint.value) @ rotation
        yield arm.towards(grip, nearest_half_turn(turned, rotation))
    yield from arm.release()
