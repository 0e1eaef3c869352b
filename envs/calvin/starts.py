"""Starts for one task alone, drawn from a seed in any scene: a world in which the task can be asked for.

Upstream evaluates single tasks from recorded play, which is 166 GB; here the words of the task's own rule say what must hold
(a door open, a block in the drawer, in the hand, on another), and the rest is drawn within the scene's own surfaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi
from typing import NamedTuple

import numpy as np

from flowbench.envs.calvin.initial_states import SWITCH_ON
from flowbench.envs.calvin.tasks import COLOURS, TASKS

#: Height of a block's middle on the table and in the cabinet, metres (upstream's scene files and initial states).
_ON_SURFACE_M = 0.46
#: Blocks are dropped from a little above where they will rest: in the drawer, and on another block.
_IN_DRAWER_M, _ON_BLOCK_M = 0.385, 0.505
#: Between the middles of two blocks on the table; the longest is 8 cm, and a hand has to fit between.
_APART_M = 0.14
#: A block that will be pushed needs this much free table ahead: the oracle asks for 10 cm.
_PUSHED_M = 0.19
#: Yaw of blocks: as upstream's evaluation turns them, and wider on the table, where a hand gets at them from all sides.
_YAW_IN_CABINET_RAD = (pi / 2 - pi / 8, pi / 2 + pi / 8)
_YAW_ON_TABLE_RAD = (pi / 2 - pi / 4, pi / 2 + pi / 4)
_DRAWS = 200


class SceneFacts(NamedTuple):
    """What a start has to know of a scene.

    Attributes:
        blocks: Colours in the order in which upstream's `scene_obs` has them.
        slider_open_m: Joint position of the sliding door at its left end.
        drawer_open_m: Joint position of the open drawer.
        drawer_world: (3,) middle of the closed drawer's link, metres; it opens towards -y.
        surfaces: Corners of the regions `table`, `slider_left` and `slider_right`, as upstream's scene file has them.
        hand_world: (3,) tool centre in the start posture.
        hand_yaw_rad: Its yaw.
    """

    blocks: tuple[str, ...]
    slider_open_m: float
    drawer_open_m: float
    drawer_world: np.ndarray
    surfaces: Mapping[str, Sequence[Sequence[float]]]
    hand_world: np.ndarray
    hand_yaw_rad: float


class Start(NamedTuple):
    """A start.

    Attributes:
        scene_obs: (24,) as upstream's `reset` takes it.
        held: Colour of the block that stands between the open fingers; None for an empty hand.
        condition: The world in words.
    """

    scene_obs: np.ndarray
    held: str | None
    condition: dict[str, int | str]


def sample_start(task: str, facts: SceneFacts, rng: np.random.Generator) -> Start | None:
    """Draw a start of a task; None if the blocks that were drawn do not fit, and another draw is needed."""
    condition = _sample_condition(task, rng)
    places = {colour: str(condition[f"{colour}_block"]) for colour in COLOURS}
    scene_obs = np.zeros(24)
    scene_obs[0] = facts.slider_open_m if condition["slider"] == "left" else 0
    scene_obs[1] = facts.drawer_open_m if condition["drawer"] == "open" else 0
    scene_obs[3] = SWITCH_ON if condition["lightbulb"] else 0
    scene_obs[4], scene_obs[5] = condition["lightbulb"], condition["led"]
    poses = _place(task, places, facts, rng)
    if poses is None:
        return None
    for index, colour in enumerate(facts.blocks):
        position, yaw_rad = poses[colour]
        scene_obs[6 + 6 * index : 9 + 6 * index] = position
        scene_obs[11 + 6 * index] = yaw_rad
    held = next((colour for colour, place in places.items() if place == "grasped"), None)
    return Start(scene_obs, held, condition)


def _sample_condition(task: str, rng: np.random.Generator) -> dict[str, int | str]:
    """Draw the world in words: what the task's rule needs, and anything else that can be."""
    rules = TASKS[task].rules
    needs = rules[rng.integers(len(rules))].needs
    condition: dict[str, int | str] = {
        "led": int(rng.integers(2)),
        "lightbulb": int(rng.integers(2)),
        "slider": ("right", "left")[rng.integers(2)],
        "drawer": ("closed", "open")[rng.integers(2)],
    }
    free = {"slider_left", "slider_right"}
    blocks: dict[str, str] = {}
    for key, needed in needs.items():
        values = needed if isinstance(needed, tuple) else (needed,)
        if not key.endswith("_block"):
            condition[key] = values[0]
            continue
        # Of several halves of the cabinet, one that is not taken.
        possible = [str(value) for value in values if value in free or not str(value).startswith("slider_")]
        blocks[key] = possible[rng.integers(len(possible))]
        free.discard(blocks[key])
    for colour in COLOURS:
        key = f"{colour}_block"
        if key not in blocks:
            on_table = sum(place.startswith(("table", "stacked")) for place in blocks.values())
            possible = [*sorted(free), *(["table"] if on_table < 2 else [])]
            blocks[key] = possible[rng.integers(len(possible))]
            free.discard(blocks[key])
    condition.setdefault("grasped", 0)
    return {**condition, **blocks}


def _place(
    task: str, places: Mapping[str, str], facts: SceneFacts, rng: np.random.Generator
) -> dict[str, tuple[np.ndarray, float]] | None:
    """Return position and yaw of every block; None if those on the table do not fit beside each other."""
    poses: dict[str, tuple[np.ndarray, float]] = {}
    for colour in sorted(places, key=lambda name: places[name] == "stacked_top"):
        place = places[colour]
        if place.startswith("slider_"):
            poses[colour] = (_within(facts.surfaces[place], rng, inset_m=0.03), rng.uniform(*_YAW_IN_CABINET_RAD))
        elif place == "drawer":
            offset = [rng.uniform(-0.08, 0.08), rng.uniform(-0.09, -0.05) - facts.drawer_open_m, 0]
            position = facts.drawer_world + offset
            position[2] = _IN_DRAWER_M
            poses[colour] = (position, rng.uniform(*_YAW_IN_CABINET_RAD))
        elif place == "grasped":
            # A block's long axis is its own x; the fingers close across it.
            poses[colour] = (facts.hand_world.copy(), facts.hand_yaw_rad)
        elif place == "stacked_top":
            below = next(other for other in places if places[other] == "stacked_bottom")
            position, yaw_rad = poses[below]
            poses[colour] = (np.array([*position[:2], _ON_BLOCK_M]), yaw_rad)
        else:
            others = [poses[other][0] for other in poses if places[other] in ("table", "stacked_bottom")]
            position = _on_table(task if colour in task or task == "push_into_drawer" else "", others, facts, rng)
            if position is None:
                return None
            poses[colour] = (position, rng.uniform(*_YAW_ON_TABLE_RAD))
    return poses


def _on_table(
    task: str, others: Sequence[np.ndarray], facts: SceneFacts, rng: np.random.Generator
) -> np.ndarray | None:
    """Draw a free position on the table, from which the task, if it is about this block, can be done."""
    (left, *_), (right, *_) = facts.surfaces["table"]
    for _ in range(_DRAWS):
        position = _within(facts.surfaces["table"], rng)
        if any(np.linalg.norm(position[:2] - other[:2]) < _APART_M for other in others):
            continue
        if task == "push_into_drawer" and abs(position[0] - facts.drawer_world[0]) > 0.1:
            continue
        if task.startswith("push") and task.endswith(("left", "right")):
            ahead_m = position[0] - left + 0.1 if task.endswith("left") else right - position[0] + 0.05
            sign = -1 if task.endswith("left") else 1
            way = [sign * (other[0] - position[0]) for other in others]
            if ahead_m < _PUSHED_M or any(-0.16 < distance < 0.3 for distance in way):
                continue
        return position
    return None


def _within(corners: Sequence[Sequence[float]], rng: np.random.Generator, inset_m: float = 0.0) -> np.ndarray:
    low, high = (np.array(corner[:2], dtype=np.float64) for corner in corners)
    low, high = np.minimum(low + inset_m, (low + high) / 2), np.maximum(high - inset_m, (low + high) / 2)
    return np.array([*rng.uniform(low, high), _ON_SURFACE_M])
