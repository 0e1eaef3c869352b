"""The toy suite's expert: a way-point computed from the state, chosen anew at every step.

Nothing is remembered between steps, so it also goes on from wherever another agent left the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowbench.camera import CameraParams
from flowbench.observation import Observation
from flowbench.task import Task

#: Heights of the fingertips, metres: clear of the block, and beside it.
_ABOVE_M = 0.09
_BESIDE_M = 0.02
#: The fingers come down this far behind the face that they are going to push, metres.
_STANDOFF_M = 0.008
_OPEN, _CLOSE = -1.0, 1.0


class ToyExpert:
    """Solves every toy task from the simulator's state."""

    def reset(self, task: Task, cameras: Mapping[str, CameraParams], seed: int) -> None:
        """Choose the task's rule."""
        self._rule = {"reach": _reach, "push": _push, "lift": _lift}[task.name]

    def act(self, observation: Observation) -> np.ndarray:
        """Return one (4,) action towards the rule's way-point."""
        simulator = observation.simulator
        target, gripper = self._rule(simulator)
        motion = (target - simulator.state.hand) / simulator.step_m
        # Shortened as a whole: clipping by component would bend the path, and a bent push turns the block.
        return np.array([*(motion / max(1.0, np.abs(motion).max())), gripper])


def _reach(simulator: Any) -> tuple[np.ndarray, float]:
    return simulator.state.goal, _OPEN


def _lift(simulator: Any) -> tuple[np.ndarray, float]:
    """Come down over the block, close the fingers, go up."""
    state = simulator.state
    if state.holding:
        return state.hand + [0, 0, simulator.step_m], _CLOSE
    if not _over(state, state.block[:2], tolerance_m=0.004):
        return _travel(state, state.block[:2]), _OPEN
    at_block = state.hand_z < _BESIDE_M + 0.005
    return np.array([*state.block[:2], _BESIDE_M]), _CLOSE if at_block else _OPEN


def _push(simulator: Any) -> tuple[np.ndarray, float]:
    """Push the block along one of its axes, then along the other, always through its centre so that it does not turn."""
    state = simulator.state
    axes = np.array(
        [[np.cos(state.block_yaw), np.sin(state.block_yaw)], [-np.sin(state.block_yaw), np.cos(state.block_yaw)]]
    )
    missing = axes @ (state.goal - state.block)[:2]
    directions = axes * np.sign(missing)[:, None]
    reach_m = simulator.block_half_m + simulator.finger_radius_m

    spots = []
    for direction, left_m in zip(directions, np.abs(missing), strict=True):
        # The finger that leads in this direction is the one to put behind the block's centre.
        finger_x = state.fingers_x[1 if direction[0] > 0 else 0]
        finger_offset = np.array([finger_x - state.hand_x, 0.0])
        from_block = state.hand[:2] + finger_offset - state.block[:2]
        behind_m = -float(from_block @ direction)
        aside = from_block + behind_m * direction
        in_place = state.hand_z < _BESIDE_M + 0.005 and np.hypot(*aside) < 0.006
        if in_place and left_m > 0.004 and -0.004 < behind_m - reach_m < 2 * _STANDOFF_M:
            ahead_m = behind_m - reach_m + left_m
            return np.array([*(state.hand[:2] - aside + ahead_m * direction), _BESIDE_M]), _CLOSE
        spots.append(state.block[:2] - (reach_m + _STANDOFF_M) * direction - finger_offset)

    # Start with the axis whose corner of the L-shaped path stays nearer to the middle of the table.
    corners = [state.block[:2] + distance * axis for distance, axis in zip(missing, axes, strict=True)]
    first = int(np.argmin([np.hypot(*corner) for corner in corners]))
    if abs(missing[first]) < 0.006:
        first = 1 - first
    spot = spots[first]
    if not _over(state, spot, tolerance_m=0.004):
        return _travel(state, spot), _CLOSE
    return np.array([*spot, _BESIDE_M]), _CLOSE


def _over(state: Any, spot: np.ndarray, tolerance_m: float) -> bool:
    return bool(np.hypot(*(state.hand[:2] - spot)) < tolerance_m)


def _travel(state: Any, spot: np.ndarray) -> np.ndarray:
    """Return the next way-point of a trip above the block: up first, then across."""
    if state.hand_z < _ABOVE_M - 0.01:
        return np.array([*state.hand[:2], _ABOVE_M])
    return np.array([*spot, _ABOVE_M])
