import importlib.util

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

sb3 = pytest.importorskip("stable_baselines3")

import flowbench  # noqa: E402
from flowbench.agents.sb3.agent import SB3Agent  # noqa: E402
from flowbench.agents.sb3.inputs import PolicyInputs  # noqa: E402
from flowbench.agents.sb3.saved import read_saved  # noqa: E402
from flowbench.cli import main  # noqa: E402
from flowbench.errors import BadValue, DataError, MissingExtra, ShapeError, UnknownName  # noqa: E402
from flowbench.testing import check_agent  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*(is a pickle|are pickles)", "ignore:You are trying to run PPO")
PROPRIO = spaces.Box(-np.inf, np.inf, (4,), np.float32)
RGB = spaces.Box(0, 255, (36, 48, 3), np.uint8)
ACTION = spaces.Box(-1, 1, (4,), np.float32)


class Fake(gymnasium.Env):
    """Spaces without a simulator, for policies that are saved untrained."""

    def __init__(self, observation_space, action_space=ACTION):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, **kwargs):
        return self.observation_space.sample(), {}


def save(folder, space, action_space=ACTION, algo="PPO", name="model.zip", **options):
    policy = (
        "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy" if len(space.shape) == 3 else "MlpPolicy"
    )
    if algo != "PPO":
        options |= {"buffer_size": 8}
    model = getattr(sb3, algo)(policy, Fake(space, action_space), seed=0, policy_kwargs={"net_arch": [8]}, **options)
    model.save(folder / name)
    return str(folder / name)


def toy_episode(agent, camera="front", task="reach", seed=0, steps=3):
    """Return the actions of a short episode of the toy suite."""
    from flowbench.env import EnvConfig, TaskEnv
    from flowbench.registry import get_suite

    suite = get_suite("toy")
    cameras = dict.fromkeys((camera, *agent.needs.extra_cameras))
    config = EnvConfig(tuple(cameras), agent.needs.modalities, image_size=agent.needs.image_size, lazy=True)
    env = TaskEnv(suite, suite.task(task), suite.rules(), config)
    observation, _ = env.reset(seed=seed)
    agent.reset(env.task, env.cameras, seed)
    actions = []
    for _ in range(steps):
        actions.append(agent.act(observation))
        observation, *_ = env.step(actions[-1])
    env.close()
    return np.array(actions)


@pytest.mark.parametrize("algo", ["PPO", "A2C", "SAC", "TD3", "DDPG"])
def test_every_algorithm_with_continuous_actions_acts(tmp_path, algo):
    options = {"algo": algo} if algo != "A2C" else {}
    if algo == "A2C":
        model = sb3.A2C("MultiInputPolicy", Fake(spaces.Dict({"proprio": PROPRIO})), seed=0)
        model.save(tmp_path / "model.zip")
        path = str(tmp_path / "model.zip")
    else:
        path = save(tmp_path, spaces.Dict({"proprio": PROPRIO}), **options)
    actions = toy_episode(SB3Agent(path, algo.lower()))
    assert actions.shape == (3, 4)
    assert np.abs(actions).max() <= 1


def test_the_action_is_the_policys_own(tmp_path):
    path = save(tmp_path, spaces.Dict({"front/rgb": RGB, "proprio": PROPRIO}))
    model = sb3.PPO.load(path)
    env = flowbench.make("toy", "reach", cameras="front", modalities="rgb", image_size=(48, 36))
    observation, _ = env.reset(seed=0)
    # As VecTransposeImage would pass it on.
    seen = {"front/rgb": observation["front/rgb"].transpose(2, 0, 1), "proprio": observation["proprio"]}
    expected, _ = model.predict(seen, deterministic=True)
    env.close()
    np.testing.assert_allclose(toy_episode(SB3Agent(path, "PPO"), steps=1)[0], expected, rtol=1e-5)


def test_needs_are_read_from_the_observation_space(tmp_path):
    space = spaces.Dict(
        {"front/rgb": RGB, "wrist/rgb": RGB, "wrist/intrinsic_cv": spaces.Box(-1, 1, (3, 3)), "proprio": PROPRIO}
    )
    needs = SB3Agent(save(tmp_path, space), "PPO").needs
    assert needs.modalities == ("rgb", "calibration")
    assert needs.extra_cameras == ("front", "wrist")
    assert needs.image_size == (48, 36)
    assert SB3Agent(save(tmp_path, PROPRIO), "PPO").needs == flowbench.Needs()


def test_the_agent_contract_holds_with_images_in_either_channel_order(tmp_path):
    first = spaces.Box(0, 255, (3, 36, 48), np.uint8)
    for space in (spaces.Dict({"front/rgb": RGB, "proprio": PROPRIO}), first):
        path = save(tmp_path, space)
        check_agent(lambda path=path: SB3Agent(path, "PPO"), steps=2)


def test_a_policy_without_keys_sees_the_episodes_camera_or_proprio(tmp_path):
    by_image = SB3Agent(save(tmp_path, RGB), "PPO")
    assert by_image.needs.image_size == (48, 36)
    assert not np.array_equal(toy_episode(by_image, "front", steps=1), toy_episode(by_image, "side", steps=1))
    by_state = SB3Agent(save(tmp_path, PROPRIO), "PPO")
    assert np.array_equal(toy_episode(by_state, "front"), toy_episode(by_state, "side"))


def test_a_displaced_pose_of_the_policys_camera_is_shown_to_it(tmp_path):
    agent = SB3Agent(save(tmp_path, spaces.Dict({"front/rgb": RGB})), "PPO")
    assert not np.array_equal(toy_episode(agent, "front", steps=1), toy_episode(agent, "front+yaw10", steps=1))


def test_another_camera_is_refused(tmp_path):
    agent = SB3Agent(save(tmp_path, spaces.Dict({"front/rgb": RGB})), "PPO")
    with pytest.raises(
        BadValue, match="trained on camera front, and this episode is seen from side. .* --cameras front"
    ):
        toy_episode(agent, "side")


def test_sampled_actions_follow_the_seed_and_leave_torchs_generator_alone(tmp_path):
    import torch

    path = save(tmp_path, spaces.Dict({"proprio": PROPRIO}))
    agent = SB3Agent(path, "PPO", deterministic=False)
    before = torch.random.get_rng_state()
    first, again, other = toy_episode(agent, seed=1), toy_episode(agent, seed=1), toy_episode(agent, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, other)
    check_agent(lambda: SB3Agent(path, "PPO", deterministic=False), steps=2)


@pytest.mark.parametrize(
    "space, error, sentence",
    [
        (
            spaces.Dict({"front/rgb": RGB, "goal": PROPRIO}),
            UnknownName,
            "An observation has no key 'goal'. .*flowbench.make",
        ),
        (
            spaces.Dict({"front/rgb": RGB, "wrist/rgb": spaces.Box(0, 255, (40, 40, 3), np.uint8)}),
            BadValue,
            "differ in size .front/rgb 48x36, wrist/rgb 40x40.",
        ),
        (spaces.Discrete(3), BadValue, "The policy's observation is a Discrete"),
        (
            spaces.Dict({"front/rgb": spaces.Box(0, 1, (4, 3, 36, 48))}),
            BadValue,
            r"has shape \(4, 3, 36, 48\), which is no image",
        ),
    ],
)
def test_an_observation_space_of_another_world_is_named(space, error, sentence):
    with pytest.raises(error, match=sentence):
        PolicyInputs.of(space).needs()


def test_a_wrong_width_of_proprio_names_both_shapes(tmp_path):
    agent = SB3Agent(save(tmp_path, spaces.Dict({"proprio": spaces.Box(-1, 1, (9,))})), "PPO")
    with pytest.raises(
        ShapeError, match=r"proprio has shape \(4,\), but the policy was trained on proprio of shape \(9,\)"
    ):
        toy_episode(agent)


def test_stacked_frames_are_named(tmp_path):
    agent = SB3Agent(save(tmp_path, spaces.Dict({"front/rgb": spaces.Box(0, 255, (36, 48, 12), np.uint8)})), "PPO")
    with pytest.raises(
        ShapeError, match=r"shape \(36, 48, 3\), but .* \(12, 36, 48\). Stacked frames .* not supported"
    ):
        toy_episode(agent)


@pytest.mark.parametrize(
    "action_space, sentence",
    [
        (spaces.Box(-1, 1, (7,)), r"The policy's action is Box.*suite toy takes 4 components .dx, dy, dz, gripper."),
        (spaces.Box(-2, 2, (4,)), r"actions lie in \[\[-2.0, .*suite toy takes \[\[-1.0, "),
        (spaces.Discrete(6), r"action is Discrete\(6\), and suite toy takes 4 components"),
    ],
)
def test_actions_that_do_not_fit_are_named(tmp_path, action_space, sentence):
    agent = SB3Agent(save(tmp_path, spaces.Dict({"proprio": PROPRIO}), action_space), "PPO")
    with pytest.raises(BadValue, match=sentence.replace("[[", "[")):
        toy_episode(agent)


def test_a_choice_becomes_the_number_of_a_suite_with_one_discrete_component(tmp_path):
    from flowbench.task import ActionSpec, Task

    model = sb3.DQN("MlpPolicy", Fake(PROPRIO, spaces.Discrete(4)), buffer_size=8, seed=0)
    model.save(tmp_path / "dqn.zip")
    agent = SB3Agent(str(tmp_path / "dqn.zip"), "DQN")
    agent.reset(
        Task("rooms", "rooms", "find", "", ActionSpec.choice("rooms", ("ahead", "left", "right", "done"))), {}, 0
    )
    state = np.zeros(4, np.float32)
    expected, _ = model.predict(state, deterministic=True)
    assert agent._decode(agent._policy.predict(state, deterministic=True)[0]) == [float(expected)]
    with pytest.raises(BadValue, match=r"action is Discrete\(4\), and suite maze takes one of 2 \(ahead, back\)"):
        agent.reset(Task("maze", "maze", "find", "", ActionSpec.choice("maze", ("ahead", "back"))), {}, 0)


def test_the_policy_of_another_algorithm_says_where_it_comes_from(tmp_path):
    path = save(tmp_path, spaces.Dict({"proprio": PROPRIO}), algo="SAC")
    with pytest.raises(DataError, match="could not be loaded as PPO .* comes from stable_baselines3.sac.policies"):
        SB3Agent(path, "PPO")


def test_an_unknown_algorithm_names_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match="Agent sb3 has no algorithm 'PPOO'. Did you mean 'PPO'"):
        SB3Agent(save(tmp_path, PROPRIO), "PPOO")


def test_a_file_that_is_no_zip_and_one_that_is_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match="There is no policy at '.*none.zip': no such file"):
        SB3Agent(str(tmp_path / "none.zip"), "PPO")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(DataError, match="is no zip of Stable-Baselines3"):
        SB3Agent(str(tmp_path / "text.zip"), "PPO")


def test_spaces_are_read_without_running_what_the_zip_holds(tmp_path):
    import base64
    import json
    import pickle
    import zipfile

    space = spaces.Dict({"front/rgb": RGB, "proprio": PROPRIO})
    saved = read_saved(save(tmp_path, space))
    assert set(saved.observation_space.spaces) == {"front/rgb", "proprio"}
    assert saved.observation_space["front/rgb"].shape == (3, 36, 48)
    assert saved.action_space.shape == (4,)

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    content = {"observation_space": {":serialized:": base64.b64encode(pickle.dumps(Evil())).decode()}}
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("data", json.dumps(content))
    assert read_saved(str(tmp_path / "evil.zip")).observation_space is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("default:.*is a pickle")
def test_loading_warns_that_the_file_must_be_trusted(tmp_path):
    path = save(tmp_path, PROPRIO)
    with pytest.warns(UserWarning, match="model.zip is a pickle.*only files that you trust"):
        SB3Agent(path, "PPO")


def test_a_normalised_policy_needs_its_statistics(tmp_path):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    space = spaces.Dict({"proprio": PROPRIO})
    env = VecNormalize(DummyVecEnv([lambda: Fake(space)]))
    env.obs_rms["proprio"].mean[:] = 5.0
    env.save(str(tmp_path / "norm.pkl"))
    path = save(tmp_path, space)
    plain = toy_episode(SB3Agent(path, "PPO"), steps=1)
    with pytest.warns(UserWarning, match="model.zip and .*norm.pkl are pickles.*only files that you trust"):
        agent = SB3Agent(path, "PPO", vec_normalize=str(tmp_path / "norm.pkl"))
    normalised = toy_episode(agent, steps=1)
    assert not np.allclose(plain, normalised)
    with pytest.raises(BadValue, match="norm.pkl normalises Dict.*Use the file saved beside it"):
        SB3Agent(save(tmp_path, PROPRIO), "PPO", vec_normalize=str(tmp_path / "norm.pkl"))


def test_recurrent_policies_carry_their_state_through_an_episode(tmp_path):
    contrib = pytest.importorskip("sb3_contrib")
    model = contrib.RecurrentPPO("MultiInputLstmPolicy", Fake(spaces.Dict({"proprio": PROPRIO})), seed=0)
    model.save(tmp_path / "r.zip")
    check_agent(lambda: SB3Agent(str(tmp_path / "r.zip"), "RecurrentPPO"), steps=3)


def test_the_command_line_evaluates_a_zip(tmp_path, capsys, monkeypatch):
    path = save(tmp_path, spaces.Dict({"proprio": PROPRIO}))
    command = (
        f"flowbench eval --agent sb3 --checkpoint {path} --agent-args algo=PPO --suite toy --tasks reach --limit 1"
    )
    monkeypatch.setattr("sys.argv", [*command.split(), "--workers", "0", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "| overall" in capsys.readouterr().out


def test_algorithms_of_sb3_contrib_say_what_to_install(tmp_path):
    if importlib.util.find_spec("sb3_contrib"):
        pytest.skip("sb3-contrib is installed")
    with pytest.raises(MissingExtra, match="TQC is part of sb3-contrib. Install it: pip install sb3-contrib"):
        SB3Agent(save(tmp_path, PROPRIO), "tqc")
