"""Points are followed through flow to the object's pose; what covers the object misleads one estimator and not the other."""

from dataclasses import replace

import numpy as np
import pytest

from flowbench.agents.geometry.object_motion import TrackingRules, published_motion, tracked_motion
from flowbench.agents.geometry.rigid_fit import fit_reprojection
from flowbench.agents.geometry.sampling import sample_bilinear, sample_nearest
from flowbench.agents.geometry.tracking import FlowChain, follow, known_at
from flowbench.camera import CameraParams, look_at

CAMERA = CameraParams.from_fovy(45, look_at(np.array([-1.1, -0.4, 0.6]), np.array([0.0, 0.6, 0.1])), 160, 120)
STEP_M = np.array([0.02, 0.03, 0.0])


def plane_scene(links, occluded_from=None):
    """A horizontal plate that slides at z = 0.1, seen whole; during one link something at rest is put over half of it."""
    columns, rows = np.meshgrid(np.arange(160), np.arange(120))
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(float)
    eye = CAMERA.camera_to_world[:3, 3]
    rays = CAMERA.unproject(pixels, np.ones(len(pixels))) - eye
    plane = eye + rays * ((0.1 - eye[2]) / rays[:, 2])[:, None]
    forward, backward = [], []
    for link in range(links):
        there = (CAMERA.project(plane + STEP_M).pixels - pixels).reshape(120, 160, 2)
        back = (CAMERA.project(plane - STEP_M).pixels - pixels).reshape(120, 160, 2)
        if occluded_from is not None and link >= occluded_from:
            # The way there starts before this moment ends, the way back after it.
            there[:, 80:] *= link == occluded_from
            back[:, 80:] = 0
        forward.append(there)
        backward.append(back)
    return FlowChain(np.stack(forward), np.ones((120, 160), bool), np.stack(backward))


def plate():
    pixels = np.stack(np.meshgrid(np.arange(66, 96, 2), np.arange(50, 74, 2)), axis=-1).reshape(-1, 2).astype(float)
    eye = CAMERA.camera_to_world[:3, 3]
    rays = CAMERA.unproject(pixels, np.ones(len(pixels))) - eye
    return pixels, eye + rays * ((0.1 - eye[2]) / rays[:, 2])[:, None]


def fit_fast(points, pixels, camera):
    return fit_reprojection(points, pixels, camera)


def errors_m(motion, points):
    middle = points.mean(axis=0)
    truth = middle + np.arange(len(motion.poses_world))[:, None] * STEP_M
    return np.linalg.norm(motion.path_world(middle) - truth, axis=1)


def steps_m(motion, points):
    return np.diff(motion.path_world(points.mean(axis=0)), axis=0)


def test_both_estimators_follow_what_is_seen_whole():
    pixels, points = plate()
    chain = plane_scene(4)
    ours = tracked_motion(points, pixels, chain, CAMERA)
    theirs = published_motion(points, pixels, chain, CAMERA, np.random.default_rng(0), fit=fit_fast)
    assert errors_m(ours, points).max() < 0.001
    assert errors_m(theirs, points).max() < 0.005
    assert ours.live.all() and ours.poses_world.shape == (5, 4, 4) and ours.costs_px2.shape == (4,)


def test_a_point_that_something_covers_is_lost_for_good_and_the_object_is_not():
    pixels, points = plate()
    ours = tracked_motion(points, pixels, plane_scene(4, occluded_from=1), CAMERA)
    covered = ours.pixels[1][:, 0] > 81
    assert covered.any() and not covered.all()
    assert not ours.live[2:, covered].any()
    assert errors_m(ours, points).max() < 0.005


def test_the_published_chain_reads_the_flow_of_what_covers_the_object():
    pixels, points = plate()
    # Nearly all of it ends up under the cover, so that the cover's stillness wins the vote.
    pixels, points = pixels[pixels[:, 0] > 74], points[pixels[:, 0] > 74]
    chain = plane_scene(4, occluded_from=1)
    theirs = published_motion(points, pixels, chain, CAMERA, np.random.default_rng(0), fit=fit_fast)
    ours = tracked_motion(points, pixels, chain, CAMERA)
    assert errors_m(theirs, points)[-1] > 0.05
    assert errors_m(ours, points)[-1] < 0.01


def test_an_object_that_disappears_goes_on_as_it_last_moved_and_slows_down():
    pixels, points = plate()
    chain = plane_scene(4)
    blind = chain._replace(backward_px=chain.backward_px.copy())
    # Two thirds of it are hidden before the rest, as by a hand.
    blind.backward_px[1, :, : int(np.quantile(pixels[:, 0], 0.67))] += 50
    blind.backward_px[2:] += 50
    motion = tracked_motion(points, pixels, blind, CAMERA)
    assert motion.live[2].any() and not motion.live[3:].any() and np.isnan(motion.costs_px2[2:]).all()
    assert np.allclose(steps_m(motion, points)[1], STEP_M, atol=1e-3)
    assert np.allclose(steps_m(motion, points)[2:], [0.6 * STEP_M, 0.36 * STEP_M], atol=1e-3)


def test_an_object_that_disappears_as_a_whole_has_dropped_and_soon_stops():
    pixels, points = plate()
    chain = plane_scene(4)
    blind = chain._replace(backward_px=chain.backward_px.copy())
    blind.backward_px[2:] += 50
    motion = tracked_motion(points, pixels, blind, CAMERA)
    assert np.allclose(steps_m(motion, points)[1], STEP_M, atol=1e-4)
    assert np.allclose(steps_m(motion, points)[2:], [0.3 * STEP_M, 0.18 * STEP_M], atol=1e-4)


def test_points_that_move_as_no_rigid_thing_does_are_not_believed():
    pixels, points = plate()
    chain = plane_scene(3)
    # In the last link each point goes its own way, there and back.
    scatter = np.random.default_rng(0).normal(scale=2.0, size=chain.forward_px[2].shape)
    chain.forward_px[2] += scatter
    chain.backward_px[2] = -np.mean(chain.forward_px[2], axis=(0, 1))
    rules = TrackingRules(trusted_px=(np.inf,), lost_px=np.inf)
    doubted = tracked_motion(points, pixels, chain, CAMERA, rules)
    assert not doubted.live[3].any() and np.isnan(doubted.costs_px2[2])
    assert np.allclose(steps_m(doubted, points)[2], 0.3 * STEP_M, atol=1e-3)
    believed = tracked_motion(points, pixels, chain, CAMERA, replace(rules, believed_px2=np.inf))
    assert believed.live[3].any() and believed.costs_px2[2] > 0.05


def test_an_object_that_was_never_followed_stays_where_it_is():
    pixels, points = plate()
    chain = plane_scene(2)
    motion = tracked_motion(points, pixels, chain._replace(inside=np.zeros((120, 160), bool)), CAMERA)
    assert np.array_equal(motion.poses_world, np.stack([np.eye(4)] * 3))


def test_without_the_way_back_every_point_is_believed():
    pixels, points = plate()
    motion = tracked_motion(points, pixels, plane_scene(3)._replace(backward_px=None), CAMERA)
    assert motion.live.all() and errors_m(motion, points).max() < 0.001


def test_the_rules_for_exact_flow_are_the_defaults_and_noise_loosens_them():
    assert TrackingRules.for_noise(0.05) == TrackingRules()
    loose = TrackingRules.for_noise(0.5)
    assert loose.lost_px > TrackingRules().lost_px and loose.prior.noise_px > TrackingRules().prior.noise_px


def test_with_estimated_flow_points_that_do_not_come_back_take_part_too():
    """An estimator that is wrong about a region is wrong there in the same way back, so who comes back is not right for it."""
    pixels, points = plate()
    chain = plane_scene(2)
    chain.backward_px[:, :, : int(np.median(pixels[:, 0]))] += 4
    assert not tracked_motion(points, pixels, chain, CAMERA).live[1:].all()
    motion = tracked_motion(points, pixels, chain, CAMERA, TrackingRules.for_noise(1.0))
    assert motion.live.all()
    # The prior, made for flow that is wrong by a pixel, takes a part of the 7 cm.
    assert errors_m(motion, points).max() < 0.04


def test_one_point_that_goes_astray_is_dropped():
    pixels, points = plate()
    chain = plane_scene(2)
    wrong = points.copy()
    wrong[7] += [0.05, 0, 0]
    motion = tracked_motion(wrong, pixels, chain, CAMERA)
    assert not motion.live[1:, 7].any() and motion.live[1:].sum() > 2 * 100
    assert (
        np.linalg.norm(motion.path_world(points[0]) - (points[0] + np.arange(3)[:, None] * STEP_M), axis=1).max()
        < 0.002
    )


def test_published_points_are_clipped_to_the_image_less_one_pixel():
    pixels, points = plate()
    chain = plane_scene(1)
    motion = published_motion(
        points, pixels, chain._replace(forward_px=chain.forward_px + 500), CAMERA, np.random.default_rng(0), fit=clipped
    )
    assert motion.live[1].all()


def clipped(points, pixels, camera):
    assert np.array_equal(np.unique(pixels, axis=0), [[158.0, 118.0]])
    return fit_reprojection(points, camera.project(points).pixels, camera)


def test_following_says_how_far_the_way_back_misses():
    chain = plane_scene(1)
    link = follow(chain, 0, np.array([[60.0, 60.0], [0.0, 0.0]]))
    assert link.disagreement_px[0] < 0.02
    assert link.pixels[0] == pytest.approx([60, 60] + chain.forward_px[0, 60, 60])
    assert link.inside.tolist() == [True, known_at(chain.inside, link.pixels)[1]]


def test_images_are_read_between_pixels_and_clamped_outside():
    image = np.arange(12.0).reshape(3, 4)
    assert sample_bilinear(image, np.array([[1.5, 0.5], [-5, 0], [3, 2], [99, 99]])).tolist() == [3.5, 0, 11, 11]
    assert sample_nearest(image, np.array([[1.4, 0.6], [9, 9]])).tolist() == [5, 11]
    colours = np.stack([image, -image], axis=-1)
    assert sample_bilinear(colours, np.array([[0.25, 0]])).tolist() == [[0.25, -0.25]]
