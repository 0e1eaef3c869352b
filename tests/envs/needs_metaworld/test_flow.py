"""Exact flow in Meta-World: depth, planes and rigid motion agree with it, from every camera."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, map_coordinates

pytest.importorskip("metaworld", reason="needs flowbench[metaworld]")

import flowbench
from flowbench.agents.scripted import ScriptedAgent
from flowbench.camera import transform_points
from flowbench.flow.exact import exact_flow, track_points
from flowbench.flow.snapshot import take_snapshot

pytestmark = pytest.mark.usefixtures("opengl")
CAMERAS = ("corner", "corner2", "corner3", "corner+az20+el5", "gripperPOV")


@pytest.fixture(scope="module")
def opened():
    """Give snapshots by camera before and during the opening of a door, and the environment."""
    env = flowbench.make("metaworld11", "door-open", cameras=(), modalities=(), lazy=True, privileged=True)
    agent = ScriptedAgent()
    observation, _ = env.reset(seed=3)
    agent.reset(env.task, env.cameras, 0)
    moments = []
    for step in range(61):
        if step % 20 == 0:
            moments.append({name: take_snapshot(env, name) for name in CAMERAS})
        observation = env.step(agent.act(observation))[0]
    yield moments, env
    env.close()


def pixels_of(mask):
    rows, columns = np.nonzero(mask)
    return np.stack([columns, rows], axis=1).astype(float)


def sample(image, pixels):
    """Read an image between its pixels, bilinearly."""
    return map_coordinates(image, pixels.T[::-1], order=1, mode="nearest")


@pytest.mark.parametrize("camera", CAMERAS)
def test_forward_and_backward_flow_cancel(opened, camera):
    before, after = opened[0][1][camera], opened[0][2][camera]
    there, back = exact_flow(before, after), exact_flow(after, before)
    moving = there.visible & (np.linalg.norm(there.flow_px, axis=-1) > 0.5)
    assert moving.sum() > 300
    landing = pixels_of(moving) + there.flow_px[moving]
    returned = np.stack([sample(back.flow_px[..., axis], landing) for axis in (0, 1)], axis=1)
    assert np.median(np.linalg.norm(returned + there.flow_px[moving], axis=1)) < 0.01


@pytest.mark.parametrize("camera", CAMERAS)
def test_points_that_are_seen_again_have_the_depth_shown_there(opened, camera):
    before, after = opened[0][1][camera], opened[0][2][camera]
    flow = exact_flow(before, after)
    keep = flow.visible & (before.depth_m > 0) & (np.linalg.norm(flow.flow_px, axis=-1) > 0.5)
    moved_world = before.camera.unproject_image(before.depth_m) + flow.scene_flow_m
    pixels, depth_m = after.camera.project(moved_world[keep])
    assert np.median(np.abs(sample(after.depth_m, pixels) - depth_m)) < 2.5e-4


@pytest.mark.parametrize("camera", ["corner", "gripperPOV"])
def test_the_table_top_stays_where_it_is_whether_or_not_the_camera_moves(opened, camera):
    before, after = opened[0][0][camera], opened[0][1][camera]
    table = before.mask("tablelink/box")
    heights_m = before.camera.unproject_image(before.depth_m)[..., 2]
    top = binary_erosion(table & (np.abs(heights_m) < 0.005), iterations=4)
    assert top.sum() > 1000
    flow = exact_flow(before, after)
    assert not np.any(flow.scene_flow_m[table])
    tracks = track_points([before, after], pixels_of(top))
    assert np.abs(tracks.points_world[:, :, 2]).max() < 1e-5, "the plane z = 0 to a hundredth of a millimetre"
    assert (np.abs(flow.flow_px[top]).max() > 5) == (camera == "gripperPOV")


@pytest.mark.parametrize("camera", ["corner", "corner2", "corner3"])
def test_a_pose_solver_finds_the_body_s_motion_from_exact_tracks(opened, camera):
    cv2 = pytest.importorskip("cv2", reason="needs flowbench[data]")
    moments, env = opened
    first, last = moments[0][camera], moments[-1][camera]
    tracks = track_points([first, last], pixels_of(first.mask(*env.task.targets)))
    points_before = tracks.points_world[0]
    found, turn, shift = cv2.solvePnP(
        points_before, tracks.pixels[1], last.camera.intrinsics, None, flags=cv2.SOLVEPNP_SQPNP
    )
    assert found
    turn, shift = cv2.solvePnPRefineLM(points_before, tracks.pixels[1], last.camera.intrinsics, None, turn, shift)
    moved_camera = points_before @ cv2.Rodrigues(turn)[0].T + shift[:, 0]
    moved_world = transform_points(last.camera.camera_to_world, moved_camera)
    assert np.linalg.norm(tracks.points_world[1] - points_before, axis=1).mean() > 0.05, "the door has moved"
    assert np.linalg.norm(moved_world - tracks.points_world[1], axis=1).max() < 1e-5


def test_the_mirrored_image_view_has_mirrored_flow():
    flows = []
    for view in ("geometric", "policy"):
        env = flowbench.make("metaworld11", "door-open", cameras=("corner",), modalities=("flow",), image_view=view)
        env.reset(seed=0)
        for _ in range(3):
            observation = env.step(np.array([1.0, 1.0, -1.0, 1.0]))[0]
        flows.append(observation["corner/flow"])
        env.close()
    assert np.abs(flows[0]).max() > 0.3
    np.testing.assert_allclose(flows[1], flows[0][:, ::-1] * [-1, 1], atol=1e-3)


def test_reading_flow_does_not_change_the_trajectory():
    def positions(modalities):
        env = flowbench.make("metaworld11", "hammer", cameras=("corner",), modalities=modalities)
        env.reset(seed=0)
        for action in np.random.default_rng(0).uniform(-1, 1, (12, 4)).astype(np.float32):
            env.step(action)
        state = env.get_state().simulator.physics
        env.close()
        return state

    np.testing.assert_array_equal(positions(("flow",)), positions(()))


def test_a_goal_marker_that_is_set_moves_on_its_own():
    """Upstream shows the marker somewhere else at reset than afterwards; no body takes it there."""
    env = flowbench.make("metaworld-mt50", "push", cameras=("corner",), modalities=())
    env.reset(seed=1)
    before = take_snapshot(env, "corner")
    env.step(np.zeros(4, np.float32))
    after = take_snapshot(env, "corner")
    marker = before.mask("site/goal")
    moved = exact_flow(before, after).scene_flow_m[marker]
    poses = [snapshot.body_to_world[before.bodies[marker][0], :3, 3] for snapshot in (before, after)]
    np.testing.assert_allclose(moved, np.broadcast_to(poses[1] - poses[0], moved.shape), atol=1e-6)
    env.close()


def test_a_turn_of_the_camera_alone_is_a_homography():
    env = flowbench.make("metaworld11", "door-open", modalities=())
    env.reset(seed=0)
    first, second = take_snapshot(env, "corner"), take_snapshot(env, "corner+yaw3")
    flow = exact_flow(first, second)
    rows, columns = np.indices(first.depth_m.shape)
    rays = first.camera.unproject(np.stack([columns, rows], axis=-1), np.ones(first.depth_m.shape))
    rays = rays - first.camera.camera_to_world[:3, 3]
    pixels = second.camera.project(second.camera.camera_to_world[:3, 3] + rays).pixels
    np.testing.assert_allclose(flow.flow_px, pixels - np.stack([columns, rows], axis=-1), atol=1e-3)
    env.close()
