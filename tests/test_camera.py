"""Camera geometry, tested by its laws."""

import numpy as np
import pytest

from flowbench.camera import (
    CameraParams,
    CameraPose,
    View,
    expand_sweep,
    invert_rigid,
    look_at,
    random_pose,
    transform_points,
)
from flowbench.errors import CameraError, ShapeError

CENTER = np.array([0.0, 0.6, 0.1])


def random_camera(rng: np.random.Generator) -> CameraParams:
    pose = look_at(rng.uniform(-1, 1, 3) + [0, 0, 1.5], CENTER)
    return CameraParams.from_fovy(rng.uniform(30, 90), pose, int(rng.integers(20, 300)), int(rng.integers(20, 300)))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("change", ["none", "mirror", "rotate_180", "resize", "crop"])
def test_projecting_an_unprojected_pixel_returns_it(rng, change):
    for _ in range(20):
        camera = random_camera(rng)
        if change in ("mirror", "rotate_180"):
            camera = getattr(camera, change)()
        elif change == "resize":
            camera = camera.resize(77, 33)
        elif change == "crop":
            camera = camera.crop(3, 5, 10, 12)
        pixels = rng.uniform(-5, 300, (50, 2))
        depth_m = rng.uniform(0.1, 5, 50)
        projected = camera.project(camera.unproject(pixels, depth_m))
        np.testing.assert_allclose(projected.pixels, pixels, atol=1e-9)
        np.testing.assert_allclose(projected.depth_m, depth_m, atol=1e-12)


def test_unprojected_image_lands_on_its_own_pixel_grid(rng):
    camera = random_camera(rng)
    points_world = camera.unproject_image(rng.uniform(0.5, 2, (camera.height, camera.width)))
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    np.testing.assert_allclose(camera.project(points_world).pixels, np.stack([columns, rows], -1), atol=1e-9)


def test_camera_axes_are_opencv():
    camera = CameraParams.from_fovy(60, look_at(np.array([0.0, -1.0, 0.0]), np.zeros(3)), 101, 101)
    center = camera.project(np.zeros(3))
    np.testing.assert_allclose(center.pixels, [50, 50], atol=1e-12)
    assert center.depth_m == pytest.approx(1.0)
    assert camera.project(np.array([0.1, 0, 0])).pixels[0] > 50, (
        "world x is to the right of a camera that looks along y"
    )
    assert camera.project(np.array([0, 0, 0.1])).pixels[1] < 50, "up in the world is up in the image"


def test_mirrored_and_turned_cameras_follow_their_pixels(rng):
    camera = random_camera(rng)
    points_world = CENTER + rng.uniform(-0.1, 0.1, (30, 3))
    columns, rows = camera.project(points_world).pixels.T
    np.testing.assert_allclose(camera.mirror().project(points_world).pixels.T, [camera.width - 1 - columns, rows])
    turned = camera.rotate_180().project(points_world)
    np.testing.assert_allclose(turned.pixels.T, [camera.width - 1 - columns, camera.height - 1 - rows], atol=1e-9)
    assert np.all(turned.depth_m > 0)
    assert np.linalg.det(camera.rotate_180().camera_to_world[:3, :3]) == pytest.approx(1)
    assert camera.mirror().mirrored
    assert not camera.mirror().mirror().mirrored


def test_resizing_keeps_the_image_borders_in_place(rng):
    camera = CameraParams.from_fovy(45, np.eye(4), 320, 240)
    small = camera.resize(160, 120)
    corner_world = camera.unproject(np.array([-0.5, -0.5]), np.array(1.0))
    np.testing.assert_allclose(small.project(corner_world).pixels, [-0.5, -0.5], atol=1e-9)
    np.testing.assert_allclose(small.intrinsics, CameraParams.from_fovy(45, np.eye(4), 160, 120).intrinsics)
    assert small.fovy_deg == pytest.approx(45)


def test_inverse_of_a_rigid_transform_undoes_it(rng):
    transform = random_camera(rng).camera_to_world
    np.testing.assert_allclose(invert_rigid(transform) @ transform, np.eye(4), atol=1e-12)
    points = rng.normal(size=(5, 3))
    np.testing.assert_allclose(transform_points(invert_rigid(transform), transform_points(transform, points)), points)


def view() -> View:
    return View(look_at(np.array([0.8, -0.4, 0.9]), CENTER), 45)


def test_an_undisplaced_pose_is_the_view_itself():
    params = CameraPose.parse("corner").apply(view(), CENTER, 32, 24)
    np.testing.assert_array_equal(params.camera_to_world, view().camera_to_world)


@pytest.mark.parametrize("text", ["corner", "corner2+yaw15", "corner+x0.05+az-10", "a/b+fovy-5"])
def test_pose_text_round_trips(text):
    assert str(CameraPose.parse(text)) == text


@pytest.mark.parametrize("kind, value", [("yaw", 20), ("pitch", -7), ("roll", 90), ("az", 33), ("el", -12), ("z", 0.2)])
def test_opposite_offsets_cancel(kind, value):
    params = CameraPose.parse(f"c+{kind}{value}+{kind}{-value}").apply(view(), CENTER, 32, 24)
    np.testing.assert_allclose(params.camera_to_world, view().camera_to_world, atol=1e-9)


@pytest.mark.parametrize("offset", ["az40", "el20", "az-15+el10"])
def test_orbits_keep_the_look_at_point_in_the_image_centre_at_the_same_distance(offset):
    base = CameraPose.parse("c").apply(view(), CENTER, 33, 25)
    moved = CameraPose.parse(f"c+{offset}").apply(view(), CENTER, 33, 25)
    np.testing.assert_allclose(moved.project(CENTER).pixels, [16, 12], atol=1e-9)
    assert moved.project(CENTER).depth_m == pytest.approx(base.project(CENTER).depth_m)


def test_offsets_go_the_way_they_say():
    base = CameraPose.parse("c").apply(view(), CENTER, 33, 25)

    def moved(offset):
        return CameraPose.parse(f"c+{offset}").apply(view(), CENTER, 33, 25)

    right, down, forward = base.camera_to_world[:3, :3].T
    assert moved("yaw10").camera_to_world[:3, 2] @ right > 0
    assert moved("pitch10").camera_to_world[:3, 2] @ down < 0
    assert moved("roll10").camera_to_world[:3, 0] @ down > 0
    assert moved("el10").camera_to_world[2, 3] > base.camera_to_world[2, 3]
    np.testing.assert_allclose(moved("x0.1").camera_to_world[:3, 3] - base.camera_to_world[:3, 3], 0.1 * right)
    np.testing.assert_allclose(moved("z0.1").camera_to_world[:3, 3] - base.camera_to_world[:3, 3], 0.1 * forward)
    assert moved("fovy10").fovy_deg == pytest.approx(55)


def test_random_poses_are_reproducible_and_rigid(rng):
    pose = random_pose("c", np.random.default_rng(7))
    assert pose == random_pose("c", np.random.default_rng(7))
    rotation = pose.apply(view(), CENTER, 33, 25).camera_to_world[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_a_sweep_displaces_every_camera_and_contains_the_undisplaced_one():
    cameras = expand_sweep((CameraPose("a"), CameraPose("b")), "az=-20:20:20")
    assert [str(camera) for camera in cameras] == ["a+az-20", "a", "a+az20", "b+az-20", "b", "b+az20"]


def test_bad_poses_are_refused_in_one_sentence():
    with pytest.raises(CameraError, match=r"has an offset 'tilt5' that is not one of x, y, z, yaw"):
        CameraPose.parse("corner+tilt5")
    with pytest.raises(CameraError, match="names no camera"):
        CameraPose.parse("+yaw5")
    with pytest.raises(CameraError, match="mounted on the robot and cannot orbit"):
        CameraPose.parse("wrist+az5").apply(view()._replace(mounted=True), CENTER, 32, 24)
    with pytest.raises(CameraError, match="field of view of 175 degrees"):
        CameraPose.parse("c+fovy130").apply(view(), CENTER, 32, 24)
    with pytest.raises(CameraError, match=r"is not of the form <offset>=<start>:<stop>:<step>"):
        expand_sweep((CameraPose("a"),), "az=1:2")
    with pytest.raises(ShapeError, match=r"intrinsics has shape \(2, 2\)"):
        CameraParams(np.eye(2), np.eye(4), 4, 4)
    with pytest.raises(ShapeError, match="not finite"):
        CameraParams(np.eye(3) * np.nan, np.eye(4), 4, 4)
