"""Skills with the table's own parts - door, drawer, button, switch - which are all pushed with closed fingers."""

from __future__ import annotations

import numpy as np

from flowbench.agents.scripted.calvin.arm import CLOSE, FRONT_Y_M, LEAN_RAD, REST_YAW, Arm, Steps

#: Middle of the sliding door from its link's origin, and how far beside its handle the fingers go, metres.
_HANDLE_X_M, _BESIDE_HANDLE_M = 0.14, 0.075
#: Height of the door's handle, and of the drawer's, metres.
_DOOR_HANDLE_M, _DRAWER_HANDLE_M = 0.53, 0.36
#: Travel of the sliding door in the narrowest scene, and of the drawer, metres.
_SLIDER_LIMIT_M, _DRAWER_LIMIT_M = 0.24, 0.22
#: The target runs ahead so far of a hand that pushes, metres.
_PUSHING_M = 0.005
#: The switch moves up and to the back along this line.
_SWITCH_DIRECTION = np.array([0.0, 0.5, 0.866])


def move_slider(arm: Arm, side: str) -> Steps:
    """Push the sliding door to one side, at its handle."""
    sign = 1.0 if side == "right" else -1.0
    x = arm.scene.link("slide_link")[0] + _HANDLE_X_M
    beside = x - sign * _BESIDE_HANDLE_M
    arm.gripper = CLOSE
    yield from arm.travel(np.array([beside, FRONT_Y_M, 0.68]), REST_YAW, height_m=0.68, within_m=0.03)
    yield from arm.go_to([beside, FRONT_Y_M, _DOOR_HANDLE_M], within_m=0.02)
    yield from arm.go_to([beside, -0.005, _DOOR_HANDLE_M], within_m=0.02)
    yield from arm.go_to([x + sign * 0.24, -0.005, _DOOR_HANDLE_M], speed=0.5, most_steps=90)
    yield from arm.go_to([arm.scene.hand().position[0], FRONT_Y_M, _DOOR_HANDLE_M], within_m=0.03)


def open_drawer(arm: Arm) -> Steps:
    """Reach behind the drawer's handle from above and pull."""
    x, y, _ = arm.scene.link("drawer_link")
    behind = np.array([x, y - 0.21, _DRAWER_HANDLE_M])
    arm.gripper = CLOSE
    yield from arm.travel(np.array([x, behind[1], 0.56]), REST_YAW, height_m=0.56)
    yield from arm.go_to(behind, speed=0.7, within_m=0.012)
    yield from arm.go_to(behind + [0, -0.22, 0], speed=0.5)
    yield from arm.go_to(behind + [0, -0.20, 0.2], within_m=0.03)


def close_drawer(arm: Arm) -> Steps:
    """Push the drawer from the front."""
    x, y, _ = arm.scene.link("drawer_link")
    before = np.array([x, y - 0.31, _DRAWER_HANDLE_M])
    arm.gripper = CLOSE
    yield from arm.travel(np.array([x, before[1], 0.56]), REST_YAW, height_m=0.56, within_m=0.03)
    yield from arm.go_to(before, within_m=0.02)
    yield from arm.go_to(before + [0, 0.26, 0], speed=0.5)
    yield from arm.go_to(before + [0, 0.1, 0.2], within_m=0.03)


def press_button(arm: Arm) -> Steps:
    """Press the button, which toggles the LED, and let go."""
    x, y, _ = arm.scene.link("button_link")
    arm.gripper = CLOSE
    yield from arm.travel(np.array([x, y, 0.56]), REST_YAW, height_m=0.56)
    yield from arm.go_to([x, y, 0.455], speed=0.6, most_steps=30)
    yield from arm.go_to([x, y, 0.56], speed=0.6)


def flip_switch(arm: Arm, state: str) -> Steps:
    """Push the switch up (on) or down (off), with the hand leaning towards it."""
    low, high = arm.scene.link_bounds("switch_link")
    x = (low[0] + high[0]) / 2
    arm.gripper = CLOSE
    if state == "on":
        below = np.array([x, 0.01, 0.478])
        yield from arm.travel(np.array([x, FRONT_Y_M, 0.58]), REST_YAW, height_m=0.58, within_m=0.03)
        arm.lean = LEAN_RAD
        yield from arm.go_to(below + [0, -0.06, 0], within_m=0.02)
        yield from arm.go_to(below, within_m=0.012)
        yield from arm.go_to(below + 0.12 * _SWITCH_DIRECTION, speed=0.5, most_steps=40)
        yield from arm.move_by((0, -0.1, 0))
    else:
        above = np.array([x, (low[1] + high[1]) / 2 - 0.02, high[2] + 0.015])
        yield from arm.travel(np.array([x, FRONT_Y_M, 0.64]), REST_YAW, height_m=0.64, within_m=0.03)
        arm.lean = LEAN_RAD
        yield from arm.go_to([x, -0.08, 0.64], within_m=0.02)
        yield from arm.go_to(above, within_m=0.012)
        yield from arm.go_to(above - 0.12 * _SWITCH_DIRECTION, speed=0.5)
        yield from arm.move_by((0, -0.1, 0.05))


def finish_pushing(arm: Arm) -> Steps:
    """Push a door that is being pushed to its end.

    An instruction counts as carried out when the door has moved far enough for the oracle, and the next one comes at once;
    what is asked later may need the door wide open.
    """
    for link, axis, joint, limit_m in (
        ("slide_link", 0, "base__slide", _SLIDER_LIMIT_M),
        ("drawer_link", 1, "base__drawer", _DRAWER_LIMIT_M),
    ):
        hand, target = arm.scene.hand().position, arm.scene.target()[0]
        ahead_m = target[axis] - hand[axis]
        if not arm.scene.touches(link) or abs(ahead_m) < _PUSHING_M:
            continue

        def at_its_end(joint: str = joint, limit_m: float = limit_m) -> bool:
            return not 0.01 < arm.scene.door(joint) < limit_m - 0.01

        end = hand.copy()
        end[axis] += np.sign(ahead_m) * 0.2
        yield from arm.go_to(end, speed=0.5, until=at_its_end, most_steps=30)
