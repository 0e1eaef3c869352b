"""Stepping, robot state and success as upstream reports them."""

import numpy as np
import pytest

import flowbench
from flowbench.errors import UnknownName
from flowbench.registry import get_suite
from flowbench.task import Scenario

pytest.importorskip("libero", reason="needs flowbench[libero]")

from flowbench.envs.libero.reset import fixture_seed


def test_proprio_is_what_upstream_tells_policies(simulators, make_upstream):
    from robosuite.utils.transform_utils import quat2axisangle

    task, scenario = get_suite("libero-goal").tasks[7], Scenario(0, 4)
    simulator, upstream = simulators("libero-goal", 7), make_upstream(get_suite("libero-goal").tasks[7].name)
    observation = upstream.start(fixture_seed(task.name, scenario), scenario.init_state)
    simulator.reset(scenario)
    actions = np.random.default_rng(0).uniform(-1, 1, (15, 7))
    for action in [None, *actions]:
        if action is not None:
            upstream.env.step(action)
            simulator.step(action)
            upstream.env.env.sim.forward()
            observation = upstream.env.env._get_observations(force_update=True)
        expected = np.concatenate(
            [
                observation["robot0_eef_pos"],
                quat2axisangle(observation["robot0_eef_quat"].copy()),
                observation["robot0_gripper_qpos"],
            ]
        )
        np.testing.assert_array_equal(simulator.proprio(), expected.astype(np.float32))
    assert simulator.proprio().shape == (8,) and simulator.proprio().dtype == np.float32


def test_actions_move_the_hand_along_world_axes_and_plus_one_closes_the_gripper(simulators):
    simulator = simulators("libero-object", 1)
    for axis in range(3):
        simulator.reset(Scenario(0, 0))
        for _ in range(10):
            simulator.step(simulator.settle_action)
        start = simulator.proprio()
        action = np.zeros(7)
        action[axis] = -1.0 if axis == 2 else 1.0
        for _ in range(10):
            simulator.step(action)
        moved_m = simulator.proprio()[:3] - start[:3]
        assert np.argmax(np.abs(moved_m)) == axis
        assert moved_m[axis] * action[axis] > 0.05
    for command, expected_opening_m in ((-1.0, 0.08), (1.0, 0.0)):
        for _ in range(25):
            simulator.step(np.array([0, 0, 0, 0, 0, 0, command]))
        left, right = simulator.proprio()[6:]
        assert abs((left - right) - expected_opening_m) < 0.005


def test_success_is_upstreams_predicate_and_lights_the_burner(simulators, look, opengl):
    simulator = simulators("libero-goal", 7)
    domain = simulator.control_env.env
    simulator.reset(Scenario(0, 0))
    assert simulator.step(simulator.settle_action)[:2] == (0.0, False)
    before, _ = look(simulator, "agentview")
    knob = domain.fixtures_dict["flat_stove_1"].joints[0]
    domain.sim.data.set_joint_qpos(knob, 1.0)
    assert simulator.step(simulator.settle_action)[:2] == (1.0, True)
    burning, _ = look(simulator, "agentview")
    assert (before.rgb != burning.rgb).any(axis=-1).sum() > 100
    # The light does not leak into the next episode.
    simulator.reset(Scenario(0, 0))
    simulator.step(simulator.settle_action)
    after, _ = look(simulator, "agentview")
    np.testing.assert_array_equal(after.rgb, before.rgb)


def test_the_episode_length_is_the_protocols_not_robosuites(simulators):
    simulator = simulators("libero-object", 1)
    simulator.reset(Scenario(0, 0))
    simulator.control_env.env.timestep = 998  # robosuite would refuse to go on after step 1000.
    for _ in range(4):
        simulator.step(simulator.settle_action)
    assert simulator.control_env.env.timestep == 1002


@pytest.mark.parametrize("protocol, gripper", [("openvla", -1.0), ("libero", 0.0)])
def test_settle_steps_send_the_protocols_own_no_op(protocol, gripper, simulators):
    expected = [0, 0, 0, 0, 0, 0, gripper]
    np.testing.assert_array_equal(simulators("libero-object", 1, protocol).settle_action, expected)


def test_objects_come_to_rest_within_the_settle_steps():
    env = flowbench.make("libero-object", "pick_up_the_cream_cheese_and_place_it_in_the_basket", cameras=())
    env.reset(options={"scenario": Scenario(0, 0)})
    data = env.simulator.control_env.env.sim.data
    target = data.get_joint_qvel("cream_cheese_1_joint0")
    assert np.abs(target[:3]).max() < 0.02
    env.close()


def test_no_opengl_is_needed_until_something_is_rendered(simulators):
    simulator = simulators("libero-goal", 7)
    suite = get_suite("libero-goal")
    fresh = suite.make_simulator(suite.tasks[7], suite.rules(), flowbench.simulator.RenderSettings(64, 64))
    fresh.reset(Scenario(0, 0))
    fresh.step(fresh.settle_action)
    fresh.view("agentview")
    assert fresh._renderer._gl is None
    assert simulator.control_env.env.sim._render_context_offscreen is None
    fresh.close()
    fresh.close()


def test_a_camera_that_other_libero_suites_have_is_refused_by_name():
    with pytest.raises(UnknownName, match="libero-goal has no camera 'paperview'"):
        flowbench.make("libero-goal", "turn_on_the_stove", cameras=("paperview",))
