"""What the wrapper promises on every player: these run on the stand-in, and on AI2-THOR's own player where there is one."""

import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

pytest.importorskip("ai2thor", reason="iTHOR: pip install 'flowbench[ithor]'")

import flowbench
from flowbench.agents.scripted import ScriptedAgent
from flowbench.camera import CameraOffset, CameraPose
from flowbench.data.collect import CollectOptions, collect
from flowbench.data.collect_spec import CollectSpec
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.replay import Replayer
from flowbench.env import EnvConfig, TaskEnv
from flowbench.envs.ithor.geometry import camera_to_world, unity_pose
from flowbench.envs.ithor.simulator import metric_depth
from flowbench.envs.ithor.suites import ACTIONS, AVDC_TARGETS, ITHOR12, ITHOR12_STANDIN, goal_of
from flowbench.errors import BadValue, UnknownName
from flowbench.flow.exact import exact_flow
from flowbench.flow.snapshot import snapshot_of
from flowbench.registry import suite_on
from flowbench.spec import AgentSpec
from flowbench.task import Scenario

AHEAD, RIGHT, LEFT, DONE = (np.array([float(index)]) for index in range(4))


# --- names


def test_the_twelve_are_avdcs_in_its_order():
    assert [task.name for task in ITHOR12.tasks] == [name for names in AVDC_TARGETS.values() for name in names]
    assert ACTIONS == ("MoveAhead", "RotateRight", "RotateLeft", "Done")
    assert ITHOR12.image_size == (64, 64)
    for rules in ITHOR12.protocols.values():
        assert (rules.horizon, rules.episodes, rules.success_rule) == (50, 20, "at_end")


def test_any_room_and_any_type_is_a_task():
    assert goal_of("FloorPlan7-Microwave") == ("FloorPlan7", "Microwave")
    task = ITHOR12_STANDIN.task("FloorPlan7-Microwave")
    assert (task.suite, task.instruction, task.targets) == ("ithor12-standin", "Microwave", ("Microwave",))
    for name in ("FloorPlan31-Microwave", "FloorPlan7", "FloorPlan7-microwave", "Microwave"):
        with pytest.raises(UnknownName):
            ITHOR12_STANDIN.task(name)


def test_the_backend_is_part_of_every_name_and_auto_is_refused():
    assert {suite_on("ithor12", name).name for name in ITHOR12.backends} == {
        "ithor12-unity", "ithor12-standin", "ithor12-recorded",
    }  # fmt: skip
    for suite in (suite_on("ithor12", "standin"), suite_on("ithor12", "recorded")):
        assert suite.caveat.startswith("another world: ") and suite.caveat.endswith(", not iTHOR")
        assert {task.suite for task in suite.tasks} == {suite.name}
    assert not suite_on("ithor12", "unity").caveat
    with pytest.raises(BadValue, match=r"--backend auto takes whatever is there.*unity, standin, recorded\.$"):
        suite_on("ithor12", "auto")
    with pytest.raises(UnknownName, match="Suite ithor12 has no backend 'standing'. Did you mean 'standin'"):
        suite_on("ithor12", "standing")
    with pytest.raises(BadValue, match="Suite toy has no backends to choose from; leave out --backend unity."):
        suite_on("toy", "unity")


# --- geometry


def test_poses_go_to_unity_and_back():
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = camera_to_world(dict(zip("xyz", rng.normal(size=3))), rng.uniform(0, 360), rng.uniform(-80, 80))
        roll = rng.uniform(-170, 170)
        turned = CameraPose("agent", (CameraOffset("roll", roll),))
        view = flowbench.camera.View(pose, 90.0, mounted=True)
        camera = turned.apply(view, np.zeros(3), 64, 64).camera_to_world
        unity = unity_pose(camera)
        again = camera_to_world(unity.position, unity.rotation["y"], unity.rotation["x"])
        # Unity's axes mirror ours, so its roll turns the other way.
        back = CameraPose("agent", (CameraOffset("roll", -unity.rotation["z"]),))
        np.testing.assert_allclose(back.apply(view._replace(camera_to_world=again), np.zeros(3), 64, 64).camera_to_world, camera, atol=1e-9)  # fmt: skip # noqa: E501
        assert math.isclose(unity.rotation["z"], -roll, abs_tol=1e-6)


def test_depth_is_metres_however_it_was_sent():
    depth = np.array([[1.0, 19.9]], np.float32)
    np.testing.assert_array_equal(metric_depth(depth, "Meters", 0.1, 20.0), depth)
    # The shader divides by far, and the client multiplies by far - near.
    for says in ("Normalized", None):
        np.testing.assert_allclose(metric_depth(depth, says, 0.1, 20.0), [[20 / 19.9, 0]], rtol=1e-6)
    assert metric_depth(np.array([[20.0]], np.float32), "Meters", 0.1, 20.0).tolist() == [[0.0]]


def test_intrinsics_are_avdcs(simulators, look, backend):
    _, params = look(simulators(backend))
    np.testing.assert_allclose(params.intrinsics, [[32, 0, 31.5], [0, 32, 31.5], [0, 0, 1]], atol=1e-12)


def test_depth_of_the_floor_is_where_the_floor_is(simulators, look, backend):
    simulator = simulators(backend)
    names = {name: index for index, name in simulator.segmentation_names().items()}
    seen = 0
    for _ in range(8):
        simulator.step(RIGHT)
        frame, params = look(simulator, "agent", "depth", "segmentation")
        ground = frame.segmentation == names["Floor"]
        heights = params.unproject_image(frame.depth_m)[ground][:, 2]
        seen += len(heights)
        # A factor of far / (far - near) too much would put it 8 mm off.
        assert np.all(np.abs(heights) < 0.004)
    assert seen > 500


def test_displaced_cameras_show_the_same_room_upright(simulators, look, backend):
    simulator = simulators(backend)
    plain, params = look(simulator)
    rolled, _ = look(simulator, "agent+roll180")
    assert np.abs(rolled.rgb[::-1, ::-1].astype(int) - plain.rgb).mean() < 3
    for offsets in ("yaw20", "pitch15", "roll30", "x0.1", "y-0.1+z0.1", "fovy-30"):
        moved, other = look(simulator, f"agent+{offsets}")
        points = params.unproject_image(plain.depth_m)
        pixels, depth_m = other.project(points)
        columns, rows = np.rint(pixels).astype(int).reshape(-1, 2).T
        inside = (depth_m.ravel() > 0) & (columns >= 0) & (columns < 64) & (rows >= 0) & (rows < 64)
        difference = np.abs(moved.depth_m[rows[inside], columns[inside]] - depth_m.ravel()[inside])
        assert inside.sum() > 500 and np.median(difference) < 0.02, offsets
    again, _ = look(simulator)
    np.testing.assert_array_equal(again.rgb, plain.rgb)


def test_exact_flow_of_a_step_carries_one_picture_into_the_next(simulators, backend):
    cv2 = pytest.importorskip("cv2")
    simulator = simulators(backend, task="Laptop")
    errors, unmoved = [], []
    for action in (RIGHT, AHEAD, LEFT, LEFT, AHEAD, RIGHT, RIGHT, RIGHT):
        before = snapshot_of(simulator, CameraPose("agent"), 64, 64, rgb=True)
        simulator.step(action)
        after = snapshot_of(simulator, CameraPose("agent"), 64, 64, rgb=True)
        flow = exact_flow(before, after)
        columns, rows = np.meshgrid(np.arange(64), np.arange(64))
        x, y = (
            grid.astype(np.float32) + np.nan_to_num(flow.flow_px[..., axis])
            for axis, grid in enumerate((columns, rows))
        )
        warped = cv2.remap(after.rgb, x, y, cv2.INTER_LINEAR).astype(int)
        if flow.visible.sum() > 500:
            errors.append(np.median(np.abs(warped - before.rgb)[flow.visible]))
            unmoved.append(np.median(np.abs(after.rgb.astype(int) - before.rgb)[flow.visible]))
    assert len(errors) >= 3 and np.mean(errors) < 0.35 * np.mean(unmoved)


# --- episodes


def test_starts_are_avdcs_draws(simulators, backend):
    simulator = simulators(backend)
    client = simulator._client
    client.reset("FloorPlan1")
    start = client.event.metadata["agent"]
    places = client.do("GetReachablePositions").metadata["actionReturn"]
    for seed in (0, 7, 19):
        simulator.reset(Scenario(seed))
        # As AVDC writes it: RandomState(seed).choice(positions).
        expected = np.random.RandomState(seed).choice(places)
        assert (simulator.pose.x, simulator.pose.z) == pytest.approx((expected["x"], expected["z"]), abs=1e-3)
        assert simulator.pose.yaw_deg == pytest.approx(start["rotation"]["y"], abs=1e-3)


def test_turns_are_45_degrees_and_steps_end_on_the_grid(simulators, walk, backend):
    simulator = simulators(backend)
    before = simulator.pose
    simulator.step(RIGHT)
    assert (simulator.pose.yaw_deg - before.yaw_deg) % 360 == pytest.approx(45, abs=1e-3)
    simulator.step(LEFT)
    assert simulator.pose == pytest.approx(before, abs=1e-3)
    walk(simulator, 30)
    assert (simulator.pose.x / 0.25) % 1 == pytest.approx(0, abs=1e-3) or (simulator.pose.x / 0.25) % 1 > 0.999


def test_a_blocked_step_changes_nothing_and_is_felt(simulators, backend):
    simulator = simulators(backend)
    for _ in range(40):
        before = simulator.pose
        simulator.step(AHEAD)
        if not simulator.proprio()[1]:
            break
    assert simulator.proprio().tolist() == [simulator.pose.horizon_deg, 0.0]
    assert simulator.pose == before
    simulator.step(RIGHT)
    assert simulator.proprio()[1] == 1.0


def test_states_are_restored_exactly_with_what_they_show(simulators, look, walk, backend):
    simulator = simulators(backend)
    walk(simulator, 10, seed=1)
    state, (frame, _) = simulator.get_state(), look(simulator, "agent", "rgb", "depth", "segmentation")
    ahead = [simulator.get_state().physics.tolist() for _ in walk(simulator, 6, seed=2)]
    simulator.reset(Scenario(3))
    simulator.set_state(state)
    np.testing.assert_allclose(simulator.get_state().physics, state.physics, atol=1e-4)
    again, _ = look(simulator, "agent", "rgb", "depth", "segmentation")
    np.testing.assert_array_equal(again.rgb, frame.rgb)
    np.testing.assert_array_equal(again.segmentation, frame.segmentation)
    walk(simulator, 6, seed=2)
    np.testing.assert_allclose(simulator.get_state().physics, ahead[-1], atol=1e-4)


def test_who_does_not_look_gets_no_picture_and_who_looks_gets_the_next_one_with_the_action(simulators, look, backend):
    simulator = simulators(backend)
    simulator.step(RIGHT)
    assert simulator._client.event.frame is None
    look(simulator)
    simulator.step(RIGHT)
    assert simulator._client.event.frame is not None and simulator._client.event.instance_segmentation_frame is None
    simulator.step(RIGHT)
    assert simulator._client.event.frame is None


def test_what_is_seen_does_not_depend_on_when_one_looked(simulators, look, walk, backend):
    simulator = simulators(backend)
    walk(simulator, 5)
    late, _ = look(simulator, "agent", "rgb", "depth", "segmentation")
    simulator.reset(Scenario(0))
    for _ in range(5):
        look(simulator, "agent", "rgb")
        walk(simulator, 0)
    simulator.reset(Scenario(0))
    for choice in np.random.default_rng(0).integers(3, size=5):
        look(simulator, "agent", "rgb", "segmentation")
        simulator.step(np.array([choice]))
    always, _ = look(simulator, "agent", "rgb", "depth", "segmentation")
    for one, other in zip(late, always, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pictures_are_arrays_that_torch_takes(simulators, look, backend):
    torch = pytest.importorskip("torch")
    frame, _ = look(simulators(backend), "agent", "rgb", "depth", "segmentation")
    for image in (frame.rgb, frame.depth_m, frame.segmentation):
        assert image.flags.writeable and image.flags.c_contiguous
        torch.from_numpy(image)


def test_a_target_that_is_not_in_the_room_names_those_that_are(simulators, backend):
    with pytest.raises(BadValue, match=r"FloorPlan1 has no Television. It has: .*Toaster"):
        simulators(backend, task="FloorPlan1-Television")


def test_success_is_what_the_metadata_says_and_done_ends_the_episode(simulators, backend):
    simulator = simulators(backend)
    assert not simulator.step(RIGHT).over
    outcome = simulator.step(DONE)
    assert outcome.over and outcome.success == simulator.target_visible and outcome.reward == float(outcome.success)
    pose = simulator.poses_seeing_target()[0]
    values = simulator.get_state().physics.copy()
    values[[0, 2, 3]] = pose.x, pose.z, pose.yaw_deg
    simulator.set_state(replace(simulator.get_state(), physics=values))
    assert simulator.target_visible and simulator.step(DONE).reward == 1.0


def test_avdcs_rule_takes_the_hanger_for_the_paper_and_ours_does_not(simulators, backend):
    paper = simulators(backend, task="ToiletPaper", protocol="avdc")
    objects = paper._event.metadata["objects"]
    chosen = objects[paper._index]
    assert chosen["objectType"] == next(thing["objectType"] for thing in objects if "ToiletPaper" in thing["name"])
    assert chosen["objectType"] == "ToiletPaperHanger"
    assert paper.get_state().physics[-1] == paper._index
    ours = simulators(backend, task="ToiletPaper", protocol="clean")
    assert ours._index is None and ours.get_state().physics[-1] == -1
    seeing = {thing["objectType"] for thing in objects if thing["visible"] and "ToiletPaper" in thing["name"]}
    assert ours.target_visible == ("ToiletPaper" in seeing)


def test_the_expert_says_done_where_the_target_is_seen(simulators, backend):
    suite = suite_on("ithor12", backend)
    simulators(backend)._client.do("Pass")
    for name in ("Spatula", "FloorPlan13-Toaster"):
        env = TaskEnv(
            suite, suite.task(name), suite.rules(), EnvConfig(cameras=(), modalities=(), lazy=True, privileged=True)
        )
        agent = ScriptedAgent()
        for seed in (0, 1):
            observation, _ = env.reset(seed=seed)
            agent.reset(env.task, {}, seed)
            over = False
            while not over:
                observation, reward, over, truncated, info = env.step(agent.act(observation))
                assert not truncated
            assert info["is_success"] and reward == 1.0
        env.close()


# --- the harness on the stand-in


def test_gymnasium_knows_every_target_and_steps_are_whole_numbers(opengl):
    env = gymnasium.make("FlowBench/ithor12-standin-Laptop-v0", cameras=("agent",), modalities=("rgb", "flow"))
    env.reset(seed=1)
    assert env.action_space == gymnasium.spaces.Discrete(4)
    observation, reward, terminated, _, info = env.step(1)
    assert observation["agent/rgb"].shape == (64, 64, 3) and not terminated and "is_success" in info
    # The room turns left in the picture when the agent turns right; where a point was, is to the right... of nowhere at 45 deg.
    assert np.abs(observation["agent/flow"]).max() > 10
    env.close()


def test_collected_walks_replay_bit_for_bit_with_their_pictures(opengl, tmp_path):
    spec = CollectSpec(
        suite="ithor12-standin", protocol="clean", agent=AgentSpec("scripted"), tasks=("Bread",), cameras=("agent",),
        seeds=tuple(range(10_000, 10_010)), demonstrations=2, max_attempts=10,
    )  # fmt: skip
    collect(spec, tmp_path / "walks.h5", CollectOptions(workers=0, progress=False))
    with FlowBenchHdf5(tmp_path / "walks.h5") as reader:
        actions = reader.read(0, "actions", slice(None))
        assert actions.shape[1] == 1 and actions[-1] == 3
        assert reader.read(0, "agent/rgb", slice(None)).shape == (len(actions), 64, 64, 3)
        replayer = Replayer(reader)
        for demo in range(2):
            replay = replayer.replay(demo)
            assert replay.success and replay.states == "equal" and not replay.pictures and replay.pictures_compared
        replayer.close()


def test_a_player_that_was_killed_is_started_again_by_the_next_reset(opengl, ends):
    import os
    import signal

    from flowbench.errors import SimulatorLost

    env = flowbench.make("ithor12-standin", "Toaster", cameras=(), modalities=())
    env.reset(seed=2)
    before = env.simulator.get_state().physics
    pid = env.simulator._client.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(SimulatorLost, match="The standin player .* was killed by SIGKILL"):
        env.step(0)
    env.reset(seed=2)
    np.testing.assert_array_equal(env.simulator.get_state().physics, before)
    again = env.simulator._client.pid
    env.close()
    assert ends(pid) and ends(again)
