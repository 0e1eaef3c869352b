"""What each toy task starts from, and what it wants."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from flowbench.envs.toy.physics import MAX_OPENING_M, ToyState
from flowbench.simulator import StepOutcome

#: How near the fingertips must come to the ball's centre, metres.
REACH_M = 0.02
BALL_RADIUS_M = 0.025
#: How near the block's centre must come to the disc's, metres.
PUSH_M = 0.025
DISC_RADIUS_M = 0.05
#: How high a held block must be lifted, metres above the table.
LIFT_M = 0.10


def has_block(task_name: str) -> bool:
    """Return whether the task has a block on the table."""
    return task_name != "reach"


def goal_shape(task_name: str) -> Literal["ball", "disc", "none"]:
    """Return what marks the goal."""
    return {"reach": "ball", "push": "disc"}.get(task_name, "none")


def initial_state(task_name: str, rng: np.random.Generator) -> ToyState:
    """Draw the start of a scenario."""
    hand = np.array([0.0, 0.0, 0.20]) + rng.uniform(-0.04, 0.04, 3)
    block, yaw, goal = np.zeros(2), 0.0, np.zeros(3)
    if task_name == "reach":
        goal = rng.uniform([-0.25, -0.15, 0.04], [0.25, 0.20, 0.26])
        while np.linalg.norm(goal - hand) < 0.08:
            goal = rng.uniform([-0.25, -0.15, 0.04], [0.25, 0.20, 0.26])
    else:
        block = rng.uniform([-0.15, -0.08], [0.15, 0.12])
        yaw = float(rng.uniform(-math.pi / 4, math.pi / 4))
    if task_name == "push":
        goal[:2] = rng.uniform([-0.18, -0.10], [0.18, 0.14])
        while np.linalg.norm(goal[:2] - block) < 0.10:
            goal[:2] = rng.uniform([-0.18, -0.10], [0.18, 0.14])
    return ToyState(*hand.tolist(), MAX_OPENING_M, *block.tolist(), 0.0, yaw, 0.0, *goal.tolist())


def judge(task_name: str, state: ToyState) -> StepOutcome:
    """Return the reward (minus the distance in metres that is left) and whether the task is done."""
    if task_name == "reach":
        distance = float(np.linalg.norm(state.goal - state.hand))
        return StepOutcome(-distance, distance < REACH_M)
    if task_name == "push":
        distance = float(np.linalg.norm(state.goal[:2] - state.block[:2]))
        return StepOutcome(-distance, distance < PUSH_M and state.block_z == 0)
    missing = max(0.0, LIFT_M - state.block_z)
    return StepOutcome(-missing, bool(state.holding) and missing == 0)
