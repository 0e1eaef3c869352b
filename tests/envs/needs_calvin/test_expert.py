"""The scripted expert on the real CALVIN: every task alone, whole chains, demonstrations."""

import numpy as np
import pytest

from flowbench.agents.scripted import ScriptedAgent
from flowbench.envs.calvin.sequences import sequences
from flowbench.envs.calvin.tasks import TASKS
from flowbench.errors import AgentError, BadValue
from flowbench.rollout import rollout
from flowbench.spec import EpisodeSpec
from flowbench.task import Scenario


def run(env, agent, scenario):
    """Run one episode; return its result and the actions that were taken."""
    episode = EpisodeSpec(env.suite.name, env.task.name, "static", scenario)
    actions = []
    step = env.step

    def recorded(action):
        actions.append(np.array(action))
        return step(action)

    env.step = recorded
    try:
        return rollout(env, agent, episode, agent_name="scripted").result, actions
    finally:
        env.step = step


#: One task per skill in every run; the others with the slow tests.
OFTEN = (
    *("rotate_red_block_left", "push_blue_block_right", "move_slider_left", "open_drawer", "lift_pink_block_table"),
    *("lift_blue_block_slider", "lift_red_block_drawer", "place_in_slider", "stack_block", "push_into_drawer"),
    *("turn_on_lightbulb", "turn_off_led"),
)


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=() if task in OFTEN else pytest.mark.slow) for task in TASKS]
)
def test_the_expert_solves_every_task_alone_by_actions_within_bounds(make_env, task):
    env = make_env("calvin-tasks", task, privileged=True)
    agent = ScriptedAgent()
    results = []
    for seed in range(2):
        result, actions = run(env, agent, Scenario(seed))
        results.append(result.status)
        assert np.abs(actions).max() <= 1
        if result.status == "success":
            break
    assert "success" in results and "error" not in results


def test_the_expert_carries_out_a_whole_sequence_and_a_second_run_is_the_same(make_env):
    env = make_env(privileged=True)
    agent = ScriptedAgent()
    first, actions = run(env, agent, Scenario(0, 0))
    assert first.status == "success" and first.completed == 5 and first.total_reward == 5
    assert [link.task for link in first.chain] == list(sequences()[0].tasks)
    assert sum(link.steps for link in first.chain) == first.steps == first.first_success
    run(env, agent, Scenario(0, 8))
    again, same_actions = run(env, agent, Scenario(0, 0))
    assert again.outcome == first.outcome and np.array_equal(actions, same_actions)


def test_the_actions_alone_lead_to_the_same_states(make_env):
    env = make_env("calvin-tasks", "open_drawer", privileged=True)
    _, actions = run(env, ScriptedAgent(), Scenario(1))
    end = env.simulator.get_state().physics
    env.reset(options={"scenario": Scenario(1)})
    for action in actions:
        env.step(action)
    assert np.array_equal(env.simulator.get_state().physics, end)


def test_speed_varies_with_the_seed_when_asked(make_env):
    env = make_env("calvin-tasks", "turn_on_led", privileged=True)
    lengths = {run(env, ScriptedAgent(speed_variety=0.6), Scenario(0))[0].steps}
    agent = ScriptedAgent(speed_variety=0.6)
    for seed in range(3):
        agent.reset(env.task, {}, seed)
        lengths.add(round(agent._expert._pace, 3))
    assert len(lengths) == 4
    with pytest.raises(BadValue, match="speed_variety is 2; give a number from 0 to 0.8"):
        ScriptedAgent(speed_variety=2)


def test_the_expert_says_that_it_moves_relatively(make_env):
    env = make_env(protocol="absolute", privileged=True)
    with pytest.raises(AgentError, match="moves by relative actions; choose the protocol 'exact' or 'official'"):
        ScriptedAgent().reset(env.task, {}, 0)
