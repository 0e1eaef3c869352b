"""Skills with blocks: grasping, lifting, turning, pushing, putting away, stacking.

Upstream's oracle looks at contacts when an instruction is given, too: a block that the hand still touches then can, for
example, no longer be pushed into the drawer. So what is turned is let go of before it counts, and what is pushed slides the
last centimetre by itself.
"""

from __future__ import annotations

import numpy as np

from flowbench.agents.scripted.calvin.arm import CLOSE, FRONT_Y_M, LEAN_RAD, REST_YAW, TRAVEL_M, Arm, Steps
from flowbench.agents.scripted.calvin.scene import TABLE_TOP_M, Block

#: A block's middle when it stands on the table or in the cabinet, metres.
_STANDING_M = TABLE_TOP_M + 0.02
#: Above a block that is about to be grasped.
_ABOVE_M = 0.12
_TRIES = 3
#: A block nearer to the tool centre than this is between the fingers or hit when they close, metres.
_NEAR_M = 0.06
#: Tilted more than this in the hand, a block is put down and grasped again before it is stacked (cosine).
_UPRIGHT = np.cos(np.radians(12))
#: The oracle asks for more than 60 degrees.
_TURN_RAD = np.radians(75)
#: How far the hand's middle stays from the side of a block that it pushes, metres: half a finger, and a margin.
_BESIDE_M = 0.045
#: The oracle asks for 10 cm; from here the block slides on by itself while the hand goes back.
_STRIKE_M = 0.089
#: Middle of the open drawer from its link's origin, and the height at which a block is let go of there, metres.
_DRAWER_MIDDLE_Y_M, _DRAWER_RELEASE_M = -0.07, 0.38
#: Behind this, a block in the drawer lies so close to the table's edge that an upright hand would hit it, metres.
_UNDER_EDGE_Y_M, _LEAN_IN_DRAWER_RAD = -0.25, 0.4
#: A block farther than this from the drawer's middle would not fall in when it is pushed, metres.
_DRAWER_HALF_WIDTH_M = 0.16


def grasp(arm: Arm, colour: str) -> Steps:
    """Close the fingers around a block, wherever it stands; try again if it slips."""
    for _ in range(_TRIES):
        yield from arm.open() if arm.gripper == CLOSE else ()
        block = arm.scene.block(colour)
        yaw = arm.grasp_yaw(block)
        if block.in_cabinet:
            yield from _enter_cabinet(arm, block.position, yaw)
        elif block.in_drawer and block.position[1] > _UNDER_EDGE_Y_M:
            yield from _enter_drawer(arm, block.position, yaw)
        else:
            above = [*block.position[:2], max(block.position[2] + _ABOVE_M, 0.56)]
            yield from arm.travel(np.array(above), yaw, height_m=0.56, within_m=0.015)
        yield from arm.go_to(arm.scene.block(colour).position, speed=0.7, within_m=0.006)
        yield from arm.close()
        if arm.scene.held() is not None:
            return


def _enter_cabinet(arm: Arm, position: np.ndarray, yaw: float) -> Steps:
    """Lean the hand towards the cabinet and bring it in from the front, to just before a (3,) position."""
    x, y, _ = position
    yield from arm.travel(np.array([x, -0.16, 0.58]), REST_YAW, height_m=0.58, within_m=0.05)
    arm.lean = LEAN_RAD
    yield from arm.go_to([x, FRONT_Y_M + 0.02, 0.58], within_m=0.03)
    arm.yaw = yaw
    yield from arm.go_to([x, FRONT_Y_M + 0.06, 0.58], within_m=0.02)
    yield from arm.go_to([x, y - 0.03, 0.54], within_m=0.02, speed=0.8)


def _enter_drawer(arm: Arm, position: np.ndarray, yaw: float) -> Steps:
    """Lean the hand so that it passes in front of the table's edge, above a (3,) position below it."""
    back = np.array([0.0, -np.sin(_LEAN_IN_DRAWER_RAD), np.cos(_LEAN_IN_DRAWER_RAD)])
    yield from arm.travel(position + 0.24 * back, yaw, height_m=0.58, within_m=0.03)
    arm.lean = _LEAN_IN_DRAWER_RAD
    yield from arm.go_to(position + 0.2 * back, within_m=0.015)


def lift(arm: Arm, colour: str) -> Steps:
    """Lift a block."""
    yield from grasp(arm, colour)
    if arm.scene.block(colour).in_cabinet:
        yield from arm.move_by((0, -0.02, 0.08), speed=0.6)
        yield from arm.rise()
    else:
        yield from arm.move_by((0, 0, 0.14), speed=0.6)
    yield from arm.wait(5)


def let_go(arm: Arm) -> Steps:
    """Open the fingers and leave what was between them: the instruction before may have ended on the way."""
    near = [b for b in arm.scene.blocks().values() if np.linalg.norm(b.position - arm.scene.hand().position) < _NEAR_M]
    if arm.gripper == CLOSE or near:
        yield from arm.open()
    if near and not near[0].in_cabinet:
        yield from arm.move_by((0, 0, 0.10), within_m=0.03)
    elif near:
        yield from arm.rise()


def rotate(arm: Arm, colour: str, side: str) -> Steps:
    """Turn a block about the vertical: raise it a little, turn it, let it drop by millimetres."""
    yield from grasp(arm, colour)
    yield from arm.move_by((0, 0, 0.03), speed=0.5, within_m=0.01)
    arm.yaw += _TURN_RAD if side == "left" else -_TURN_RAD
    position = arm.scene.hand().position
    yield from arm.go_to(position, within_rad=0.1, most_steps=60)
    yield from arm.go_to([*position[:2], position[2] - 0.022], speed=0.4, within_m=0.006, most_steps=20)
    yield from arm.open()
    yield from arm.move_by((0, 0, 0.12))


def push(arm: Arm, colour: str, side: str) -> Steps:
    """Push a block along the table with closed fingers, and let it slide the last centimetre."""
    sign = 1.0 if side == "right" else -1.0
    block = arm.scene.block(colour)
    x0, y0, z0 = block.position
    beside_m = block.radius_m + _BESIDE_M
    arm.gripper = CLOSE
    yield from arm.travel(np.array([x0 - sign * beside_m, y0, 0.58]), REST_YAW, height_m=0.58)
    yield from arm.go_to([x0 - sign * beside_m, y0, z0], speed=0.7)

    pushed_m = 0.0

    def nearly_there() -> bool:
        nonlocal pushed_m
        before_m, pushed_m = pushed_m, sign * (arm.scene.block(colour).position[0] - x0)
        # Whichever step comes nearest.
        return pushed_m + (pushed_m - before_m) / 2 > _STRIKE_M

    yield from arm.go_to([x0 - sign * (beside_m - 0.24), y0, z0], speed=0.6, most_steps=60, until=nearly_there)
    yield from arm.move_by((-sign * 0.08, 0, 0), most_steps=12)
    yield from arm.rise()


def push_into_drawer(arm: Arm) -> Steps:
    """Push a block off the table's edge into the open drawer; where that cannot work, carry it there."""
    standing = [block for block in arm.scene.blocks().values() if block.on_table and block.position[2] < 0.48]
    if not standing:
        return
    drawer = arm.scene.link("drawer_link")
    block = min(standing, key=lambda one: abs(one.position[0] - drawer[0]))
    if abs(block.position[0] - drawer[0]) < _DRAWER_HALF_WIDTH_M:
        x, y, _ = block.position
        behind = y + block.radius_m + 0.05
        arm.gripper = CLOSE
        yield from arm.travel(np.array([x, behind, 0.58]), 0.0, height_m=0.58)
        yield from arm.go_to([x, behind, 0.475], speed=0.7)
        yield from arm.go_to([x, -0.17, 0.475], speed=0.4, within_m=0.02, most_steps=60)
        yield from arm.go_to([x, -0.205, 0.475], speed=0.3, most_steps=20)
        yield from arm.wait(8)
        yield from arm.go_to([x, -0.1, TRAVEL_M], within_m=0.03)
    if not arm.scene.block(block.colour).in_drawer:
        yield from grasp(arm, block.colour)
        yield from place_in_drawer(arm)


def place_in_drawer(arm: Arm) -> Steps:
    """Let go of the held block in the open drawer."""
    arm.gripper = CLOSE
    drawer = arm.scene.link("drawer_link")
    x, y = drawer[0], drawer[1] + _DRAWER_MIDDLE_Y_M
    yield from arm.travel(np.array([x, y, TRAVEL_M]))
    yield from arm.go_to([x, y, 0.45], speed=0.5, within_m=0.015)
    yield from arm.go_to([x, y, _DRAWER_RELEASE_M], speed=0.4, within_m=0.012, most_steps=30)
    yield from arm.open()
    yield from arm.go_to([x, y, 0.56], speed=0.6, within_m=0.03)


def place_in_cabinet(arm: Arm) -> Steps:
    """Let go of the held block in the half of the cabinet that is open."""
    arm.gripper = CLOSE
    held = arm.scene.held()
    x = _free_x(arm, held)
    yield from arm.travel(np.array([x, -0.16, TRAVEL_M]), REST_YAW)
    arm.lean = LEAN_RAD
    yield from arm.go_to([x, -0.08, TRAVEL_M], within_m=0.03)
    yield from arm.go_to([x, 0.07, 0.53], speed=0.6, within_m=0.02)
    yield from arm.go_to([x, 0.08, 0.475], speed=0.4, within_m=0.012, most_steps=30)
    yield from arm.open()
    yield from arm.go_to([x, 0.04, 0.56], speed=0.5, within_m=0.03)
    yield from arm.go_to([x, -0.10, TRAVEL_M], within_m=0.03)


def _free_x(arm: Arm, held: Block | None) -> float:
    """Return where in the open half of the cabinet there is most room."""
    half = "slider_left" if arm.scene.door("base__slide") < 0.12 else "slider_right"
    (low, *_), (high, *_) = arm.scene.core.scene.surfaces[half]
    candidates = np.linspace(low + 0.025, high - 0.005, 10)
    others = [
        b.position[0] for b in arm.scene.blocks().values() if b.in_cabinet and (held is None or b.uid != held.uid)
    ]

    def room(x: float) -> float:
        return min([abs(x - other) for other in others] + [0.12]) - 0.05 * abs(x - candidates.mean())

    return float(max(candidates, key=room))


def stack(arm: Arm) -> Steps:
    """Put the held block on another one."""
    arm.gripper = CLOSE
    held = arm.scene.held()
    below = [b for b in arm.scene.blocks().values() if b.on_table and (held is None or b.uid != held.uid)]
    if held is None or not below:
        return
    if np.abs(held.rotation[2]).max() < _UPRIGHT:
        yield from put_down(arm, held)
        yield from lift(arm, held.colour)
    base = min(below, key=lambda block: block.position[1])
    yield from arm.travel(np.array([*_with_held(arm, held.colour, base.position)[:2], TRAVEL_M]), height_m=0.62)
    over = _with_held(arm, held.colour, base.position)
    yield from arm.go_to([*over[:2], TRAVEL_M], within_m=0.006)
    over = _with_held(arm, held.colour, base.position)
    yield from arm.go_to([*over[:2], over[2] + 0.042], speed=0.4, within_m=0.006)
    yield from arm.open()
    yield from arm.move_by((0, 0, 0.12), speed=0.5)
    yield from arm.wait(8)


def _with_held(arm: Arm, colour: str, position: np.ndarray) -> np.ndarray:
    """Return where the hand has to be for the held block to be at a (3,) position."""
    return position - (arm.scene.block(colour).position - arm.scene.hand().position)


def unstack(arm: Arm) -> Steps:
    """Lift the block that stands on another one."""
    on_table = [block for block in arm.scene.blocks().values() if block.on_table]
    if on_table:
        yield from lift(arm, max(on_table, key=lambda block: block.position[2]).colour)


def put_down(arm: Arm, held: Block) -> Steps:
    """Put the held block on a free place of the table, and rise."""
    spot = _free_spot(arm, held)
    yield from arm.travel(np.array([*spot, TRAVEL_M]), within_m=0.02)
    over = _with_held(arm, held.colour, np.array([*spot, _STANDING_M + 0.004]))
    yield from arm.go_to([*spot, over[2]], speed=0.6, within_m=0.01, most_steps=40)
    yield from arm.open()
    yield from arm.move_by((0, 0, 0.12))


def _free_spot(arm: Arm, held: Block) -> np.ndarray:
    """Return the (2,) place on the table that is farthest from other blocks, near ones preferred."""
    (x0, y0, _), (x1, y1, _) = arm.scene.core.scene.surfaces["table"]
    others = [block.position[:2] for block in arm.scene.blocks().values() if block.uid != held.uid and block.on_table]
    grid = [
        np.array([x, y]) for x in np.linspace(x0 + 0.05, x1 - 0.05, 8) for y in np.linspace(y0 + 0.02, y1 - 0.02, 3)
    ]
    here = arm.scene.hand().position[:2]

    def merit(spot: np.ndarray) -> float:
        room = min([float(np.linalg.norm(spot - other)) for other in others] + [0.15])
        return room - 0.05 * float(np.linalg.norm(spot - here))

    return max(grid, key=merit)
