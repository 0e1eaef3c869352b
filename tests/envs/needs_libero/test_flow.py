"""Exact flow in LIBERO: also where the camera rides on the hand, and without changing what happens."""

import numpy as np
import pytest

pytest.importorskip("libero", reason="needs flowbench[libero]")
pytest.importorskip("robosuite", reason="needs flowbench[libero]")

import flowbench
from flowbench.flow.exact import exact_flow, track_points
from flowbench.flow.snapshot import take_snapshot

pytestmark = pytest.mark.usefixtures("opengl")
TASK = "libero-object/pick_up_the_milk_and_place_it_in_the_basket"
WRIST, FIXED = "robot0_eye_in_hand", "agentview"
#: Down and forward, closing the hand.
ACTION = np.array([0.3, 0.2, -0.8, 0.0, 0.1, 0.3, 1.0], np.float32)


@pytest.fixture(scope="module")
def env():
    env = flowbench.make(TASK, cameras=(FIXED, WRIST), modalities=("flow", "segmentation"), lazy=True)
    env.reset(seed=0)
    yield env
    env.close()


@pytest.fixture(scope="module")
def moved(env):
    """Give (before, after, observed flow) by camera, one step apart."""
    env.reset(seed=0)
    env.step(ACTION)
    before = {name: take_snapshot(env, name) for name in env.poses}
    observation = env.step(ACTION)[0]
    return {name: (before[name], take_snapshot(env, name), observation[f"{name}/flow"]) for name in env.poses}


@pytest.mark.parametrize("camera", [FIXED, WRIST])
def test_observed_flow_is_that_between_the_two_states(moved, camera):
    before, after, observed_px = moved[camera]
    np.testing.assert_array_equal(observed_px, np.nan_to_num(exact_flow(after, before).flow_px))


def test_the_wrist_camera_sees_the_static_world_flow(moved):
    before, after, _ = moved[WRIST]
    flow = exact_flow(before, after)
    still = before.segmentation == 0
    assert still.mean() > 0.2 and not np.any(flow.scene_flow_m[still])
    assert np.median(np.linalg.norm(flow.flow_px[still], axis=-1)) > 1
    points_world = before.camera.unproject_image(before.depth_m)[still]
    rows, columns = np.nonzero(still)
    expected = after.camera.project(points_world).pixels - np.stack([columns, rows], axis=1)
    np.testing.assert_allclose(flow.flow_px[still], expected, atol=1e-3)


def test_the_fixed_camera_sees_only_the_robot_flow(moved):
    before, after, _ = moved[FIXED]
    flow = exact_flow(before, after)
    names = {index for index, name in before.segmentation_names.items() if name in ("robot", "gripper")}
    moving = np.linalg.norm(flow.flow_px, axis=-1) > 0.5
    assert moving.sum() > 200
    assert np.isin(before.segmentation[moving], list(names)).mean() > 0.99


def test_points_on_the_hand_stay_where_they_are_in_the_hand_s_own_camera(moved):
    before, after, _ = moved[WRIST]
    body = before.bodies[before.mask("gripper")]
    palm = np.bincount(body).argmax()
    rows, columns = np.nonzero(before.bodies == palm)
    tracks = track_points([before, after], np.stack([columns, rows], axis=1))
    shift_px = np.linalg.norm(tracks.pixels[1] - tracks.pixels[0], axis=1)
    world_px = np.linalg.norm(exact_flow(before, after).flow_px[before.segmentation == 0], axis=-1)
    assert np.median(shift_px) < 0.5 * np.median(world_px)


def test_looking_at_the_flow_does_not_change_the_trajectory(env):
    def positions(look):
        observation, _ = env.reset(seed=1)
        for _ in range(4):
            observation = env.step(ACTION)[0]
            if look:
                assert np.any(observation[f"{FIXED}/flow"])
        return env.get_state().simulator.physics

    np.testing.assert_array_equal(positions(True), positions(False))
