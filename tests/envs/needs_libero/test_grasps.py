"""Grasps are planned on shapes alone: a box by its narrow side, a bowl by its rim, nothing where the hand has no room."""

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="needs flowbench[libero]")

from flowbench.agents.scripted.libero.collision_points import box_points, hull_points
from flowbench.agents.scripted.libero.grasps import Problem, plan_grasps
from flowbench.agents.scripted.libero.hand import POINTING_DOWN, nearest_half_turn, pointing_down, pointing_towards
from flowbench.agents.scripted.libero.placing import contact_height

NOTHING = np.zeros((0, 3))


def box(half_size, center):
    return box_points(np.array(half_size), 0.003) + center


def rim(radius=0.06, height=0.05, thickness=0.006):
    """Return points of an upright tube, open at the top."""
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    heights = np.linspace(0, height, 18)
    return np.array(
        [[r * np.cos(a), r * np.sin(a), z] for r in (radius, radius - thickness) for a in angles for z in heights]
    )


def problem(target, obstacles=NOTHING):
    return Problem(target, obstacles, target.mean(axis=0), float(target[:, 2].min()))


def test_a_box_is_taken_across_its_narrow_side_near_its_middle():
    best = plan_grasps(problem(box((0.09, 0.02, 0.03), (0.3, 0.1, 0.03))))[0]
    assert best.width == pytest.approx(0.04, abs=0.002)
    assert abs(best.rotation[1, 0]) == pytest.approx(1.0, abs=1e-6)  # It closes along y.
    np.testing.assert_allclose(best.position[:2], [0.3, 0.1], atol=0.01)
    np.testing.assert_allclose(best.rotation[:, 2], [0, 0, -1], atol=1e-9)


def test_a_bowl_is_taken_by_its_rim():
    best = plan_grasps(problem(rim()))[0]
    assert np.hypot(*best.position[:2]) == pytest.approx(0.057, abs=0.008)
    assert best.width < 0.015
    across_the_rim = best.position[:2] / np.hypot(*best.position[:2])
    assert abs(across_the_rim @ best.rotation[:2, 0]) > 0.9


def test_a_box_wider_than_the_hand_opens_has_no_grasp():
    assert plan_grasps(problem(box((0.06, 0.06, 0.03), (0, 0, 0.03))), yaws=[0.0, np.pi / 2]) == []


def test_no_finger_comes_down_on_a_neighbour():
    target = box((0.02, 0.02, 0.03), (0, 0, 0.03))
    neighbour = box((0.02, 0.05, 0.03), (0.05, 0, 0.03))
    grasps = plan_grasps(problem(target, neighbour))
    assert grasps
    assert abs(grasps[0].rotation[1, 0]) > 0.9  # Along y, where it is free.


def test_something_that_hangs_over_an_object_makes_the_hand_lean():
    target = rim()
    roof = box((0.03, 0.15, 0.005), (0.05, 0, 0.12))
    grasps = plan_grasps(problem(target, roof))
    assert grasps
    upright = [grasp for grasp in grasps if grasp.rotation[2, 2] < -0.999]
    assert all(grasp.position[0] < 0.03 for grasp in upright)


def test_the_same_problem_gives_the_same_grasps():
    once, twice = (plan_grasps(problem(rim(), box((0.02, 0.05, 0.03), (0.1, 0, 0.03)))) for _ in range(2))
    assert [grasp.score for grasp in once] == [grasp.score for grasp in twice]
    np.testing.assert_array_equal([grasp.position for grasp in once], [grasp.position for grasp in twice])


@pytest.mark.parametrize("yaw", [-1.5, -0.3, 0.0, 0.7, 1.5])
def test_the_hand_closes_along_its_yaw_and_stays_near_its_first_posture(yaw):
    rotation = pointing_down(yaw)
    assert abs(rotation[:2, 0] @ [-np.sin(yaw), np.cos(yaw)]) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.trace(rotation.T @ POINTING_DOWN) >= np.trace(
        nearest_half_turn(rotation, -POINTING_DOWN).T @ POINTING_DOWN
    )


@pytest.mark.parametrize("closing_across", [False, True])
def test_a_hand_turned_by_a_right_angle_points_along_the_direction(closing_across):
    direction = np.array([0.6, 0.8, 0.0])
    rotation = pointing_towards(direction, np.pi / 2, closing_across=closing_across)
    np.testing.assert_allclose(rotation[:, 2], direction, atol=1e-12)
    assert abs(rotation[2, 0]) == pytest.approx(0.0 if closing_across else 1.0, abs=1e-12)


def test_a_box_comes_to_rest_on_the_highest_thing_below_it():
    held = box((0.03, 0.03, 0.02), (0, 0, -0.01))  # Its underside is 3 cm below the hand.
    step = box((0.02, 0.02, 0.05), (0.02, 0, 0.05))
    assert contact_height(held, np.array([0.0, 0.0]), step) == pytest.approx(0.13, abs=1e-6)
    assert contact_height(held, np.array([0.3, 0.0]), step) is None


def test_hull_points_lie_on_the_hull():
    corners = np.array([[x, y, z] for x in (0, 1.0) for y in (0, 1.0) for z in (0, 1.0)])
    points = hull_points(np.vstack([corners, [[0.5, 0.5, 0.5]]]), 0.1)
    on_a_face = np.isclose(points, 0) | np.isclose(points, 1)
    assert on_a_face.any(axis=1).all()
    assert len(points) >= 50
