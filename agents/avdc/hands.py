"""How a wanted hand position becomes an action, for each action convention: the only place that knows a robot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowbench.errors import unknown_name
from flowbench.task import ActionSpec


@dataclass(frozen=True)
class Hand:
    """A hand that is moved by displacements and does not turn. Its position is the first three numbers of `proprio`.

    Attributes:
        units_per_m: Action units asked for per metre that is missing; the action is clipped to its bounds.
        open_effort: Value of the gripper component that opens it.
        close_effort: Value that closes it.
        lowest_m: Height below which the hand cannot go, world metres; -inf where nothing is known.
        palm_m: Height of the palm above the hand's position: an object that sticks out farther above the contact is in its way.
        down_m: How near the contact's height the hand has to come before it grasps or pushes (robust rule).
        close_within_m: From which height above the contact it closes (robust rule); a hand that is quicker than its fingers
            may start early, one that is slower must not.
    """

    units_per_m: float
    open_effort: float
    close_effort: float
    lowest_m: float = -np.inf
    palm_m: float = np.inf
    down_m: float = 0.01
    close_within_m: float = 0.01

    def action(self, spec: ActionSpec, hand_world: np.ndarray, target_world: np.ndarray, close: bool) -> np.ndarray:
        """Return the (A,) action that moves the hand towards a (3,) position in metres; rotation components are 0."""
        action = np.zeros(spec.size)
        action[:3] = self.units_per_m * (target_world - hand_world)
        action[-1] = self.close_effort if close else self.open_effort
        return np.clip(action, spec.low, spec.high)


#: By action convention.
HANDS = {
    # `move(..., p=20.)` and an effort of 0.8 (AVDC's `MyPolicy_CL`); the mocap body's floor in the tasks that lift something
    # (`mocap_low` of metaworld 3.1.1; -0.15 in the faucet tasks).
    "metaworld-xyz-gripper": Hand(
        20.0, open_effort=-0.8, close_effort=0.8, lowest_m=0.05, down_m=0.03, close_within_m=0.05
    ),
    # OSC_POSE moves its goal by 5 cm per unit; the arm lags behind, so the same gain as above neither creeps nor overshoots.
    # The Panda's palm begins 3.1 cm above the grip site.
    "libero-osc-pose": Hand(20.0, open_effort=-1.0, close_effort=1.0, palm_m=0.025),
    # `STEP_M` of the toy is 2.5 cm.
    "toy-xyz-gripper": Hand(40.0, open_effort=-1.0, close_effort=1.0, lowest_m=0.01),
}


def hand_of(convention: str) -> Hand:
    """Return the hand of an action convention.

    Raises:
        UnknownName: If flow-to-action has not been written for it.
    """
    if convention not in HANDS:
        raise unknown_name("hand for action convention", convention, HANDS, "AVDC's flow-to-action stage")
    return HANDS[convention]
