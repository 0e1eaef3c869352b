"""Calibration agrees with the pixels: every task, camera and pose, against rays cast by the physics engine.

For every pixel a ray is cast from the calibrated camera through the pixel's centre, and MuJoCo's collision code (no OpenGL)
says what it hits and where. Both pictures must agree: in names, in depth, and in what a depth error means on a slanted surface
in pixels. Surfaces seen from behind differ in kind: OpenGL does not draw them, rays stop there.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, maximum_filter, minimum_filter

pytest.importorskip("metaworld", reason="needs flowbench[metaworld]")
import mujoco

from flowbench.camera import CameraPose, random_pose
from flowbench.envs.metaworld.suites import AVDC_TASKS, VIEWS
from flowbench.task import Scenario

pytestmark = pytest.mark.usefixtures("opengl")

#: On surfaces that change by less than this from pixel to pixel, depth says nothing about where in the image a point is.
SLANTED_M_PER_PX = 5e-4
#: Parts smaller than this have no stable centroid.
LARGE_PX = 40


class Comparison(NamedTuple):
    """Rendered against cast.

    Attributes:
        agreeing: Share of the hit pixels whose names agree.
        depth_error_m: Error of the rendered depth at those, as its 99th percentile.
        error_px: Distance in pixels by which a point of a slanted surface would have to move to explain its depth, as the
            99th percentile.
        worst_px: The largest such distance on single planes and boxes, which have no inside to be seen.
        slanted_px: Number of pixels that this was measured at.
        centroid_px: Distance between the centroids of a part in both pictures, as the median over the parts.
    """

    agreeing: float
    depth_error_m: float
    error_px: float
    worst_px: float
    slanted_px: int
    centroid_px: float


def cast(simulator, params):
    """Return the part ids and the depth in metres that rays through the pixels' centres meet."""
    shape = params.height, params.width
    rows, columns = np.indices(shape)
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    position = params.camera_to_world[:3, 3].copy()
    # One metre along the optical axis, so that distances along these rays are depths.
    directions = params.unproject(pixels, np.ones(len(pixels))) - position
    geoms, depths = np.zeros(len(pixels), np.int32), np.zeros(len(pixels))
    visible_groups = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    model, data = simulator.model, simulator.data
    mujoco.mj_multiRay(
        model, data, position, directions.ravel(), visible_groups, 1, -1, geoms, depths, len(pixels), 1e6
    )
    return simulator._parts.id_of_element[geoms + 1].reshape(shape), depths.reshape(shape)


def flat_parts(simulator):
    """Return the ids of the parts that are one plane or one box."""
    model = simulator.model
    part_of_geom = simulator._parts.id_of_element[1 : 1 + model.ngeom]
    single = [part for part in simulator.segmentation_names() if np.sum(part_of_geom == part) == 1]
    flat = np.isin(model.geom_type, [mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX])
    return np.intersect1d(single, part_of_geom[flat])


def compare(simulator, frame, params):
    cast_ids, cast_depth_m = cast(simulator, params)
    names = simulator.segmentation_names()
    # Rays pass through markers.
    solid = ~np.isin(frame.segmentation, [index for index, name in names.items() if name.startswith("site/")])
    hit = solid & (cast_ids > 0)
    same = hit & (cast_ids == frame.segmentation)
    error_m = np.abs(cast_depth_m - frame.depth_m)
    slope_m = np.hypot(*np.gradient(cast_depth_m))
    one_surface = same & (maximum_filter(cast_ids, 3) == minimum_filter(cast_ids, 3))
    slanted = binary_erosion(one_surface, np.ones((3, 3))) & (slope_m > SLANTED_M_PER_PX)
    error_px = np.where(slanted, error_m / np.where(slanted, slope_m, 1), 0)
    flat = slanted & np.isin(cast_ids, flat_parts(simulator))
    centroids = []
    for part in np.unique(cast_ids[same]):
        ours, theirs = (np.argwhere(solid & (image == part)) for image in (frame.segmentation, cast_ids))
        if min(len(ours), len(theirs)) >= LARGE_PX and abs(len(ours) - len(theirs)) <= 0.01 * len(ours):
            centroids.append(np.linalg.norm(ours.mean(axis=0) - theirs.mean(axis=0)))
    return Comparison(
        same.sum() / max(1, hit.sum()),
        float(np.quantile(error_m[same], 0.99)),
        float(np.quantile(error_px[slanted], 0.99)) if slanted.any() else 0.0,
        float(error_px[flat].max(initial=0)),
        int(flat.sum()),
        float(np.median(centroids)) if centroids else 0.0,
    )


def assert_calibrated(simulator, look, camera):
    frame, params = look(simulator, camera, "depth", "segmentation")
    comparison = compare(simulator, frame, params)
    assert comparison.depth_error_m < 1e-3, (camera, comparison)
    assert comparison.worst_px < 0.5, (camera, comparison)
    assert comparison.error_px < 0.5, (camera, comparison)
    assert comparison.centroid_px < 0.25, (camera, comparison)
    return comparison


@pytest.mark.parametrize("view", ["corner", "corner2", "corner3", "corner4", "topview", "corner2+az20+yaw5+fovy10"])
def test_rendered_and_cast_pictures_agree(simulators, look, view):
    simulator = simulators("button-press")
    simulator.reset(Scenario(0))
    comparison = assert_calibrated(simulator, look, view)
    # From above the table is not slanted, and the walls are seen from inside.
    assert comparison.agreeing > (0.9 if view == "topview" else 0.99)
    assert comparison.slanted_px > (0 if view == "topview" else 5000)


def test_the_law_notices_half_a_pixel(simulators, look):
    simulator = simulators("button-press")
    simulator.reset(Scenario(0))
    frame, params = look(simulator, "corner", "depth", "segmentation")
    intrinsics = params.intrinsics.copy()
    intrinsics[0, 2] += 0.5
    right = compare(simulator, frame, params)
    wrong = compare(simulator, frame, replace(params, intrinsics=intrinsics))
    assert right.worst_px < 0.01 and wrong.worst_px > 0.4
    assert right.centroid_px < 0.1 and wrong.centroid_px > 0.4
    assert right.depth_error_m < 1e-5 and wrong.depth_error_m > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("task", AVDC_TASKS)
def test_calibration_holds_in_every_task_camera_and_random_pose(simulators, look, task):
    simulator = simulators(task)
    simulator.reset(Scenario(1))
    rng = np.random.default_rng(AVDC_TASKS.index(task))
    poses = [CameraPose(view) for view in VIEWS]
    poses += [random_pose(("corner", "corner2", "corner3", "topview")[index % 4], rng) for index in range(20)]
    measured = [assert_calibrated(simulator, look, str(pose)).slanted_px for pose in poses]
    assert sum(pixels > 1000 for pixels in measured) >= 15


@pytest.mark.parametrize("view", ["corner", "corner2", "corner3", "corner+az15+el-5", "corner2+fovy10+roll20"])
def test_the_table_top_is_flat_and_at_height_zero(simulators, look, view):
    simulator = simulators("button-press")
    simulator.reset(Scenario(0))
    frame, params = look(simulator, view, "depth", "segmentation")
    table = next(index for index, name in simulator.segmentation_names().items() if name == "tablelink/box")
    heights_m = params.unproject_image(frame.depth_m)[..., 2]
    # The rim is left out: there the table's sides are almost at the same height.
    top = binary_erosion((frame.segmentation == table) & (np.abs(heights_m) < 0.005), iterations=4)
    assert top.sum() > 2000
    assert np.sqrt(np.mean(heights_m[top] ** 2)) < 1e-5


def test_calibration_follows_a_mounted_camera(simulators, look):
    simulator = simulators("button-press")
    simulator.reset(Scenario(0))
    for _ in range(15):
        simulator.step(np.array([1.0, 1.0, -0.2, 0]))
    assert_calibrated(simulator, look, "gripperPOV")
    simulator.reset(Scenario(0))
