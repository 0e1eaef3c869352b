"""Exact correspondences keep their laws; measured on the toy suite, whose own flow is ray cast and interpolates nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import flowbench
from flowbench.agents.scripted import ScriptedAgent
from flowbench.camera import CameraPose
from flowbench.envs.toy.flow import exact_flow as ray_cast_flow
from flowbench.envs.toy.simulator import ToySimulator
from flowbench.errors import BadValue, ShapeError, UnknownName
from flowbench.flow.exact import exact_flow, flow_to, track_points
from flowbench.flow.snapshot import snapshot_of, take_snapshot
from flowbench.simulator import RenderSettings

CAMERAS = ("front", "side+yaw5", "wrist")


@pytest.fixture(scope="module")
def lifted():
    """Give (state, snapshots by camera) at some moments of a lift, with both image views."""
    env = flowbench.make("toy", "lift", cameras=CAMERAS, modalities=(), lazy=True, privileged=True)
    agent = ScriptedAgent()
    observation, _ = env.reset(seed=2)
    agent.reset(env.task, env.cameras, 0)
    moments = []
    for step in range(36):
        if step % 7 == 0:
            moments.append((env.get_state().simulator, {name: take_snapshot(env, name) for name in CAMERAS}))
        observation = env.step(agent.act(observation))[0]
    return moments


@pytest.fixture(params=CAMERAS)
def views(lifted, request):
    return [snapshots[request.param] for _, snapshots in lifted]


def sample(image, pixels):
    """Read an image between its pixels, bilinearly."""
    columns, rows = pixels.T
    return map_coordinates(image, [rows, columns], order=1, mode="nearest")


def grid(snapshot):
    rows, columns = np.indices(snapshot.depth_m.shape)
    return np.stack([columns, rows], axis=-1).astype(float)


def test_flow_is_that_of_rays_cast_through_the_landing_points(lifted):
    hidden = 0
    for (state, views), (next_state, next_views) in zip(lifted, lifted[1:], strict=False):
        for name in CAMERAS:
            ours = exact_flow(views[name], next_views[name])
            theirs = ray_cast_flow("lift", state, next_state, views[name].camera, next_views[name].camera)
            np.testing.assert_allclose(ours.flow_px, theirs.flow_px, atol=1e-3)
            assert np.mean(ours.visible != theirs.visible) < 0.02, "within half a pixel of an edge, both are right"
            hidden += np.sum(~theirs.visible)
    assert hidden > 1000


def test_there_and_back_again_is_where_it_started(views):
    there, back = exact_flow(views[0], views[1]), exact_flow(views[1], views[0])
    landing = grid(views[0])[there.visible] + there.flow_px[there.visible]
    returned = (
        np.stack([sample(back.flow_px[..., axis], landing) for axis in (0, 1)], axis=1) + there.flow_px[there.visible]
    )
    assert np.median(np.linalg.norm(returned, axis=1)) < 0.01


def test_a_visible_point_has_the_depth_that_the_target_shows(views):
    flow = exact_flow(views[0], views[-1])
    moved_world = views[0].camera.unproject_image(views[0].depth_m) + flow.scene_flow_m
    pixels, depth_m = views[-1].camera.project(moved_world)
    near = flow.visible & (views[0].depth_m > 0)
    np.testing.assert_allclose(pixels[near], (grid(views[0]) + flow.flow_px)[near], atol=1e-3)
    shown_m = sample(views[-1].depth_m, pixels[near])
    assert np.median(np.abs(shown_m - depth_m[near])) < 5e-5


def test_flows_compose(views):
    """From the first to the third is from the first to the second and on, point by point."""
    first, second, third = views[0], views[1], views[3]
    rows, columns = np.nonzero(exact_flow(first, second).visible & (first.depth_m > 0))
    pixels = np.stack([columns, rows], axis=1)
    tracks = track_points([first, second, third], pixels)
    on = track_points([second, third], np.clip(tracks.pixels[1], 0, np.array(first.depth_m.shape[::-1]) - 1))
    error_px = np.linalg.norm(on.pixels[1] - tracks.pixels[2], axis=1)
    # Where the second view's nearest pixel shows another body, a track that starts there is another track.
    assert np.median(error_px) < 0.02
    direct = exact_flow(first, third).flow_px[rows, columns]
    np.testing.assert_allclose(tracks.pixels[2] - pixels, direct, atol=1e-3)


def test_only_the_camera_moves():
    env = flowbench.make("toy", "push", modalities=())
    env.reset(seed=0)
    first, second = take_snapshot(env, "front"), take_snapshot(env, "front+x0.03+yaw4")
    flow = exact_flow(first, second)
    assert not np.any(flow.scene_flow_m)
    near = first.depth_m > 0
    expected = second.camera.project(first.camera.unproject_image(first.depth_m)).pixels - grid(first)
    np.testing.assert_allclose(flow.flow_px[near], expected[near], atol=1e-4)
    # What is infinitely far away follows the turn, not the shift.
    turned = exact_flow(first, take_snapshot(env, "front+yaw4"))
    assert np.any(~near)
    np.testing.assert_allclose(flow.flow_px[~near], turned.flow_px[~near], atol=1e-4)
    assert np.linalg.norm(flow.flow_px[~near], axis=1).min() > 5


def test_nothing_flows_when_nothing_moves(views):
    flow = exact_flow(views[0], views[0])
    assert flow.flow_px.dtype == np.float32 and flow.scene_flow_m.dtype == np.float32
    assert not np.any(flow.flow_px) and not np.any(flow.scene_flow_m) and flow.visible.all()


def test_a_mirrored_image_has_mirrored_flow(views):
    plain = exact_flow(views[0], views[1])
    mirrored = exact_flow(views[0].mirror(), views[1].mirror())
    np.testing.assert_allclose(mirrored.flow_px, plain.flow_px[:, ::-1] * [-1, 1], atol=1e-3)
    np.testing.assert_array_equal(mirrored.visible, plain.visible[:, ::-1])
    np.testing.assert_allclose(mirrored.scene_flow_m, plain.scene_flow_m[:, ::-1], atol=1e-6)


def test_a_window_has_the_flow_of_its_part_of_the_image(views):
    whole = exact_flow(views[0], views[1])
    part = exact_flow(views[0].crop(30, 20, 64, 48), views[1].crop(30, 20, 64, 48))
    np.testing.assert_allclose(part.flow_px, whole.flow_px[20:68, 30:94], atol=1e-4)
    assert np.all(whole.visible[20:68, 30:94] | ~part.visible)


def test_a_point_behind_the_camera_has_no_flow():
    env = flowbench.make("toy", "push", modalities=())
    env.reset(seed=0)
    flow = exact_flow(take_snapshot(env, "front"), take_snapshot(env, "front+yaw180"))
    behind = np.isnan(flow.flow_px).any(axis=-1)
    assert behind.mean() > 0.9
    assert not flow.visible[behind].any()


def test_tracks_follow_the_object_and_know_when_it_is_covered(lifted):
    views = [snapshots["front"] for _, snapshots in lifted]
    rows, columns = np.nonzero(views[0].mask("block"))
    tracks = track_points(views, np.stack([columns, rows], axis=1))
    assert tracks.pixels.shape == (len(views), len(rows), 2) and tracks.points_world.shape == (len(views), len(rows), 3)
    assert tracks.visible[0].all() and not tracks.visible.all()
    # A rigid body keeps its distances.
    spread = np.linalg.norm(tracks.points_world - tracks.points_world[:, :1], axis=-1)
    np.testing.assert_allclose(spread, np.broadcast_to(spread[0], spread.shape), atol=1e-6)
    assert tracks.points_world[-1, :, 2].mean() > tracks.points_world[0, :, 2].mean() + 0.01, "it was lifted"


def test_tracks_between_pixel_centres_lie_on_the_surface():
    env = flowbench.make("toy", "push", modalities=())
    env.reset(seed=0)
    view = take_snapshot(env, "front")
    rows, columns = np.nonzero(view.mask("table"))
    inner = np.stack([columns, rows], axis=1)[::7] + [0.37, 0.21]
    points = track_points([view], inner).points_world[0]
    on_top = np.abs(points[:, 2]) < 1e-5
    assert on_top.mean() > 0.9, "the rest is the rim"


def test_the_flow_function_needs_no_picture_of_the_other_state(views):
    flow_px = flow_to(views[0], views[1].body_to_world, views[1].camera)
    np.testing.assert_array_equal(flow_px, exact_flow(views[0], views[1]).flow_px)


def test_taking_a_snapshot_leaves_the_environment_as_it_was():
    looked, blind = (flowbench.make("toy", "push", modalities=()) for _ in range(2))
    for env in (looked, blind):
        env.reset(seed=4)
    for _ in range(5):
        take_snapshot(looked, "wrist", rgb=True)
        action = np.array([0.3, 0.5, -0.2, 0.0])
        looked.step(action), blind.step(action)
    np.testing.assert_array_equal(looked.simulator.get_state().physics, blind.simulator.get_state().physics)


def test_snapshots_carry_the_picture_only_when_asked():
    env = flowbench.make("toy", "push", cameras=("side",), modalities=("rgb",))
    observation, _ = env.reset(seed=0)
    assert take_snapshot(env).rgb is None
    np.testing.assert_array_equal(take_snapshot(env, rgb=True).rgb, observation["side/rgb"])


def test_mistakes_are_named(views):
    with pytest.raises(UnknownName, match="This snapshot has no segmentation name 'blok'. Did you mean 'block'?"):
        views[0].mask("blok")
    with pytest.raises(BadValue, match="have .* bodies, so they are not of one scene"):
        exact_flow(views[0], replace(views[1], body_to_world=views[1].body_to_world[:-1]))
    with pytest.raises(ShapeError, match=r"pixels has shape \(3,\); expected \(N, 2\)"):
        track_points(views, np.zeros(3))
    with pytest.raises(ShapeError, match="Some pixels lie outside the 128x96 image"):
        track_points(views, np.array([[200.0, 3.0]]))
    with pytest.raises(BadValue, match="got no snapshots"):
        track_points([], np.zeros((1, 2)))
    with pytest.raises(ShapeError, match="bodies of a snapshot has shape"):
        replace(views[0], bodies=views[0].bodies[:5])


def test_a_simulator_that_does_not_tell_its_bodies_says_so():
    class Mute(ToySimulator):
        body_poses = property()

    env = flowbench.make("toy", "push", modalities=())
    env.reset(seed=0)
    simulator = Mute(env.task, env.rules, RenderSettings(128, 96))
    with pytest.raises(BadValue, match="Mute does not tell the poses of its bodies"):
        snapshot_of(simulator, CameraPose("front"), 128, 96)
