"""The geometry of CALVIN's cameras, without drawing anything."""

import numpy as np
import pytest

from flowbench.camera import CameraPose
from flowbench.envs.calvin.cameras import CameraModel, camera_to_world, chosen_renderer, view_matrix
from flowbench.errors import BadValue

#: Upstream's static camera (calvin_env `conf/cameras/cameras/static.yaml`).
STATIC = {
    "fov": 10,
    "nearval": 0.01,
    "farval": 10,
    "look_from": [2.871459009488717, -2.166602199425597, 2.555159848480571],
    "look_at": [-0.026242351159453392, -0.0302329882979393, 0.3920000493526459],
    "up_vector": [0.4041403970338857, 0.22629790978217404, 0.8862616969685161],
}


def static(renderer):
    model = CameraModel.of(STATIC)
    return CameraPose("static").apply(model.view(model.camera_to_world, renderer), np.zeros(3), 200, 200)


def test_the_static_camera_looks_where_upstream_says():
    camera = static("egl")
    assert camera.intrinsics[0, 0] == pytest.approx(1143.005, abs=1e-3)
    pixels, depth_m = camera.project(np.array(STATIC["look_at"]))
    assert pixels == pytest.approx([99.5, 99.5]) and depth_m == pytest.approx(4.2, abs=1e-5)
    # Up in the world is up in the image.
    above = camera.project(np.array(STATIC["look_at"]) + [0, 0, 0.1]).pixels
    assert above[1] < 99.5


def test_tiny_renderer_samples_half_a_pixel_beside_the_centres():
    tiny, opengl = static("tiny"), static("egl")
    assert (tiny.intrinsics[:2, 2] - opengl.intrinsics[:2, 2]).tolist() == [0.5, -0.5]
    assert np.array_equal(tiny.camera_to_world, opengl.camera_to_world)


def test_a_displaced_pose_keeps_the_shift():
    model = CameraModel.of(STATIC)
    view = model.view(model.camera_to_world, "tiny")
    camera = CameraPose.parse("static+yaw3+x0.1+fovy5").apply(view, np.zeros(3), 64, 48)
    assert camera.intrinsics[:2, 2].tolist() == [32.0, 23.0]


def test_the_view_matrix_is_opengl_s_column_by_column():
    pose = camera_to_world([0, 0, 2], [0, 0, 0], [0, 1, 0])
    matrix = np.reshape(view_matrix(pose), (4, 4)).T
    # A point below the camera lies at negative z in OpenGL's axes; what is up in the world's y is up in the image.
    assert matrix @ [0, 0, 0, 1] == pytest.approx([0, 0, -2, 1])
    assert (matrix @ [0, 1, 0, 1])[1] == pytest.approx(1)


def test_depth_is_metres_along_the_axis_and_zero_where_nothing_was_hit():
    model = CameraModel.of(STATIC)
    metres = np.array([[0.5, 4.2]])
    buffer = model.far_m * (metres - model.near_m) / (metres * (model.far_m - model.near_m))
    depth_m = model.depth_m(np.append(buffer, [[1.0, 0.0]], axis=1))
    assert depth_m.dtype == np.float32
    assert depth_m == pytest.approx(np.array([[0.5, 4.2, 0.0, 0.01]]), abs=1e-5)


def test_the_renderer_is_chosen_by_the_environment(monkeypatch):
    monkeypatch.delenv("FLOWBENCH_CALVIN_RENDERER", raising=False)
    assert chosen_renderer() == "tiny"
    monkeypatch.setenv("FLOWBENCH_CALVIN_RENDERER", "EGL")
    assert chosen_renderer() == "egl"
    monkeypatch.setenv("FLOWBENCH_CALVIN_RENDERER", "vulkan")
    with pytest.raises(
        BadValue, match="FLOWBENCH_CALVIN_RENDERER=vulkan is no renderer of PyBullet; choose tiny or egl"
    ):
        chosen_renderer()
