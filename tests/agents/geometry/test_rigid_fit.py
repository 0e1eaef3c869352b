"""Exact tracks give the exact motion; the fast fit is never worse than the published one on the published objective."""

import numpy as np
import pytest

from flowbench.agents.geometry import published_fit
from flowbench.agents.geometry.published_fit import (
    NoMotion,
    euler_motion,
    fit_published,
    published_loss,
    similarity_inliers,
)
from flowbench.agents.geometry.rigid_fit import MotionPrior, fit_reprojection, reprojection_cost
from flowbench.camera import rotation_about, transform_points
from flowbench.errors import ShapeError

MOTIONS = {
    "a step": ((0, 0, 0), (0.05, 0.02, 0.0)),
    "a turn": ((0, 0, 40), (0, 0, 0)),
    "both, far": ((10, -20, 60), (-0.15, 0.1, 0.12)),
    "nothing": ((0, 0, 0), (0, 0, 0)),
}


def seen_after(motion, points, camera):
    return camera.project(transform_points(motion, points)).pixels


@pytest.mark.parametrize("name", MOTIONS)
def test_exact_tracks_give_the_exact_motion(name, camera, box_world, motion_about):
    truth = motion_about(box_world, *MOTIONS[name])
    fit = fit_reprojection(box_world, seen_after(truth, box_world, camera), camera)
    error_m = np.linalg.norm(transform_points(fit.motion_world, box_world) - transform_points(truth, box_world), axis=1)
    assert error_m.max() < 1e-5
    assert fit.cost_px2 < 1e-8


def test_motions_compose(camera, box_world, motion_about):
    first = motion_about(box_world, (5, 10, 20), (0.04, 0, 0.02))
    moved = transform_points(first, box_world)
    second = motion_about(moved, (-15, 0, 30), (0, 0.05, 0.03))
    pixels = [seen_after(motion, box_world, camera) for motion in (first, second @ first)]
    step_1 = fit_reprojection(box_world, pixels[0], camera).motion_world
    step_2 = fit_reprojection(transform_points(step_1, box_world), pixels[1], camera).motion_world
    at_once = fit_reprojection(box_world, pixels[1], camera).motion_world
    assert np.allclose(step_2 @ step_1, at_once, atol=1e-5)


def test_there_and_back_is_no_motion(camera, box_world, motion_about):
    truth = motion_about(box_world, (20, 5, 30), (0.1, 0, 0.05))
    there = fit_reprojection(box_world, seen_after(truth, box_world, camera), camera).motion_world
    back = fit_reprojection(transform_points(truth, box_world), camera.project(box_world).pixels, camera).motion_world
    assert np.allclose(back @ there, np.eye(4), atol=1e-5)


def test_the_fit_is_rigid_whatever_the_pixels(camera, box_world):
    pixels = np.random.default_rng(1).uniform(0, 200, (300, 2))
    rotation = fit_reprojection(box_world, pixels, camera).motion_world[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)


@pytest.mark.parametrize("noise_px", [0.0, 0.5])
def test_the_fast_fit_is_at_least_as_good_as_the_published_one(noise_px, camera, box_world, motion_about):
    points = box_world[::10]
    pixels = seen_after(motion_about(points, (5, 10, 20), (0.06, 0.02, 0.05)), points, camera)
    pixels += np.random.default_rng(2).normal(0, noise_px, pixels.shape)
    published = fit_published(points, pixels, camera, np.random.default_rng(3), restarts=3)
    fast = fit_reprojection(points, pixels, camera)
    assert fast.cost_px2 <= published.cost_px2 + 1e-9
    assert published_loss(fast.motion_world, points, pixels, camera) == pytest.approx(fast.cost_px2, rel=1e-6)


def test_a_start_saves_the_search_and_changes_nothing(camera, box_world, motion_about):
    truth = motion_about(box_world, (5, 0, 50), (0.1, 0.05, 0))
    pixels = seen_after(truth, box_world, camera)
    near = fit_reprojection(box_world, pixels, camera, start=truth)
    assert near.solves == 1
    assert np.allclose(near.motion_world, fit_reprojection(box_world, pixels, camera).motion_world, atol=1e-6)


def test_a_prior_decides_what_the_points_do_not(camera, box_world, motion_about):
    # Six points within a centimetre say little about the turn of what they lie on.
    points = box_world[0] + np.random.default_rng(4).uniform(-0.005, 0.005, (6, 3))
    truth = motion_about(points, step_m=(0.03, 0, 0))
    pixels = seen_after(truth, points, camera) + np.random.default_rng(5).normal(0, 0.3, (6, 2))
    prior = MotionPrior(turn_rad=0.3, step_m=0.1, noise_px=0.3)

    def error_m(fit):
        return np.linalg.norm(
            transform_points(fit.motion_world, points) - transform_points(truth, points), axis=1
        ).max()

    free, held = fit_reprojection(points, pixels, camera), fit_reprojection(points, pixels, camera, prior=prior)
    assert error_m(held) < 0.5 * error_m(free)
    assert held.cost_px2 >= free.cost_px2


def test_a_prior_changes_nothing_where_the_points_decide(camera, box_world, motion_about):
    pixels = seen_after(motion_about(box_world, (0, 0, 40), (0.1, 0, 0)), box_world, camera)
    prior = MotionPrior(turn_rad=0.5, step_m=0.1, noise_px=0.03)
    held, free = fit_reprojection(box_world, pixels, camera, prior=prior), fit_reprojection(box_world, pixels, camera)
    assert np.allclose(held.motion_world, free.motion_world, atol=1e-3)


def test_a_robust_loss_keeps_to_the_many_when_some_are_far_off(camera, box_world, motion_about):
    truth = motion_about(box_world, (0, 0, 20), (0.06, 0.02, 0.0))
    pixels = seen_after(truth, box_world, camera)
    pixels[::4] += [8, -5]

    def error_m(**how):
        found = fit_reprojection(box_world, pixels, camera, **how).motion_world
        return np.linalg.norm(transform_points(found, box_world) - transform_points(truth, box_world), axis=1).mean()

    assert error_m(loss_px=0.5) < 0.2 * error_m()
    assert error_m(loss_px=1e4) == pytest.approx(error_m(), rel=1e-3), "a loss that nothing reaches is the square"


def test_a_robust_loss_leaves_exact_tracks_exact(camera, box_world, motion_about):
    truth = motion_about(box_world, (10, -20, 60), (-0.15, 0.1, 0.12))
    found = fit_reprojection(box_world, seen_after(truth, box_world, camera), camera, loss_px=1.0).motion_world
    assert np.allclose(found, truth, atol=1e-5)


def test_points_behind_the_camera_cost_infinitely_much(camera, box_world):
    away = np.eye(4)
    away[:3, 3] = 3 * (camera.camera_to_world[:3, 3] - box_world[0])
    assert reprojection_cost(away, box_world, camera.project(box_world).pixels, camera) == np.inf


def test_too_few_points_are_named(camera, box_world):
    with pytest.raises(ShapeError, match="A rigid motion needs at least 4 points; got 3."):
        fit_reprojection(box_world[:3], np.zeros((3, 2)), camera)


# --- what the published code does, as it does it


def test_published_rotations_are_about_x_then_y_then_z_from_the_left():
    angles = (0.3, -0.5, 0.8)
    axes = np.eye(3)
    x, y, z = (rotation_about(axis, np.degrees(angle)) for axis, angle in zip(axes, angles))
    motion = euler_motion(np.array([0.1, 0.2, 0.3, *angles]))
    assert np.allclose(motion[:3, :3], x @ y @ z)
    assert motion[:3, 3].tolist() == [0.1, 0.2, 0.3]


def test_the_published_loss_counts_the_metres_beyond_the_first(camera, box_world):
    pixels = camera.project(box_world).pixels
    far = np.eye(4)
    # Rotation about the world's origin and back again: the same points, with a long translation.
    far[:3, 3] = camera.camera_to_world[:3, :3] @ [0, 0, 2.5]
    assert published_loss(far, box_world, pixels, camera) == pytest.approx(
        reprojection_cost(far, box_world, pixels, camera) + 1.5
    )
    assert published_loss(np.eye(4), box_world, pixels, camera) == pytest.approx(0)


def test_a_resting_object_needs_one_published_run(camera, box_world):
    fit = fit_published(box_world[::10], camera.project(box_world[::10]).pixels, camera, np.random.default_rng(0))
    assert fit.solves == 1
    assert np.allclose(fit.motion_world, np.eye(4))


def test_the_published_search_forgets_its_run_from_zeros(camera, box_world, motion_about, monkeypatch):
    runs = []

    def minimise(loss, start):
        found = found_by(loss, start)
        runs.append(found)
        return found

    found_by = published_fit.minimize
    monkeypatch.setattr(published_fit, "minimize", minimise)
    points = box_world[::10]
    pixels = seen_after(motion_about(points, step_m=(0.02, 0, 0)), points, camera)
    pixels += np.random.default_rng(1).normal(0, 0.3, pixels.shape)
    fit = fit_published(points, pixels, camera, np.random.default_rng(0), restarts=1)
    assert [len(runs), fit.solves] == [2, 2]
    # Also where it was the better one.
    assert np.allclose(fit.motion_world, euler_motion(runs[1].x))
    assert not np.allclose(fit.motion_world, euler_motion(runs[0].x))


def test_the_similarity_filter_keeps_who_moves_together():
    rng = np.random.default_rng(0)
    before = rng.uniform(0, 100, (200, 2))
    after = 1.1 * before @ rotation_about(np.array([0, 0, 1.0]), 20)[:2, :2].T + [5, -3]
    after[150:] += rng.uniform(2, 30, (50, 2))
    assert np.array_equal(similarity_inliers(before, after, rng), np.arange(150))


def test_the_similarity_filter_needs_two_points():
    with pytest.raises(NoMotion, match="AVDC's filter samples two points of 1; the object's points were all lost."):
        similarity_inliers(np.zeros((1, 2)), np.zeros((1, 2)), np.random.default_rng(0))
