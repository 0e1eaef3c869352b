"""The toy suite: exact pictures, exact flow, and mechanics that obey their own laws."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

import flowbench
from flowbench.agents.scripted import ScriptedAgent
from flowbench.camera import CameraPose, random_pose
from flowbench.envs.toy import physics, scene, tasks
from flowbench.envs.toy.flow import exact_flow
from flowbench.envs.toy.physics import BLOCK_HALF_M, FINGER_RADIUS_M, STEP_M, ToyState, advance
from flowbench.envs.toy.raycast import Box, Cylinder, Solid, Sphere, cast
from flowbench.envs.toy.suite import TOY
from flowbench.simulator import SimulatorState

ALL = ("rgb", "depth", "segmentation", "calibration")
TASK_NAMES = [task.name for task in TOY.tasks]
RIGHT, CLOSE, OPEN = np.array([1.0, 0, 0, 1]), np.array([0, 0, 0, 1.0]), np.array([0, 0, 0, -1.0])


def make(task: str, **config):
    return flowbench.make("toy", task, **({"cameras": ("front", "side", "wrist"), "modalities": ALL} | config))


def beside_block(**changes) -> ToyState:
    """The closed fingers stand a centimetre to the left of a block in the middle of the table."""
    start = ToyState(
        hand_x=-BLOCK_HALF_M - 2 * FINGER_RADIUS_M - 0.01, hand_y=0.0, hand_z=0.02, opening=0.0,
        block_x=0.0, block_y=0.0, block_z=0.0, block_yaw=0.0, holding=0.0, goal_x=0.1, goal_y=0.0, goal_z=0.0,
    )  # fmt: skip
    return replace(start, **changes)


# --- the expert, and the floor


def success_rate(agent, task: str, episodes: int) -> tuple[float, int]:
    """Return success rate and the longest successful episode."""
    env = make(task, cameras=(), lazy=True, privileged=True)
    steps = []
    for seed in range(episodes):
        observation, info = env.reset(seed=seed)
        agent.reset(env.task, env.cameras, seed)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(agent.act(observation))
            over = terminated or truncated
        if info["is_success"]:
            steps.append(observation.step)
    return len(steps) / episodes, max(steps, default=0)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_the_scripted_expert_solves_every_scenario_with_time_to_spare(task):
    rate, longest = success_rate(ScriptedAgent(), task, episodes=100)
    assert rate == 1.0
    assert longest < 0.5 * TOY.rules().horizon


@pytest.mark.parametrize("task", TASK_NAMES)
def test_random_actions_hardly_ever_succeed(task):
    from flowbench.agents.controls import RandomAgent

    assert success_rate(RandomAgent(), task, episodes=30)[0] <= 0.1


@pytest.mark.parametrize("task", TASK_NAMES)
def test_no_scenario_is_solved_at_its_start(task):
    env = make(task, cameras=())
    for seed in range(200):
        env.reset(seed=seed)
        assert not env.step(OPEN)[4]["success_now"]


# --- pictures


@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_camera_sees_the_scene_upright(task):
    env = make(task)
    observation, _ = env.reset(seed=0)
    for camera in TOY.views:
        ids, depth_m = observation[f"{camera}/segmentation"], observation[f"{camera}/depth"]
        assert observation[f"{camera}/rgb"].std() > 10
        assert ((depth_m > 0) == (ids > 0)).all(), "depth is 0 exactly where nothing was hit"
        rows = np.arange(len(ids))[:, None]
        assert (rows * (ids == 1)).sum() / (ids == 1).sum() > 48, "the table is in the lower half"
    front = observation["front/segmentation"]
    visible = {env.simulator.segmentation_names()[i] for i in np.unique(front) if i}
    assert {"table", "gripper"} <= visible


def test_right_in_the_front_image_is_positive_x_and_depth_grows_with_y():
    bodies = scene.solids("lift", tasks.initial_state("lift", np.random.default_rng(0)))
    camera = CameraPose("front").apply(scene.view("front", beside_block()), np.zeros(3), 128, 96)
    pixels, depth_m = camera.project(np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]]))
    assert pixels[1, 0] > pixels[0, 0] and depth_m[2] > depth_m[0] and pixels[3, 1] < pixels[0, 1]
    assert bodies[0].name == "table"


@pytest.mark.parametrize("view", TOY.views)
def test_un_projected_depth_lies_on_the_bodies_to_a_tenth_of_a_millimetre(view):
    env = make("push")
    rng = np.random.default_rng(0)
    for seed in range(5):
        env.reset(seed=seed)
        camera = random_pose(view, rng).apply(env.simulator.view(view), env.simulator.workspace_center_world, 128, 96)
        frame = env.simulator.render(view, camera, frozenset({"depth", "segmentation"}))
        points = camera.unproject_image(frame.depth_m)
        table = points[frame.segmentation == 1]
        on_top = np.abs(table[:, 2]) < 1e-4
        assert (
            on_top | (np.abs(np.abs(table[:, 0]) - 0.42) < 1e-4) | (np.abs(np.abs(table[:, 1] - 0.03) - 0.34) < 1e-4)
        ).all()
        block = points[frame.segmentation == 4] - [
            env.simulator.state.block_x,
            env.simulator.state.block_y,
            BLOCK_HALF_M,
        ]
        if len(block):
            yaw = env.simulator.state.block_yaw
            turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
            assert np.allclose(np.abs(block @ turn).max(axis=1), BLOCK_HALF_M, atol=1e-4)


def test_depth_and_ids_do_not_depend_on_the_render_profile_but_shadows_do():
    full, fast = make("push"), make("push", profile="fast")
    slow_frame, _ = full.reset(seed=1)
    fast_frame, _ = fast.reset(seed=1)
    for camera in TOY.views:
        assert np.array_equal(slow_frame[f"{camera}/depth"], fast_frame[f"{camera}/depth"])
        assert np.array_equal(slow_frame[f"{camera}/segmentation"], fast_frame[f"{camera}/segmentation"])
    assert fast_frame["front/rgb"].mean() > slow_frame["front/rgb"].mean()


def test_asking_for_less_gives_the_same_arrays():
    simulator = make("push").simulator
    camera = CameraPose("front").apply(simulator.view("front"), np.zeros(3), 128, 96)
    everything = simulator.render("front", camera, frozenset({"rgb", "depth", "segmentation"}))
    only_ids = simulator.render("front", camera, frozenset({"segmentation"}))
    assert np.array_equal(only_ids.segmentation, everything.segmentation)
    assert only_ids.rgb is None and only_ids.depth_m is None


def test_a_camera_inside_a_body_is_noticed():
    simulator = make("push").simulator
    state = simulator.state
    assert simulator.enclosing_object(np.array([0.0, 0.0, -0.02])) == "table"
    assert simulator.enclosing_object(state.block + [0, 0, 0.01]) == "block"
    assert simulator.enclosing_object(np.array([0.0, 0.0, 1.5])) is None
    assert simulator.enclosing_object(simulator.view("wrist").camera_to_world[:3, 3]) is None


def test_a_frame_takes_milliseconds():
    env = make("push", cameras=("front",))
    env.reset(seed=0)
    camera, times = env.cameras["front"], []
    for _ in range(10):
        start = time.perf_counter()
        env.simulator.render("front", camera, frozenset({"rgb", "depth"}))
        times.append(time.perf_counter() - start)
    # 4 ms on an idle core; the bound leaves room for a busy machine.
    assert min(times) < 0.025


@pytest.mark.parametrize("shape", [Box((0.2, 0.1, 0.3)), Cylinder(0.2, 0.1), Sphere(0.2)])
def test_ray_casting_agrees_with_marching_along_the_ray(shape):
    rng = np.random.default_rng(0)
    origins = rng.normal(size=(3, 400))
    origins *= 0.8 / np.linalg.norm(origins, axis=0)
    directions = rng.normal(size=(3, 400)) * 0.3 - origins
    solid = Solid("thing", shape, (0.05, -0.02, 0.03), (1, 1, 1), yaw=0.4)
    hits = cast([solid], origins, directions)
    steps = np.linspace(0, 2, 4001)
    hit_count = 0
    for index in range(origins.shape[1]):
        along = solid.to_local(origins[:, index : index + 1] + directions[:, index : index + 1] * steps)
        inside = np.array([shape.contains(point) for point in along[:, ::40].T])
        if np.isfinite(hits.distance[index]):
            hit_count += 1
            point = solid.to_local(origins[:, [index]] + directions[:, [index]] * hits.distance[index])[:, 0]
            assert shape.contains(point * (1 - 1e-9)) and not shape.contains(point * (1 + 1e-6))
            normal = shape.normals(point[:, None])[:, 0]
            assert math.isclose(np.linalg.norm(normal), 1) and normal @ (solid.rotation.T @ directions[:, index]) < 0
            assert not inside[steps[::40] < hits.distance[index] - 1e-9].any()
        else:
            assert not inside.any()
    assert 50 < hit_count < 400


# --- exact flow


def flow_between(task: str, before: ToyState, after: ToyState, camera, camera_after=None):
    states = [SimulatorState(state.to_vector()) for state in (before, after)]
    return exact_flow(task, *states, camera, camera_after)


@pytest.fixture
def moving():
    """A pushed block: simulator before and after, their images and cameras."""
    env = make("push")
    env.reset(seed=0)
    start = beside_block(hand_y=-0.008, block_yaw=0.1, goal_x=-0.1, goal_y=0.1)
    env.simulator.set_state(SimulatorState(start.to_vector()))
    frames = [{name: env.simulator.render(name, params, frozenset(ALL[:3])) for name, params in env.cameras.items()}]
    cameras = [env.cameras]
    for _ in range(4):
        env.simulator.step(RIGHT)
    frames.append(
        {name: env.simulator.render(name, params, frozenset(ALL[:3])) for name, params in env.cameras.items()}
    )
    cameras.append(env.cameras)
    return start, env.simulator.state, frames, cameras


def test_nothing_flows_when_nothing_moves():
    state = beside_block()
    camera = CameraPose("front").apply(scene.view("front", state), np.zeros(3), 128, 96)
    flow = flow_between("push", state, state, camera)
    assert flow.flow_px.dtype == np.float32 and flow.flow_px.shape == (96, 128, 2)
    assert np.abs(flow.flow_px).max() < 1e-9
    assert flow.visible.all()


def test_flow_of_a_moving_camera_is_re_projected_depth():
    state = beside_block()
    first = CameraPose("front").apply(scene.view("front", state), np.zeros(3), 128, 96)
    second = CameraPose.parse("front+x0.05+yaw6").apply(scene.view("front", state), np.zeros(3), 128, 96)
    flow = flow_between("push", state, state, first, second)
    depth_m = scene.draw("push", state, first, frozenset({"depth"}), "full").depth_m
    hit = depth_m > 0
    columns, rows = np.meshgrid(np.arange(128), np.arange(96))
    expected = second.project(first.unproject_image(depth_m)).pixels - np.stack([columns, rows], axis=-1)
    assert np.allclose(flow.flow_px[hit], expected[hit], atol=1e-3)
    # The background is infinitely far: it turns with the camera and ignores that it moved.
    turned = CameraPose.parse("front+yaw6").apply(scene.view("front", state), np.zeros(3), 128, 96)
    only_turned = flow_between("push", state, state, first, turned)
    assert np.allclose(flow.flow_px[~hit], only_turned.flow_px[~hit], atol=1e-3)
    assert np.abs(flow.flow_px[~hit]).max() > 5


def test_the_block_flows_as_the_rigid_body_it_is(moving):
    before, after, frames, cameras = moving
    assert after.block_x - before.block_x > 0.03 and abs(after.block_yaw - before.block_yaw) > 0.05
    for name in ("front", "side"):
        camera = cameras[0][name]
        flow = flow_between("push", before, after, camera)
        block = frames[0][name].segmentation == 4
        points = camera.unproject_image(frames[0][name].depth_m)[block]
        turn = after.block_yaw - before.block_yaw
        rotation = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
        carried = (points - before.block) @ rotation.T + after.block
        expected = camera.project(carried).pixels - camera.project(points).pixels
        assert np.allclose(flow.flow_px[block], expected, atol=1e-3)
        assert np.abs(flow.flow_px[frames[0][name].segmentation == 1]).max() < 1e-9, "the table stands still"


@pytest.mark.parametrize("view", TOY.views)
def test_what_is_visible_shows_the_same_body_at_the_landing_pixel(moving, view):
    before, after, frames, cameras = moving
    flow = flow_between("push", before, after, cameras[0][view], cameras[1][view])
    rows, columns = np.nonzero(flow.visible)
    landing = np.rint(np.stack([columns, rows], axis=1) + flow.flow_px[flow.visible]).astype(int)
    landing = np.clip(landing, 0, [127, 95])
    ids_before = frames[0][view].segmentation[flow.visible]
    ids_after = frames[1][view].segmentation[landing[:, 1], landing[:, 0]]
    assert len(rows) > 5000
    # Rounding to whole pixels crosses a silhouette now and then.
    assert (ids_before == ids_after).mean() > 0.97
    if view != "wrist":
        hidden = (frames[0][view].segmentation == 1) & ~flow.visible
        assert hidden.any() and (frames[1][view].segmentation[hidden] > 1).all(), (
            "the table is hidden by what moved there"
        )


def test_flow_there_and_back_again_is_zero_where_the_point_is_seen(moving):
    before, after, _, cameras = moving
    camera = cameras[0]["front"]
    there = flow_between("push", before, after, camera)
    back = flow_between("push", after, before, camera)
    rows, columns = np.nonzero(there.visible)
    landing = np.stack([columns, rows], axis=1) + there.flow_px[there.visible]
    nearest = np.clip(np.rint(landing).astype(int), 0, [127, 95])
    returned = there.flow_px[there.visible] + back.flow_px[nearest[:, 1], nearest[:, 0]]
    assert np.quantile(np.linalg.norm(returned, axis=1), 0.95) < 0.5


def test_flow_of_a_mirrored_image_is_mirrored(moving):
    before, after, _, cameras = moving
    camera = cameras[0]["front"]
    upright = flow_between("push", before, after, camera)
    mirrored = flow_between("push", before, after, camera.mirror())
    assert np.allclose(mirrored.flow_px[:, ::-1] * [-1, 1], upright.flow_px, atol=1e-4)
    assert np.array_equal(mirrored.visible[:, ::-1], upright.visible)


def test_what_leaves_the_image_is_not_visible():
    state = beside_block()
    first = CameraPose("front").apply(scene.view("front", state), np.zeros(3), 128, 96)
    away = CameraPose.parse("front+yaw40").apply(scene.view("front", state), np.zeros(3), 128, 96)
    flow = flow_between("push", state, state, first, away)
    behind = CameraPose.parse("front+yaw180").apply(scene.view("front", state), np.zeros(3), 128, 96)
    assert 0 < flow.visible.mean() < 0.5
    turned_away = flow_between("push", state, state, first, behind)
    assert not turned_away.visible.any() and np.isnan(turned_away.flow_px).all()


# --- mechanics


def test_a_push_through_the_centre_does_not_turn_the_block():
    state = beside_block()
    for _ in range(5):
        state = advance(state, RIGHT, has_block=True)
    assert state.block_yaw == 0 and state.block_y == 0
    # The block touches the leading finger's far side.
    assert math.isclose(state.block_x - BLOCK_HALF_M, state.hand_x + 2 * FINGER_RADIUS_M, abs_tol=1e-6)


@pytest.mark.parametrize("side", [1, -1])
def test_a_push_beside_the_centre_turns_the_block_away(side):
    state = beside_block(hand_y=side * 0.015)
    for _ in range(3):
        state = advance(state, RIGHT, has_block=True)
    assert state.block_x > 0.01
    # Pushed in +x above (+y of) its centre, it turns clockwise.
    assert np.sign(state.block_yaw) == -side and abs(state.block_yaw) > 0.1


def test_fingers_never_end_a_step_inside_the_block():
    env = make("push", cameras=())
    rng = np.random.default_rng(0)
    touched = 0
    for seed in range(20):
        env.reset(seed=seed)
        state = env.simulator.state
        state = replace(state, hand_x=state.block_x - 0.08, hand_y=state.block_y, hand_z=0.02)
        for _ in range(40):
            before = state.block_x, state.block_y
            # Towards the block, with noise and open or closed fingers.
            towards = (state.block - state.hand)[:2] / STEP_M
            action = np.clip([*(towards + rng.normal(0, 0.5, 2)), rng.normal(0, 0.1), rng.choice([-1, 1])], -1, 1)
            state = advance(state, action, has_block=True)
            touched += before != (state.block_x, state.block_y)
            beside = state.hand_z < state.block_z + 2 * BLOCK_HALF_M - 1e-9 and not state.holding
            if beside:
                assert physics._overlap(state) < 2e-3
    assert touched > 100


def test_closing_fingers_align_and_hold_the_block():
    state = beside_block(hand_x=0.004, opening=0.05, block_yaw=0.4)
    for _ in range(6):
        state = advance(state, CLOSE, has_block=True)
    assert state.holding == 1
    assert abs(state.block_yaw) < 0.1
    assert math.isclose(state.opening, BLOCK_HALF_M, abs_tol=0.003)
    lifted = advance(state, np.array([0.5, -0.5, 1, 1]), has_block=True)
    assert np.allclose(lifted.block - state.block, lifted.hand - state.hand)
    assert np.allclose(lifted.hand - state.hand, [STEP_M / 2, -STEP_M / 2, STEP_M])


def test_an_opened_gripper_drops_the_block_onto_the_table():
    state = beside_block(hand_x=0.0, opening=0.05)
    for action in [CLOSE] * 6 + [np.array([0, 0, 1.0, 1])] * 6:
        state = advance(state, action, has_block=True)
    assert state.holding and state.block_z > tasks.LIFT_M
    for _ in range(8):
        state = advance(state, OPEN, has_block=True)
    assert not state.holding and state.block_z == 0


def test_the_table_stops_a_held_block():
    state = beside_block(hand_x=0.0, opening=0.05, hand_z=0.05)
    for action in [CLOSE] * 6 + [np.array([0, 0, -1.0, 1])] * 5:
        state = advance(state, action, has_block=True)
    assert state.holding and state.block_z == 0 and math.isclose(state.hand_z, 0.05)


def test_fingers_that_come_down_on_the_block_rest_on_it():
    state = beside_block(hand_x=0.0, hand_z=0.1)
    for _ in range(6):
        state = advance(state, np.array([0, 0, -1.0, 1]), has_block=True)
    assert math.isclose(state.hand_z, 2 * BLOCK_HALF_M)
    assert (state.block_x, state.block_y) == (0, 0)


def test_the_hand_stays_within_its_limits():
    state = beside_block()
    for action in ([1, 1, 1, 1], [-1, -1, -1, -1]):
        for _ in range(60):
            state = advance(state, np.array(action, dtype=float), has_block=False)
        limits = physics.HAND_HIGH if action[0] > 0 else physics.HAND_LOW
        assert np.allclose(state.hand, limits)


def test_the_initial_state_depends_on_the_task_and_the_seed_but_not_on_the_suite_s_name():
    subset = TOY.subset("mine", ("push",))
    rules = TOY.rules()
    from flowbench.env import EnvConfig, TaskEnv

    ours = TaskEnv(subset, subset.tasks[0], rules, EnvConfig())
    theirs = make("push", cameras=())
    ours.reset(seed=7)
    theirs.reset(seed=7)
    assert ours.simulator.state == theirs.simulator.state
