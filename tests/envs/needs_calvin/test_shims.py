"""Each shim around the official package, with the failure that it prevents."""

import subprocess
import sys

import numpy as np
import pytest

from flowbench.envs.calvin import clients, upstream
from flowbench.task import Scenario

STILL = np.array([0.0] * 6 + [1.0])


@pytest.fixture
def cores(root):
    """Build upstream environments, and free them."""
    built = []

    def build(scene="D"):
        built.append(upstream.build(root, scene))
        return built[-1]

    yield build
    for core in built:
        clients.disconnect(core)


def bodies(core):
    return core.p.getNumBodies(physicsClientId=core.cid)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_upstream_alone_asks_for_packages_that_nobody_needs(root):
    plain = run(f"import sys; sys.path.insert(0, {str(root)!r}); import calvin_env.envs.play_table_env")
    if plain.returncode == 0:
        pytest.skip("gym, git and quaternion are installed here, so that upstream's imports succeed")
    assert "ModuleNotFoundError" in plain.stderr


def test_importing_leaves_no_half_gym_behind_and_writes_nothing(root):
    before = set(root.rglob("*"))
    code = (
        "import sys; from pathlib import Path; from flowbench.envs.calvin import upstream\n"
        "there = {name for name in ('gym', 'git', 'quaternion') if name in sys.modules}\n"
        f"module = upstream.load(Path({str(root)!r}))\n"
        "print(sorted({name for name in ('gym', 'git', 'quaternion') if name in sys.modules} - there))\n"
        "print(hasattr(module, 'PlayTableSimEnv'))"
    )
    done = run(code)
    assert done.stdout.splitlines() == ["[]", "True"], done.stderr
    assert done.stderr == "", "PyBullet's and Hydra's chatter is kept away"
    assert set(root.rglob("*")) == before, "the checkout is never written to"


def test_upstream_s_commit_cannot_be_asked_of_an_archive(root):
    upstream.load(root)
    utils = sys.modules["calvin_env.utils.utils"]
    with pytest.raises(Exception, match="."):
        utils.get_git_commit_hash("/")
    assert sys.modules["calvin_env.envs.play_table_env"].get_git_commit_hash("/") == "unknown"


def test_upstream_s_own_configuration_needs_a_data_set(root):
    environment = upstream.load(root)
    with pytest.raises(FileNotFoundError, match="merged_config.yaml"):
        environment.get_env(root, show_gui=False)


def test_the_configuration_is_the_official_validation_one(root):
    config = upstream.config(root, "D")
    assert config["use_egl"] is False and config["use_scene_info"] is True and not config["cameras"]
    assert (config["bullet_time_step"], config["control_freq"]) == (240.0, 30)
    robot, scene = config["robot_cfg"], config["scene_cfg"]
    assert robot.filename == "franka_panda/panda_longer_finger.urdf" and robot.tcp_link_id == 15
    assert list(robot.gripper_joint_ids) == [9, 11] and robot.use_target_pose and not robot.use_ik_fast
    assert list(robot.base_position) == [-0.34, -0.46, 0.24] and robot.euler_obs
    assert scene.data_path == str(root / "data"), "an installed package has no data beside it"
    assert list(scene.objects.movable_objects) == ["block_red", "block_blue", "block_pink"]
    assert list(upstream.config(root, "A")["scene_cfg"].objects.movable_objects)[0] == "block_pink"


def test_closing_twice_would_disconnect_somebody_else_s_world(cores):
    import pybullet

    first = cores()
    number = first.cid
    first.p.disconnect(physicsClientId=number)
    second = cores()
    assert second.cid == number, "PyBullet gives the number to the next world"
    # What upstream's `__del__` does once the first is collected.
    upstream_close = type(first).close
    with upstream.quiet():
        upstream_close(first)
    with pytest.raises(pybullet.error, match="Not connected"):
        bodies(second)
    first.cid = second.cid = -1
    first.p._client = second.p._client = -1


def test_a_world_is_freed_once(cores):
    import gc

    first = cores()
    clients.disconnect(first)
    second = cores()
    clients.disconnect(first)
    del first
    gc.collect()
    assert bodies(second) == 7


def test_without_client_numbers_the_second_robot_s_base_goes_into_the_first_world(cores, root, monkeypatch):
    import pybullet

    upstream.load(root)
    for name in ("robot.robot", "robot.mixed_ik"):
        monkeypatch.setattr(sys.modules[f"calvin_env.{name}"], "p", pybullet)
    # World 0 has to be there for upstream's calls to go somewhere.
    anchor = pybullet.connect(pybullet.DIRECT)
    first, second = cores(), cores()
    counts = {core.cid: bodies(core) for core in (first, second)}
    if anchor == 0:
        counts[0] = pybullet.getNumBodies(physicsClientId=0)
    pybullet.disconnect(physicsClientId=anchor)
    assert any(count != 7 for count in counts.values())


def test_two_worlds_live_beside_each_other(cores):
    first, second = cores("D"), cores("A")
    assert (bodies(first), bodies(second)) == (7, 7)
    for core in (first, second):
        with clients.meaning(core.cid):
            core.reset()
            core.step(STILL)
    clients.disconnect(second)
    with clients.meaning(first.cid):
        first.step(STILL)
    assert bodies(first) == 7


def test_upstream_s_seed_does_not_reach_its_blocks(cores):
    core = cores()

    def poses(seed):
        with clients.meaning(core.cid):
            seed()
            core.reset()
        return core.scene.get_obs()[6:]

    assert not np.array_equal(poses(lambda: core.seed(3)), poses(lambda: core.seed(3)))
    ours = [poses(lambda: upstream.seed(core, np.random.default_rng(3))) for _ in range(2)]
    # The rest is the contact solver's memory.
    assert np.allclose(ours[0], ours[1], atol=1e-2)


def press_button(core, presses=1):
    """Press the LED's button by its joint, and return the light after each press."""
    button, lights = core.scene.buttons[0], []
    for _ in range(presses):
        for position in (0.02, 0.0):
            core.p.resetJointState(button.uid, button.joint_index, position, physicsClientId=core.cid)
            core.scene.step()
        lights.append(core.scene.lights[1].get_state())
    return lights


def test_after_upstream_s_reset_a_lit_led_needs_two_presses(cores):
    core = cores()
    with clients.meaning(core.cid):
        core.reset()
        assert press_button(core) == [1]
        core.reset()
        assert core.scene.lights[1].get_state() == 0
        assert press_button(core, 2) == [0, 1]
        # What a reset does here: the world is loaded anew.
        core.load()
        core.reset()
        assert press_button(core) == [1]


def test_upstream_s_reset_keeps_the_last_gripper_command(simulators):
    simulator = simulators()
    core = simulator.core
    closing = np.array([0.0] * 6 + [-1.0])
    with clients.meaning(core.cid):
        core.step(closing)
        core.reset()
    assert core.robot.get_observation()[0][14] == -1
    simulator.reset(Scenario(0, 0))
    assert simulator.proprio()[14] == 1


def test_upstream_takes_no_gripper_command_but_one_and_minus_one(simulators):
    simulator = simulators()
    with pytest.raises(AssertionError), clients.meaning(simulator.core.cid):
        simulator.core.step(np.array([0.0] * 6 + [0.3]))
    for command, taken in ((0.3, 1), (0.0, -1), (-0.99, -1)):
        simulator.step(np.array([0.0] * 6 + [command]))
        assert simulator.proprio()[14] == taken


def test_upstream_s_reset_is_not_exact_and_ours_is(simulators):
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 7))

    def after(protocol):
        simulator = simulators(protocol=protocol)
        ends = []
        for scenario in (Scenario(0, 0), Scenario(0, 1), Scenario(0, 0)):
            simulator.reset(scenario)
            for action in actions[:30] if scenario.init_state else actions:
                simulator.step(action)
            ends.append(simulator.get_state().physics)
        return ends[0], ends[2]

    first, again = after("exact")
    assert np.array_equal(first, again)
    first, again = after("official")
    assert not np.array_equal(first, again)


def test_the_angle_between_quaternions_is_ours_and_right(root):
    upstream.load(root)
    angle = sys.modules["calvin_env.robot.mixed_ik"].angle_between_quaternions
    assert angle(np.array([0, 0, 0, 1.0]), np.array([0, 0, np.sin(0.2), np.cos(0.2)])) == pytest.approx(0.4)
