"""The scripted expert solves LIBERO's tasks through ordinary actions, whoever looks, and tidies up behind itself."""

import numpy as np
import pytest

pytest.importorskip("libero", reason="needs flowbench[libero]")

from flowbench.agents.scripted import ScriptedAgent
from flowbench.agents.scripted.libero.goals import ordered
from flowbench.agents.scripted.libero.scene import Scene
from flowbench.errors import AgentError
from flowbench.registry import make
from flowbench.task import Scenario

#: One task of each suite: a short one, and one with everything that opens, turns or closes.
SHORT = {
    "libero-object": "pick_up_the_cream_cheese_and_place_it_in_the_basket",
    "libero-goal": "put_the_bowl_on_the_plate",
    "libero10": "STUDY_SCENE1_pick_up_the_book_and_place_it_in_the_back_compartment_of_the_caddy",
}
LONG = [
    ("libero-spatial", "pick_up_the_black_bowl_in_the_top_drawer_of_the_wooden_cabinet_and_place_it_on_the_plate"),
    ("libero-goal", "open_the_top_drawer_and_put_the_bowl_inside"),
    ("libero10", "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it"),
    ("libero10", "KITCHEN_SCENE4_put_the_black_bowl_in_the_bottom_drawer_of_the_cabinet_and_close_it"),
    ("libero10", "KITCHEN_SCENE6_put_the_yellow_and_white_mug_in_the_microwave_and_close_it"),
    ("libero90", "KITCHEN_SCENE10_put_the_butter_at_the_back_in_the_top_drawer_of_the_cabinet_and_close_it"),
]


class Played:
    """An episode as it went: every action, and how it ended."""

    def __init__(self, actions, success, steps):
        self.actions = actions
        self.success = success
        self.steps = steps


def play(suite, task, init_state, *, look=False):
    """Let the agent play one episode until the protocol ends it."""
    modalities = ("rgb",) if look else ()
    cameras = ("agentview",) if look else ()
    env = make(suite, task, cameras=cameras, modalities=modalities, image_size=(64, 64), lazy=True, privileged=True)
    agent = ScriptedAgent()
    observation, info = env.reset(options={"scenario": Scenario(0, init_state)})
    agent.reset(env.task, {}, 0)
    actions = []
    for step in range(1, env.rules.horizon + 1):
        if look and step % 10 == 1:
            assert observation["agentview/rgb"].any()
        actions.append(agent.act(observation))
        observation, _, terminated, truncated, info = env.step(actions[-1])
        if terminated or truncated:
            break
    env.close()
    return Played(np.array(actions), info["is_success"], step)


@pytest.mark.parametrize(("suite", "task"), SHORT.items())
def test_the_expert_solves_a_task(suite, task):
    played = play(suite, task, init_state=17)
    assert played.success
    assert played.steps < 120


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "task"), LONG)
def test_the_expert_solves_drawers_knobs_and_doors(suite, task):
    assert play(suite, task, init_state=17).success


def test_actions_are_within_bounds_and_do_not_depend_on_who_looks():
    task = SHORT["libero-goal"]
    unseen, again, seen = (play("libero-goal", task, 8, look=look) for look in (False, False, True))
    np.testing.assert_array_equal(unseen.actions, again.actions)
    np.testing.assert_array_equal(unseen.actions, seen.actions)
    assert np.abs(unseen.actions).max() <= 1.0
    assert unseen.success


def test_after_success_the_expert_lets_go_moves_away_and_the_goal_still_holds(simulators):
    simulator = simulators("libero-goal", 8)
    simulator.reset(Scenario(0, 8))
    for _ in range(10):
        simulator.step(simulator.settle_action)
    agent, scene = ScriptedAgent(), Scene(simulator)
    agent.reset(_task("libero-goal", 8), {}, 0)
    seen = _Seen(simulator)
    success_at, released_at = None, None
    for step in range(200):
        outcome = simulator.step(agent.act(seen))
        if outcome.success and success_at is None:
            success_at = step
            assert agent.finished is False
        if agent.finished:
            released_at = step
            break
    assert success_at is not None and released_at is not None and released_at > success_at
    simulator.update_poses()
    assert np.abs(scene.finger_positions()).min() > 0.03  # Wide open.
    assert scene.hand().position[2] > scene.points("akita_black_bowl_1")[:, 2].max() + 0.03
    assert outcome.success

    before = scene.hand().position
    for _ in range(20):
        outcome = simulator.step(agent.act(seen))
    simulator.update_poses()
    assert agent.finished and outcome.success
    assert np.linalg.norm(scene.hand().position - before) < 0.005


def test_a_goal_lost_after_success_is_repaired(simulators):
    simulator = simulators("libero-goal", 8)
    simulator.reset(Scenario(0, 8))
    agent, seen, scene = ScriptedAgent(), _Seen(simulator), Scene(simulator)
    agent.reset(_task("libero-goal", 8), {}, 0)
    _play_until_finished(simulator, agent, seen)
    address = simulator.model.joint("akita_black_bowl_1_joint0").qposadr[0]
    simulator.data.qpos[address : address + 3] += [-0.15, 0.02, 0.0]  # Somebody puts the bowl back beside the plate.
    for _ in range(3):
        outcome = simulator.step(agent.act(seen))
    assert not outcome.success and agent.finished is False
    _play_until_finished(simulator, agent, seen)
    assert scene.holds(("on", "akita_black_bowl_1", "plate_1"))


def test_a_predicate_without_a_skill_is_one_sentence():
    with pytest.raises(
        AgentError, match=r"no skill for the predicate 'juggle' of the goal \(juggle plate_1\); it knows: close"
    ):
        ordered([("on", "plate_1", "table"), ("juggle", "plate_1")])


def test_what_is_open_is_filled_before_it_is_closed():
    goals = [("close", "drawer"), ("in", "bowl", "drawer"), ("open", "drawer"), ("turnon", "stove")]
    assert [goal[0] for goal in ordered(goals)] == ["open", "turnon", "in", "close"]


class _Seen:
    """The one attribute of an observation that the expert reads."""

    def __init__(self, simulator):
        self.simulator = simulator


def _task(suite, index):
    from flowbench.registry import get_suite

    return get_suite(suite).tasks[index]


def _play_until_finished(simulator, agent, seen):
    for _ in range(300):
        simulator.step(agent.act(seen))
        if agent.finished:
            return
    raise AssertionError("the expert did not finish in 300 steps")
