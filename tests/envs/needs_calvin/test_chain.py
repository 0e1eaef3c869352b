"""CALVIN's long-horizon protocol on the real environment: one instruction after the other, nothing reset between."""

import numpy as np

from flowbench.agents.controls import ZeroAgent
from flowbench.envs.calvin.initial_states import initial_state
from flowbench.envs.calvin.sequences import sequences
from flowbench.rollout import rollout
from flowbench.spec import EpisodeSpec
from flowbench.task import Scenario


def test_a_sequence_starts_in_its_official_state_with_its_first_instruction(make_env):
    env = make_env()
    for index in (0, 5):
        observation, info = env.reset(options={"init_state": index})
        state = initial_state(sequences()[index].condition)
        assert np.abs(env.simulator.core.scene.get_obs() - state.scene_obs).max() < 5e-3, (
            "but for one physics step of settling"
        )
        assert np.abs(observation.proprio[6:14] - state.robot_obs[6:14]).max() < 1e-4
        assert env.asked.name == sequences()[index].tasks[0]
        assert info["instruction"] == observation.instruction == env.asked.instruction and info["completed"] == 0


def test_success_is_measured_from_when_the_instruction_was_given(make_env):
    env = make_env()
    env.reset(options={"init_state": 1})
    assert env.asked.name == "turn_off_led"
    simulator = env.simulator
    button = simulator.core.scene.buttons[0]

    def press():
        simulator.core.p.resetJointState(button.uid, button.joint_index, 0.02, physicsClientId=simulator.core.cid)
        return env.step(np.array([0.0] * 6 + [1.0]))

    before = simulator.proprio()
    observation, reward, terminated, truncated, info = press()
    assert reward == 1 and not terminated and not truncated
    assert info["completed"] == 1 and not info["is_success"] and not info["success_now"]
    assert env.asked.name == "push_into_drawer" and observation.instruction == env.asked.instruction
    # The robot is where it was.
    assert np.abs(simulator.proprio() - before)[:3].max() < 0.01


def test_a_chain_ends_when_an_instruction_takes_longer_than_360_steps(make_env):
    env = make_env()
    episode = EpisodeSpec("calvin-d-d", "chain", "static", Scenario(0, 0))
    result = rollout(env, ZeroAgent(), episode, agent_name="zero").result
    assert (result.status, result.steps, result.completed) == ("failure", 360, 0)
    assert [tuple(link) for link in result.chain] == [(sequences()[0].tasks[0], False, 360)]
