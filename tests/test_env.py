"""The environment on top of every simulator, tested on the toy suite."""

from dataclasses import replace

import numpy as np
import pytest

import flowbench
from flowbench.camera import CameraParams
from flowbench.env import EnvConfig, TaskEnv, check_scenario
from flowbench.errors import ActionError, BadValue, FlowBenchError, MissingExtra, StaleObservation, UnknownName
from flowbench.registry import get_suite
from flowbench.task import ProtocolRules, Scenario

ALL = ("rgb", "depth", "segmentation", "calibration")
REST = np.array([0.0, 0.0, 0.0, -1.0], dtype=np.float32)


def make(task: str = "push", **config) -> TaskEnv:
    return flowbench.make("toy", task, **({"cameras": ("front+yaw5", "wrist"), "modalities": ALL} | config))


def actions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4))


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for key in first:
        assert np.array_equal(first[key], second[key]), key


# --- spaces and keys


def test_observations_are_flat_arrays_of_the_declared_space():
    env = make()
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert {key: (value.dtype.name, value.shape) for key, value in observation.items()} == {
        "front+yaw5/rgb": ("uint8", (96, 128, 3)),
        "front+yaw5/depth": ("float32", (96, 128)),
        "front+yaw5/segmentation": ("int32", (96, 128)),
        "front+yaw5/intrinsic_cv": ("float32", (3, 3)),
        "front+yaw5/extrinsic_cv": ("float32", (4, 4)),
        "wrist/rgb": ("uint8", (96, 128, 3)),
        "wrist/depth": ("float32", (96, 128)),
        "wrist/segmentation": ("int32", (96, 128)),
        "wrist/intrinsic_cv": ("float32", (3, 3)),
        "wrist/extrinsic_cv": ("float32", (4, 4)),
        "proprio": ("float32", (4,)),
    }
    assert info["segmentation_names"] == {1: "table", 2: "gripper", 3: "goal", 4: "block"}
    assert info["instruction"] == env.instruction == "push the block onto the green disc"
    assert info["is_success"] is False and info["success_now"] is False
    assert info["scenario"] == "s000"


def test_step_returns_what_gymnasium_asks_for():
    env = make()
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(REST)
    assert env.observation_space.contains(observation)
    assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
    assert info["is_success"] is False


def test_the_image_size_is_the_user_s():
    env = make(image_size=(40, 30), cameras=("side",))
    observation, _ = env.reset(seed=0)
    assert observation["side/rgb"].shape == (30, 40, 3)
    assert observation["side/intrinsic_cv"][:2, 2].tolist() == [19.5, 14.5]


def test_the_calibration_in_the_observation_is_that_of_the_environment():
    env = make(cameras=("wrist",))
    observation, _ = env.reset(seed=0)
    for _ in range(2):
        params = env.cameras["wrist"]
        assert np.allclose(observation["wrist/extrinsic_cv"], params.world_to_camera, atol=1e-6)
        assert np.allclose(observation["wrist/intrinsic_cv"], params.intrinsics)
        before = observation["wrist/extrinsic_cv"]
        observation, *_ = env.step(np.ones(4))
    assert not np.allclose(observation["wrist/extrinsic_cv"], before), "a mounted camera moves with the hand"


# --- wrong configuration


@pytest.mark.parametrize(
    ("config", "error", "sentence"),
    [
        (
            {"cameras": ("fornt",)},
            UnknownName,
            "Suite toy has no camera 'fornt'. Did you mean 'front'? Available: front, side, wrist. "
            "List them: flowbench list cameras toy",
        ),
        (
            {"modalities": ("rgb", "dept")},
            UnknownName,
            "There is no modality 'dept'. Did you mean 'depth'? Available: calibration, depth, flow, rgb, segmentation.",
        ),
        (
            {"render_mode": "human"},
            UnknownName,
            "There is no render mode 'human'. Available: depth_array, rgb_array, rgbd_tuple.",
        ),
        (
            {"profile": "fsat"},
            UnknownName,
            "There is no render profile 'fsat'. Did you mean 'fast'? Available: fast, full.",
        ),
        (
            {"image_view": "policies"},
            UnknownName,
            "There is no image view 'policies'. Did you mean 'policy'? Available: geometric, policy.",
        ),
        (
            {"image_size": (0, 96)},
            BadValue,
            "image_size is (0, 96); expected (width, height), each from 8 to 4096 pixels.",
        ),
        ({"image_size": (96,)}, BadValue, "image_size is (96,); expected (width, height)"),
        ({"image_size": 128}, BadValue, "image_size is 128; expected (width, height)"),
        ({"image_size": (128.5, 96)}, BadValue, "image_size is (128.5, 96); expected (width, height)"),
        (
            {"protocol": "defualt"},
            UnknownName,
            "Suite toy has no protocol 'defualt'. Did you mean 'default'? Available: default.",
        ),
        ({"camera": "front"}, UnknownName, "flowbench.make has no option 'camera'. Did you mean 'cameras'?"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(config, error, sentence):
    with pytest.raises(error) as caught:
        make(**config)
    assert sentence in str(caught.value)


def test_an_orbit_of_the_wrist_camera_is_refused_before_it_is_rendered():
    env = make(cameras=("wrist+az10",))
    with pytest.raises(FlowBenchError, match="Camera 'wrist' is mounted on the robot and cannot orbit"):
        env.reset(seed=0)


def test_a_suite_whose_simulator_is_missing_says_what_to_install():
    suite = replace(get_suite("toy"), name="absent", requires=("no_such_simulator",), extra="absent")
    with pytest.raises(MissingExtra) as caught:
        TaskEnv(suite, suite.tasks[0], suite.rules())
    assert str(caught.value) == (
        "Suite absent needs an extra that is not installed (no module named 'no_such_simulator'). "
        "Install it: pip install 'flowbench[absent]'"
    )


# --- reset


def test_reset_with_the_same_seed_gives_the_same_frames():
    env = make()
    first, _ = env.reset(seed=3)
    for action in actions(5):
        env.step(action)
    env.reset(seed=8)
    again, _ = env.reset(seed=3)
    assert_same(first, again)
    assert_same(first, make().reset(seed=3)[0])


def test_another_seed_gives_another_scenario():
    env = make()
    first, _ = env.reset(seed=3)
    second, info = env.reset(seed=4)
    assert info["scenario"] == "s004"
    assert not np.array_equal(first["front+yaw5/rgb"], second["front+yaw5/rgb"])


def test_reset_without_a_seed_goes_on_to_new_scenarios_that_the_first_seed_determines():
    def scenarios(env):
        keys = [env.reset(seed=1)[1]["scenario"]]
        return keys + [env.reset()[1]["scenario"] for _ in range(3)]

    first = scenarios(make(cameras=()))
    assert len(set(first)) == 4
    assert scenarios(make(cameras=())) == first


def test_a_scenario_can_be_given_itself():
    env = make(cameras=("front",))
    by_seed, _ = env.reset(seed=5)
    by_scenario, info = env.reset(options={"scenario": Scenario(5)})
    assert_same(by_seed, by_scenario)
    assert info["scenario"] == "s005"


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"init_sate": 1}, UnknownName, "There is no reset option 'init_sate'. Did you mean 'init_state'?"),
        (
            {"init_state": 2},
            BadValue,
            "Suite toy stores no initial states, so init_state 2 means nothing there. Choose scenarios by seed.",
        ),
        (
            {"init_state": "first"},
            BadValue,
            "Reset option init_state is 'first'; expected an index that counts from 0.",
        ),
        ({"init_state": -1}, BadValue, "Reset option init_state is -1; expected an index that counts from 0."),
        (
            {"scenario": 3},
            BadValue,
            "Reset option scenario is 3; expected a flowbench.Scenario, e.g. Scenario(seed=3).",
        ),
    ],
)
def test_a_wrong_reset_option_is_refused(options, error, sentence):
    with pytest.raises(error) as caught:
        make(cameras=()).reset(seed=0, options=options)
    assert sentence in str(caught.value)


def test_scenarios_of_a_suite_with_stored_initial_states_are_checked():
    suite = replace(get_suite("toy"), name="stored", init_states=50)
    check_scenario(suite, Scenario(0, 49))
    with pytest.raises(BadValue) as caught:
        check_scenario(suite, Scenario(0, 50))
    assert str(caught.value) == "Suite stored has initial states 0 to 49 for each task; 50 is not one of them."
    with pytest.raises(BadValue) as caught:
        check_scenario(suite, Scenario(7))
    assert str(caught.value) == (
        "Suite stored starts from stored initial states and Scenario(seed=7, init_state=None) names none. Give one of 0 to "
        "49, e.g. Scenario(seed=7, init_state=0)."
    )


def test_the_seed_chooses_a_stored_initial_state_and_init_state_names_it():
    suite = replace(get_suite("toy"), name="stored", init_states=50)
    env = TaskEnv(suite, suite.tasks[1], suite.rules(), EnvConfig())
    assert env.reset(seed=53)[1]["scenario"] == "i003-s053"
    assert env.reset(seed=53, options={"init_state": 8})[1]["scenario"] == "i008-s053"


def test_settle_steps_belong_to_reset_and_are_not_counted():
    suite = get_suite("toy")
    settled = ProtocolRules("settled", horizon=3, settle_steps=4)
    env = TaskEnv(suite, suite.task("push"), settled, EnvConfig(lazy=True))
    steps, step = [], env.simulator.step
    env.simulator.step = lambda action: (steps.append(action.tolist()), step(action))[1]
    observation, _ = env.reset(seed=0)
    assert steps == [REST.tolist()] * 4
    assert observation.step == 0
    outcomes = [env.step(REST)[2:4] for _ in range(3)]
    assert outcomes == [(False, False), (False, False), (False, True)]


# --- step


def test_step_before_reset_is_refused():
    env = make()
    with pytest.raises(FlowBenchError) as caught:
        env.step(REST)
    assert str(caught.value) == "push: call reset() before step()."
    with pytest.raises(FlowBenchError, match=r"push: call reset\(\) before get_state\(\)."):
        env.get_state()


def test_a_refused_action_names_step_and_task_and_changes_nothing():
    env = make(cameras=())
    env.reset(seed=0)
    env.step(REST)
    before = env.get_state()
    with pytest.raises(ActionError) as caught:
        env.step(np.array([0.0, 1.5, 0.0, 0.0]))
    assert str(caught.value) == (
        "The action of step 2 of push has dy = 1.5, outside [-1, 1]; return it in range, or allow clipping with "
        "--clip-actions."
    )
    with pytest.raises(ActionError, match=r"The action of step 2 of push has shape \(3,\); expected \(4,\)"):
        env.step(np.zeros(3))
    after = env.get_state()
    assert np.array_equal(before.simulator.physics, after.simulator.physics)
    assert before.tracker == after.tracker


def test_clipping_is_an_option_and_equals_the_clipped_action():
    clipping, strict = make(cameras=(), clip_actions=True), make(cameras=())
    clipping.reset(seed=0)
    strict.reset(seed=0)
    clipping.step(np.array([5.0, -5.0, 0.5, 0.0]))
    strict.step(np.array([1.0, -1.0, 0.5, 0.0]))
    assert np.array_equal(clipping.get_state().simulator.physics, strict.get_state().simulator.physics)


def test_the_episode_is_truncated_at_the_horizon():
    env = make(cameras=())
    env.reset(seed=0)
    ends = [env.step(REST)[2:4] for _ in range(env.rules.horizon)]
    assert ends[:-1] == [(False, False)] * (env.rules.horizon - 1)
    assert ends[-1] == (False, True)


def reach_the_ball(env) -> tuple[bool, bool, dict]:
    """Go to the goal of `reach` and return how the last step ended."""
    terminated = truncated = False
    info = {}
    while not (terminated or truncated):
        state = env.simulator.state
        motion = np.clip((state.goal - state.hand) / env.simulator.step_m, -1, 1)
        *_, terminated, truncated, info = env.step(np.array([*motion, -1.0]))
    return terminated, truncated, info


def test_success_terminates_the_episode():
    env = make("reach", cameras=())
    env.reset(seed=0)
    terminated, truncated, info = reach_the_ball(env)
    assert terminated and not truncated
    assert info["is_success"] is True and info["success_now"] is True
    assert env.get_state().tracker.steps < env.rules.horizon


def test_success_at_the_very_last_step_is_a_success_and_not_a_truncation():
    probe = make("reach", cameras=())
    probe.reset(seed=0)
    reach_the_ball(probe)
    needed = probe.get_state().tracker.steps
    suite = get_suite("toy")
    env = TaskEnv(suite, suite.task("reach"), ProtocolRules("tight", horizon=needed), EnvConfig())
    env.reset(seed=0)
    terminated, truncated, info = reach_the_ball(env)
    assert (terminated, truncated, info["is_success"]) == (True, False, True)


def test_the_strict_rule_holds_the_episode_open_until_success_has_lasted():
    suite = get_suite("toy")
    strict = ProtocolRules("strict", horizon=100, success_rule="avdc_strict")
    env = TaskEnv(suite, suite.task("reach"), strict, EnvConfig())
    env.reset(seed=0)
    terminated, _, info = reach_the_ball(env)
    tracker = env.get_state().tracker
    assert terminated and info["is_success"] is True
    assert tracker.steps == tracker.first_success + 9


# --- state


def test_set_state_goes_on_bit_for_bit():
    env = make()
    env.reset(seed=2)
    for action in actions(10):
        env.step(action)
    state = env.get_state()
    ahead = [env.step(action) for action in actions(10, seed=1)]
    env.reset(seed=9)
    observation = env.set_state(state)
    assert env.observation_space.contains(observation)
    for step, action in zip(ahead, actions(10, seed=1), strict=True):
        again = env.step(action)
        assert_same(step[0], again[0])
        assert step[1:] == again[1:]


def test_a_state_can_be_carried_to_another_environment_of_the_task():
    first, second = make(), make()
    first.reset(seed=2)
    for action in actions(10):
        observation, *_ = first.step(action)
    second.reset(seed=0)
    assert_same(second.set_state(first.get_state()), observation)


def test_a_state_is_a_copy():
    env = make(cameras=())
    env.reset(seed=2)
    state = env.get_state()
    before = state.simulator.physics.copy()
    env.step(np.ones(4))
    assert np.array_equal(state.simulator.physics, before)


# --- image views


def test_the_policy_view_is_the_mirrored_geometric_view_with_its_calibration():
    geometric, policy = make(), make(image_view="policy")
    upright, _ = geometric.reset(seed=1)
    mirrored, _ = policy.reset(seed=1)
    for camera in ("front+yaw5", "wrist"):
        for modality in ("rgb", "depth", "segmentation"):
            assert np.array_equal(mirrored[f"{camera}/{modality}"], upright[f"{camera}/{modality}"][:, ::-1])
        assert not np.array_equal(mirrored[f"{camera}/rgb"], upright[f"{camera}/rgb"])
        assert np.array_equal(mirrored[f"{camera}/extrinsic_cv"], upright[f"{camera}/extrinsic_cv"])
        focal, centre = upright[f"{camera}/intrinsic_cv"][0, [0, 2]]
        assert mirrored[f"{camera}/intrinsic_cv"][0, [0, 2]].tolist() == [-focal, 127 - centre]
        params = policy.cameras[camera]
        assert params.mirrored and not geometric.cameras[camera].mirrored
        points = params.unproject_image(mirrored[f"{camera}/depth"])[:, ::-1]
        assert np.allclose(points, geometric.cameras[camera].unproject_image(upright[f"{camera}/depth"]))


def test_the_protocol_chooses_the_image_view_unless_the_user_does():
    suite = get_suite("toy")
    mirrored = ProtocolRules("mirrored", horizon=10, image_view="policy")
    by_protocol = TaskEnv(suite, suite.tasks[0], mirrored, EnvConfig(cameras=("front",)))
    by_user = TaskEnv(suite, suite.tasks[0], mirrored, EnvConfig(cameras=("front",), image_view="geometric"))
    assert by_protocol.cameras["front"].mirrored
    assert not by_user.cameras["front"].mirrored


def test_a_suite_without_a_mirrored_policy_view_has_the_same_pixels_in_both():
    suite = replace(get_suite("toy"), policy_view_mirrored=False)
    frames = [
        TaskEnv(suite, suite.tasks[0], suite.rules(), EnvConfig(("front",), ALL, image_view=view)).reset(seed=0)[0]
        for view in ("geometric", "policy")
    ]
    assert_same(*frames)


# --- render


@pytest.mark.parametrize("image_view", ["geometric", "policy"])
def test_render_modes_show_the_first_camera(image_view):
    observation, _ = make(image_view=image_view).reset(seed=0)
    frames = {}
    for mode in TaskEnv.metadata["render_modes"]:
        env = make(image_view=image_view, render_mode=mode)
        env.reset(seed=0)
        frames[mode] = env.render()
    assert np.array_equal(frames["rgb_array"], observation["front+yaw5/rgb"])
    assert np.array_equal(frames["depth_array"], observation["front+yaw5/depth"])
    rgb, depth_m = frames["rgbd_tuple"]
    assert np.array_equal(rgb, frames["rgb_array"]) and np.array_equal(depth_m, frames["depth_array"])


def test_render_without_a_camera_shows_the_default_view_and_without_a_mode_nothing():
    env = make(cameras=(), render_mode="rgb_array")
    env.reset(seed=0)
    front, _ = make(cameras=("front",)).reset(seed=0)
    assert np.array_equal(env.render(), front["front/rgb"])
    silent = make()
    silent.reset(seed=0)
    assert silent.render() is None


# --- close


def test_close_can_be_called_twice_and_reset_starts_again():
    env = make(cameras=("front",))
    first, _ = env.reset(seed=0)
    env.close()
    env.close()
    with pytest.raises(FlowBenchError, match=r"call reset\(\) before step\(\)"):
        env.step(REST)
    assert_same(first, env.reset(seed=0)[0])


def test_cameras_are_calibrated_parameters():
    env = make()
    env.reset(seed=0)
    assert list(env.cameras) == ["front+yaw5", "wrist"]
    assert all(isinstance(params, CameraParams) for params in env.cameras.values())


def test_other_cameras_can_be_chosen_without_building_the_simulator_again():
    env = flowbench.make("toy", "reach", cameras=("front",), modalities=("rgb", "calibration"), lazy=True)
    first, _ = env.reset(seed=0)
    simulator = env.simulator
    env.set_cameras(("side+yaw5", "wrist"))
    with pytest.raises(StaleObservation):
        first.rgb()
    observation, _ = env.reset(seed=0)
    assert env.simulator is simulator
    assert set(observation) == {
        *(f"{camera}/{key}" for camera in ("side+yaw5", "wrist") for key in ("rgb", "intrinsic_cv", "extrinsic_cv")),
        "proprio",
    }
    assert observation.camera == "side+yaw5"
    assert env.observation_space.contains(dict(observation))
