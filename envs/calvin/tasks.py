"""CALVIN's 34 tasks: their order, validation sentences, categories, and when each may be asked for.

Re-written from mees/calvin at fa03f01 (MIT, (c) 2021 Oier Mees): `calvin_agent/evaluation/multistep_sequences.py` for order,
categories and rules, `conf/annotations/new_playtable_validation.yaml` for the sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import NamedTuple

COLOURS = ("red", "blue", "pink")

#: The world in words: led, lightbulb, slider, drawer, red_block, blue_block, pink_block, grasped, in this order.
Condition = Mapping[str, int | str]


class Rule(NamedTuple):
    """One way in which a task can be asked for.

    Attributes:
        needs: What must hold; of a tuple, one value.
        gives: What holds afterwards.
    """

    needs: Mapping[str, int | str | tuple[str, ...]]
    gives: Mapping[str, int | str]


class CalvinTask(NamedTuple):
    """One task.

    Attributes:
        sentence: What the agent is told in evaluations.
        category: No two tasks of a sequence are of one category.
        rules: When it may be asked for.
        targets: Segmentation names of what it is about; empty where that depends on the scene.
    """

    sentence: str
    category: int
    rules: tuple[Rule, ...]
    targets: tuple[str, ...] = ()


def _block(colour: str) -> str:
    return f"{colour}_block"


def _on_the_table(colour: str) -> tuple[Rule, ...]:
    return (Rule({_block(colour): "table", "grasped": 0}, {_block(colour): "table"}),)


def _lift_from(colour: str, place: str) -> tuple[Rule, ...]:
    gives = {_block(colour): "grasped", "grasped": 1}
    if place == "slider":
        # The door hides the half that it stands in front of.
        return tuple(
            Rule({_block(colour): f"slider_{half}", "slider": door, "grasped": 0}, gives)
            for half, door in (("left", "right"), ("right", "left"))
        )
    needs = {_block(colour): place, "grasped": 0} | ({"drawer": "open"} if place == "drawer" else {})
    return (Rule(needs, gives),)


def _place_in_slider() -> tuple[Rule, ...]:
    # Upstream's words: the half that the block is in afterwards is named like the door's side, which is the other half.
    return tuple(
        Rule(
            {_block(colour): "grasped", "slider": door, "grasped": 1}, {_block(colour): f"slider_{door}", "grasped": 0}
        )
        for colour in COLOURS
        for door in ("right", "left")
    )


def _place_in_drawer() -> tuple[Rule, ...]:
    return tuple(
        Rule({_block(colour): "grasped", "drawer": "open", "grasped": 1}, {_block(colour): "drawer", "grasped": 0})
        for colour in COLOURS
    )


def _stack() -> tuple[Rule, ...]:
    return tuple(
        Rule(
            {_block(top): "grasped", _block(bottom): "table", "grasped": 1},
            {_block(top): "stacked_top", _block(bottom): "stacked_bottom", "grasped": 0},
        )
        for top, bottom in permutations(COLOURS, 2)
    )


def _unstack() -> tuple[Rule, ...]:
    return tuple(
        Rule(
            {_block(top): "stacked_top", _block(bottom): "stacked_bottom", "grasped": 0},
            {_block(top): "table", _block(bottom): "table"},
        )
        for top, bottom in permutations(COLOURS, 2)
    )


def _push_into_drawer() -> tuple[Rule, ...]:
    away = ("slider_right", "slider_left")
    return tuple(
        Rule(
            {_block(other): away for other in COLOURS if other != colour}
            | {_block(colour): "table", "drawer": "open", "grasped": 0},
            {_block(colour): "drawer", "grasped": 0},
        )
        for colour in COLOURS
    )


def _change(key: str, before: int | str, after: int | str) -> tuple[Rule, ...]:
    return (Rule({key: before, "grasped": 0}, {key: after}),)


def _all_tasks() -> dict[str, CalvinTask]:
    """Return the tasks in upstream's order, which decides what its generator draws."""
    tasks: dict[str, CalvinTask] = {}
    for colour in COLOURS:
        for side in ("right", "left"):
            tasks[f"rotate_{colour}_block_{side}"] = CalvinTask(
                f"take the {colour} block and rotate it to the {side}", 1, _on_the_table(colour), (f"block_{colour}",)
            )
    for colour in COLOURS:
        for side in ("right", "left"):
            tasks[f"push_{colour}_block_{side}"] = CalvinTask(
                f"go push the {colour} block {side}", 1, _on_the_table(colour), (f"block_{colour}",)
            )
    for side, other in (("left", "right"), ("right", "left")):
        tasks[f"move_slider_{side}"] = CalvinTask(
            f"push the sliding door to the {side} side", 2, _change("slider", other, side), ("slider",)
        )
    tasks["open_drawer"] = CalvinTask(
        "pull the handle to open the drawer", 3, _change("drawer", "closed", "open"), ("drawer",)
    )
    tasks["close_drawer"] = CalvinTask(
        "push the handle to close the drawer", 3, _change("drawer", "open", "closed"), ("drawer",)
    )
    lifting = {
        "table": ("grasp and lift the {} block", 4),
        "slider": ("lift the {} block from the sliding cabinet", 5),
        "drawer": ("Take the {} block from the drawer", 6),
    }
    for colour in COLOURS:
        for place, (sentence, category) in lifting.items():
            tasks[f"lift_{colour}_block_{place}"] = CalvinTask(
                sentence.format(colour), category, _lift_from(colour, place), (f"block_{colour}",)
            )
    tasks["place_in_slider"] = CalvinTask("store the grasped block in the sliding cabinet", 7, _place_in_slider())
    tasks["place_in_drawer"] = CalvinTask("store the grasped block in the drawer", 7, _place_in_drawer())
    tasks["stack_block"] = CalvinTask("stack the grasped block", 10, _stack())
    tasks["unstack_block"] = CalvinTask("remove the stacked block", 11, _unstack())
    for key, words, verb, target in (
        ("lightbulb", "light bulb", "use the switch to turn {} the", "switch"),
        ("led", "led light", "press the button to turn {} the", "button"),
    ):
        for state, before, after in (("on", 0, 1), ("off", 1, 0)):
            tasks[f"turn_{state}_{key}"] = CalvinTask(
                f"{verb.format(state)} {words}", 8, _change(key, before, after), (target,)
            )
    tasks["push_into_drawer"] = CalvinTask("slide the block that it falls into the drawer", 9, _push_into_drawer())
    return tasks


#: Name -> task, in upstream's order.
TASKS = _all_tasks()


def after(condition: Condition, task: str) -> list[Condition]:
    """Return what the world may be after a task, one for each of its rules that applies; empty if none does."""
    return [{**condition, **rule.gives} for rule in TASKS[task].rules if _holds(condition, rule)]


def _holds(condition: Condition, rule: Rule) -> bool:
    return all(
        condition[key] in needed if isinstance(needed, tuple) else condition[key] == needed
        for key, needed in rule.needs.items()
    )
