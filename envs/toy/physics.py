"""Quasi-static mechanics of two fingers and a block, in closed form.

Contacts are frictionless between finger and block; the block's friction with the table follows the ellipsoidal
approximation of its limit surface (Goyal, Ruina and Papadopoulos 1991; Lynch, Maekawa and Tanie 1992). A push through the
block's centre therefore translates it, a push beside the centre also turns it, and two closing fingers align and hold it.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace
from typing import NamedTuple

import numpy as np

#: Metres that the hand moves for an action component of 1.
STEP_M = 0.025
#: Metres that each finger moves per step when the gripper opens or closes.
FINGER_STEP_M = 0.01
#: Metres that a released block falls per step.
FALL_STEP_M = 0.05

#: Where the point between the fingertips may go, metres.
HAND_LOW = np.array([-0.36, -0.26, 0.01])
HAND_HIGH = np.array([0.36, 0.30, 0.30])

BLOCK_HALF_M = 0.03
FINGER_RADIUS_M = 0.009
FINGER_LENGTH_M = 0.065
#: Half of the widest opening between the fingers' inner sides.
MAX_OPENING_M = 0.05

#: Ratio of the largest friction moment to the largest friction force of the block's square footprint under uniform
#: pressure: its mean distance from the centre, (sqrt(2) + ln(1 + sqrt(2))) / 6 of the side.
FRICTION_ARM_M = (math.sqrt(2) + math.log(1 + math.sqrt(2))) / 6 * 2 * BLOCK_HALF_M

#: Motion is resolved in pieces of this size, so that a finger never jumps into the block by more than its radius.
_SUBSTEP_M = 0.0025
#: Contacts of both fingers are resolved in turn this many times; what overlap is left then means that they squeeze.
_CONTACT_SWEEPS = 40
_SQUEEZE_M = 2e-4


@dataclass(frozen=True)
class ToyState:
    """Everything there is to know about the table.

    Attributes:
        hand_x: World x of the point between the fingertips in metres; likewise `hand_y` and `hand_z`.
        opening: Half the distance between the fingers' inner sides in metres; they open along world x.
        block_x: World x of the block's centre in metres; likewise `block_y`.
        block_z: Height of the block's bottom above the table in metres.
        block_yaw: Rotation of the block about world z in radians.
        holding: Whether the fingers hold the block, 0 or 1.
        goal_x: World x of the goal in metres; likewise `goal_y` and `goal_z`.
    """

    hand_x: float
    hand_y: float
    hand_z: float
    opening: float
    block_x: float
    block_y: float
    block_z: float
    block_yaw: float
    holding: float
    goal_x: float
    goal_y: float
    goal_z: float

    @property
    def hand(self) -> np.ndarray:
        """(3,) point between the fingertips, metres."""
        return np.array([self.hand_x, self.hand_y, self.hand_z])

    @property
    def block(self) -> np.ndarray:
        """(3,) centre of the block's bottom, metres."""
        return np.array([self.block_x, self.block_y, self.block_z])

    @property
    def goal(self) -> np.ndarray:
        """(3,) goal, metres."""
        return np.array([self.goal_x, self.goal_y, self.goal_z])

    @property
    def fingers_x(self) -> tuple[float, float]:
        """World x of the axes of the left and of the right finger, metres; both stand at `hand_y`."""
        reach = self.opening + FINGER_RADIUS_M
        return self.hand_x - reach, self.hand_x + reach

    def to_vector(self) -> np.ndarray:
        """Return the state as a float64 vector."""
        return np.array(astuple(self), dtype=np.float64)

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> ToyState:
        """Restore a state from `to_vector`, exactly."""
        return cls(*vector.tolist())


def advance(state: ToyState, action: np.ndarray, *, has_block: bool) -> ToyState:
    """Return the state one step later.

    Args:
        state: The state now.
        action: (4,) dx, dy, dz, gripper, each in [-1, 1].
        has_block: Whether the task has a block at all.
    """
    motion = np.clip(state.hand + STEP_M * action[:3], HAND_LOW, HAND_HIGH) - state.hand
    pieces = max(1, math.ceil(float(np.abs(motion).max()) / _SUBSTEP_M))
    for _ in range(pieces):
        state = _move_hand(state, motion / pieces, has_block)
    wanted = MAX_OPENING_M * (1 - action[3]) / 2
    change = float(np.clip(wanted - state.opening, -FINGER_STEP_M, FINGER_STEP_M))
    pieces = max(1, math.ceil(abs(change) / _SUBSTEP_M))
    for _ in range(pieces):
        state = _move_fingers(state, change / pieces, has_block)
    if not state.holding and state.block_z > 0:
        state = replace(state, block_z=max(0.0, state.block_z - FALL_STEP_M))
    return state


def _move_hand(state: ToyState, motion: np.ndarray, has_block: bool) -> ToyState:
    x, y, z = (state.hand + motion).tolist()
    if state.holding:
        # The table stops a held block, and with it the hand.
        z = max(z, state.hand_z - state.block_z)
        block = {"block_x": state.block_x + x - state.hand_x, "block_y": state.block_y + y - state.hand_y}
        return replace(state, hand_x=x, hand_y=y, hand_z=z, block_z=state.block_z + z - state.hand_z, **block)
    top = state.block_z + 2 * BLOCK_HALF_M
    sideways = replace(state, hand_x=x, hand_y=y)
    if has_block and state.hand_z < top:
        sideways = _push_block(sideways)
    elif has_block and z < top and _overlap(sideways) > 0:
        # Fingertips that come down on the block rest on it instead of squirting it away.
        z = top
    return replace(sideways, hand_z=z)


def _move_fingers(state: ToyState, change: float, has_block: bool) -> ToyState:
    if state.holding:
        return replace(state, opening=state.opening + change, holding=0.0) if change > 0 else state
    moved = replace(state, opening=state.opening + change)
    if not has_block or not _beside_block(state):
        return moved
    moved = _push_block(moved)
    if change < 0 and _overlap(moved) > _SQUEEZE_M:
        return replace(state, holding=1.0)
    return moved


def _beside_block(state: ToyState) -> bool:
    bottom, top = state.block_z, state.block_z + 2 * BLOCK_HALF_M
    return state.hand_z < top and state.hand_z + FINGER_LENGTH_M > bottom


def _overlap(state: ToyState) -> float:
    """Return the deepest overlap of a finger with the block's footprint in metres; not positive when apart."""
    return max(_contact(state, finger_x).depth_m for finger_x in state.fingers_x)


def _push_block(state: ToyState) -> ToyState:
    """Move the block out of both fingers along the limit surface's normal, by as little as separates them."""
    for _ in range(_CONTACT_SWEEPS):
        touched = False
        for finger_x in state.fingers_x:
            contact = _contact(state, finger_x)
            if contact.depth_m <= 1e-9:
                continue
            touched = True
            # Twist of a unit force n at the contact: (n, m / c^2), with moment m and friction arm c. Scaled so that the
            # contact point moves by the overlap along n.
            spin = contact.arm_m / FRICTION_ARM_M**2
            scale = contact.depth_m / (1 + contact.arm_m * spin)
            state = replace(
                state,
                block_x=state.block_x + scale * contact.normal_x,
                block_y=state.block_y + scale * contact.normal_y,
                block_yaw=state.block_yaw + scale * spin,
            )
        if not touched:
            break
    return state


class _Contact(NamedTuple):
    """How a finger meets the block's footprint.

    Attributes:
        depth_m: Overlap; negative when apart.
        normal_x: World x of the unit vector that the finger pushes the block along; likewise `normal_y`.
        arm_m: Signed distance of that push from the block's centre; positive turns it counter-clockwise.
    """

    depth_m: float
    normal_x: float
    normal_y: float
    arm_m: float


def _contact(state: ToyState, finger_x: float) -> _Contact:
    # Scalars, not arrays: this runs some twenty times per step.
    cosine, sine = math.cos(state.block_yaw), math.sin(state.block_yaw)
    east, north = finger_x - state.block_x, state.hand_y - state.block_y
    u, v = cosine * east + sine * north, cosine * north - sine * east
    near_u, near_v = (min(max(value, -BLOCK_HALF_M), BLOCK_HALF_M) for value in (u, v))
    distance = math.hypot(u - near_u, v - near_v)
    if distance > 0:
        depth = FINGER_RADIUS_M - distance
        normal_u, normal_v = (near_u - u) / distance, (near_v - v) / distance
    elif abs(u) >= abs(v):
        depth = FINGER_RADIUS_M + BLOCK_HALF_M - abs(u)
        normal_u, normal_v, near_u = -math.copysign(1, u), 0.0, math.copysign(BLOCK_HALF_M, u)
    else:
        depth = FINGER_RADIUS_M + BLOCK_HALF_M - abs(v)
        normal_u, normal_v, near_v = 0.0, -math.copysign(1, v), math.copysign(BLOCK_HALF_M, v)
    arm = near_u * normal_v - near_v * normal_u
    return _Contact(depth, cosine * normal_u - sine * normal_v, sine * normal_u + cosine * normal_v, arm)
