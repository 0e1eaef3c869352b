"""Each skill that only libero90 asks for solves a task on an initial state that it was not tuned on."""

import pytest

pytest.importorskip("libero", reason="needs flowbench[libero]")

from flowbench.agents.scripted import ScriptedAgent
from flowbench.agents.scripted.libero.goals import ordered
from flowbench.registry import make
from flowbench.task import Scenario

INIT_STATE = 33
#: Skill: a task that cannot be solved without it.
SKILLS = {
    "turn a stove off": "KITCHEN_SCENE8_turn_off_the_stove",
    "open a microwave": "KITCHEN_SCENE7_open_the_microwave",
    "hook the handle of a low drawer": "KITCHEN_SCENE1_open_the_bottom_drawer_of_the_cabinet",
    "close below before opening above": "KITCHEN_SCENE4_close_the_bottom_drawer_of_the_cabinet_and_open_the_top_drawer",
    "lay a tall bottle into a drawer": "KITCHEN_SCENE5_put_the_ketchup_in_the_top_drawer_of_the_cabinet",
    "slide a pan under a shelf": "KITCHEN_SCENE9_put_the_frying_pan_under_the_cabinet_shelf",
    "slide a book onto a covered shelf": "STUDY_SCENE4_pick_up_the_book_on_the_right_and_place_it_on_the_cabinet_shelf",
    "tip a book in under a shelf": "STUDY_SCENE4_pick_up_the_book_on_the_right_and_place_it_under_the_cabinet_shelf",
    "build a stack where it belongs": (
        "LIVING_ROOM_SCENE4_stack_the_left_bowl_on_the_right_bowl_and_place_them_in_the_tray"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", SKILLS.values(), ids=SKILLS.keys())
def test_the_expert_can(task):
    env = make("libero90", task, cameras=(), modalities=(), lazy=True, privileged=True)
    agent = ScriptedAgent()
    observation, info = env.reset(options={"scenario": Scenario(0, INIT_STATE)})
    assert not info["success_now"]
    agent.reset(env.task, {}, 0)
    ended = False
    while not ended:
        observation, _, terminated, truncated, info = env.step(agent.act(observation))
        ended = terminated or truncated
    env.close()
    assert info["is_success"]


def test_what_others_stand_on_is_put_in_place_first():
    stack, bottom = ("on", "bowl_1", "bowl_2"), ("in", "bowl_2", "tray_1_contain_region")
    assert ordered([stack, bottom]) == [bottom, stack]


def test_two_things_that_stand_on_each_other_do_not_hang_the_order():
    goals = [("on", "bowl_1", "bowl_2"), ("on", "bowl_2", "bowl_1")]
    assert sorted(ordered(goals)) == goals


def test_an_empty_drawer_is_closed_before_another_is_opened():
    opened, closed = ("open", "cabinet_1_top_region"), ("close", "cabinet_1_bottom_region")
    assert ordered([opened, closed]) == [closed, opened]


@pytest.mark.parametrize("container", ["microwave_1", "cabinet_1_top_region"])
def test_what_is_filled_is_closed_last(container):
    filled = ("in", "mug_1", container if container.endswith("region") else f"{container}_heating_region")
    closed = ("close", container)
    assert ordered([closed, filled]) == [filled, closed]
