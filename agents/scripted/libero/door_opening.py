"""Opening a microwave in two motions, because no single grip lasts a quarter turn: the handle pulls it ajar, a finger sweeps it.

While the door turns about its hinge, the hand would have to turn towards the robot. So the handle only turns in the fingers
until there is room behind the door, and closed fingers push the inner face from there on.
"""

from __future__ import annotations

import numpy as np

from flowbench.agents.scripted.libero.hand import POINTING_DOWN, about_z, nearest_half_turn, pointing_towards
from flowbench.agents.scripted.libero.microwaves import Door, find_door
from flowbench.agents.scripted.libero.motion import CLOSE, OPEN, Arm, Steps
from flowbench.agents.scripted.libero.scene import Scene

#: The door is ajar from here on, radians: the fingers fit behind its free edge.
_AJAR_RAD = 0.65
#: How far ahead of the door the hand's target runs, radians.
_AHEAD_RAD = 0.35
#: The hand leans by this to take the upright handle.
_LEAN_RAD = np.deg2rad(75)
#: Distance of the closed fingers from the free edge, and from the inner face, metres.
_FROM_EDGE_M, _BEHIND_M = 0.045, 0.045
#: How far the fingers reach below the door's upper edge, metres; the palm stays above.
_BELOW_TOP_M = 0.024


def open_door(arm: Arm, name: str) -> Steps[None]:
    """Open a microwave's door."""
    door = find_door(arm.scene, name)
    if abs(door.joint.value) < _AJAR_RAD - 0.1:
        yield from _pull_ajar(arm, name)
    if abs(find_door(arm.scene, name).joint.value) > 0.3:
        yield from _sweep_open(arm, name)


def _handle(scene: Scene, name: str) -> np.ndarray:
    """Return the middle of the door's handle, (3,) world metres: its geom that sticks out farthest."""
    door = find_door(scene, name)
    outward = -(scene.body_rotation(door.joint.body)[:, 1])
    bars = [scene.geom_points([geom], 0.01) for geom in scene.geoms(name, door.joint.body)]
    reach = [round(float((points @ outward).mean()), 4) for points in bars]
    bar = bars[int(np.argmax(reach))]
    return (bar.min(axis=0) + bar.max(axis=0)) / 2


def _pull_ajar(arm: Arm, name: str) -> Steps[None]:
    scene = arm.scene
    inward = find_door(scene, name).inward
    handle = _handle(scene, name)
    rotation = pointing_towards(inward, _LEAN_RAD, closing_across=True)
    arm.gripper = OPEN
    yield from arm.travel(handle - 0.08 * rotation[:, 2], rotation, hang_m=0.05, within_m=0.01)
    yield from arm.go_to(handle, rotation, within_m=0.006, within_rad=0.08, most_steps=40)
    yield from arm.close()
    for _ in range(90):
        door = find_door(scene, name)
        if abs(door.joint.value) > _AJAR_RAD:
            break
        handle = _handle(scene, name)
        turn = about_z(np.sign(sum(door.joint.limits)) * _AHEAD_RAD)
        yield arm.towards(door.hinge + turn @ (handle - door.hinge), rotation, speed=0.7)
    yield from arm.open(8)
    yield from arm.move_by(-0.12 * rotation[:, 2], most_steps=20)


def _sweep_open(arm: Arm, name: str) -> Steps[None]:
    scene = arm.scene
    door = find_door(scene, name)
    points = scene.geom_points(scene.geoms(name, door.joint.body), 0.01)
    length = float(((points - door.hinge) @ scene.body_rotation(door.joint.body)[:, 0]).max())
    top = float(points[:, 2].max())

    def behind(door: Door, angle: float, offset_m: float) -> tuple[np.ndarray, np.ndarray]:
        frame = door.shut_rotation @ about_z(angle)
        position = door.hinge + (length - _FROM_EDGE_M) * frame[:, 0] + offset_m * frame[:, 1]
        position[2] = top - _BELOW_TOP_M
        along = np.column_stack([frame[:, 0], np.cross([0, 0, -1.0], frame[:, 0]), [0, 0, -1.0]])
        return position, nearest_half_turn(along, POINTING_DOWN @ about_z(np.pi / 2))

    arm.gripper = CLOSE
    start, rotation = behind(door, door.joint.value, _BEHIND_M)
    yield from arm.travel(start, rotation, within_m=0.012)
    sign = np.sign(sum(door.joint.limits))
    for _ in range(120):
        if scene.holds(("open", name)):
            break
        door = find_door(scene, name)
        position, rotation = behind(door, door.joint.value + sign * _AHEAD_RAD, 0.0)
        yield arm.towards(position, rotation)
    yield from arm.move_by(np.array([0, 0, 0.12]), most_steps=20)
    arm.gripper = OPEN
