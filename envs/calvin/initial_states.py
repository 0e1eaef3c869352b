"""CALVIN's 192 symbolic initial conditions, and the exact poses that upstream's evaluation makes of each.

Re-written from mees/calvin at fa03f01 (MIT, (c) 2021 Oier Mees): `get_sequences` of
`calvin_agent/evaluation/multistep_sequences.py` and `get_env_state_for_initial_condition` of `calvin_agent/evaluation/utils.py`.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from math import pi
from typing import NamedTuple

import numpy as np

from flowbench.envs.calvin.tasks import COLOURS, Condition

#: The arm's posture at the start of every sequence, in the layout of `robot_obs`.
ROBOT_OBS = (
    *(0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585, 0.07999963),
    *(-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928, 1.0),
)
_VALUES: dict[str, tuple[int | str, ...]] = {
    "led": (0, 1),
    "lightbulb": (0, 1),
    "slider": ("right", "left"),
    "drawer": ("closed", "open"),
    **{f"{colour}_block": ("table", "slider_right", "slider_left") for colour in COLOURS},
    "grasped": (0,),
}
# Metres; joint positions of doors, and the switch's.
SLIDER_LEFT, DRAWER_OPEN, SWITCH_ON = 0.28, 0.22, 0.088
_IN_CABINET = {
    "slider_left": (-2.40851662e-01, 9.24044687e-02, 4.60990009e-01),
    "slider_right": (7.03416330e-02, 9.24044687e-02, 4.60990009e-01),
}
_ON_TABLE = ((5.00000896e-02, -1.20000177e-01, 4.59990009e-01), (2.29995412e-01, -1.19995140e-01, 4.59990010e-01))
_YAW_RAD = (pi / 2 - pi / 8, pi / 2 + pi / 8)


class InitialState(NamedTuple):
    """Where everything stands when a sequence starts.

    Attributes:
        robot_obs: (15,) as upstream's `reset` takes it.
        scene_obs: (24,) slider, drawer, button, switch, lightbulb, led, then position and Euler angles of three blocks. The
            blocks stand in the order of scene D (and B): red, blue, pink.
    """

    robot_obs: np.ndarray
    scene_obs: np.ndarray


@cache
def initial_conditions() -> tuple[Condition, ...]:
    """Return the conditions in upstream's order: one or two blocks on the table, at most one in each half of the cabinet."""
    found = []
    for values in product(*_VALUES.values()):
        if values.count("table") in (1, 2) and values.count("slider_right") < 2 and values.count("slider_left") < 2:
            found.append(dict(zip(_VALUES, values, strict=True)))
    return tuple(found)


def pyhash_fnv1_32(text: str) -> int:
    """Return what `pyhash.fnv1_32()(text)` returns, which is not FNV-1 of the text in UTF-8.

    pyhash 0.9.3 hands over the characters as UTF-16 (little-endian, no byte-order mark) and starts from 0, as FNV-0 does.
    FNV-1 of the UTF-8 bytes, which other harnesses use, places blocks differently in 557 of the 1000 sequences and turns
    them differently in all.
    """
    value = 0
    for byte in text.encode("utf-16-le"):
        value = ((value * 0x01000193) & 0xFFFFFFFF) ^ byte
    return value


def condition_seed(condition: Condition) -> int:
    """Return the seed that upstream derives from a condition: the hash of how Python prints its values."""
    return pyhash_fnv1_32(str(dict(condition).values()))


def initial_state(condition: Condition) -> InitialState:
    """Return the poses that upstream's evaluation makes of a condition, number for number."""
    rng = np.random.RandomState(condition_seed(condition))
    slots = [np.array(slot) for slot in _ON_TABLE]
    rng.shuffle(slots)
    scene_obs = np.zeros(24)
    scene_obs[0] = SLIDER_LEFT if condition["slider"] == "left" else 0
    scene_obs[1] = DRAWER_OPEN if condition["drawer"] == "open" else 0
    scene_obs[3] = SWITCH_ON if condition["lightbulb"] == 1 else 0
    scene_obs[4], scene_obs[5] = condition["lightbulb"], condition["led"]
    # The second slot is for pink, and for blue if red has the first: at most two blocks stand on the table.
    slot = {"red": 0, "blue": 1 if condition["red_block"] == "table" else 0, "pink": 1}
    for index, colour in enumerate(COLOURS):
        start = 6 + 6 * index
        place = condition[f"{colour}_block"]
        scene_obs[start : start + 3] = slots[slot[colour]] if place == "table" else _IN_CABINET[str(place)]
        scene_obs[start + 5] = rng.uniform(*_YAW_RAD)
    return InitialState(np.array(ROBOT_OBS), scene_obs)
