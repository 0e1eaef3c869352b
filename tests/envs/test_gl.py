"""Rendering variables: who decides, and what is said when nothing can be rendered."""

import os
import subprocess
import sys
import types

import pytest

from flowbench.envs import gl
from flowbench.errors import RenderingUnavailable

VARIABLES = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "CUDA_VISIBLE_DEVICES", "MUJOCO_EGL_DEVICE_ID", "LP_NUM_THREADS")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="MuJoCo has one choice elsewhere")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """Take the rendering variables away, and put them back however the code under test changed them."""
    for name in VARIABLES:
        # Set first, so that monkeypatch restores variables that were absent.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(gl, "_device_was_derived", False)


def pretend_installed(monkeypatch, *names):
    monkeypatch.setattr(gl, "_can_load", lambda name: name in names)


def run_python(code, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def test_egl_is_preferred(monkeypatch):
    pretend_installed(monkeypatch, "egl", "osmesa")
    assert gl.configure_rendering() == "egl"
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == "egl"


def test_osmesa_is_the_second_choice(monkeypatch):
    pretend_installed(monkeypatch, "osmesa")
    assert gl.configure_rendering() == "osmesa"
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == "osmesa"


def test_the_users_pyopengl_platform_chooses_between_installed_backends(monkeypatch):
    pretend_installed(monkeypatch, "egl", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "osmesa")
    assert gl.configure_rendering() == "osmesa"


@pytest.mark.parametrize("value", ["glfw", "osmesa", "egl", "disable"])
def test_the_users_mujoco_gl_is_kept(monkeypatch, value):
    pretend_installed(monkeypatch, "egl", "osmesa")
    monkeypatch.setenv("MUJOCO_GL", value)
    assert gl.configure_rendering() == value
    assert os.environ["MUJOCO_GL"] == value


def test_a_contradicting_pyopengl_platform_gives_way_to_mujoco_gl(monkeypatch):
    pretend_installed(monkeypatch, "egl", "osmesa")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "osmesa")
    gl.configure_rendering()
    assert os.environ["PYOPENGL_PLATFORM"] == "egl"


def test_software_rendering_is_pinned_to_one_thread_unless_the_user_says_otherwise(monkeypatch):
    gl.configure_rendering()
    assert os.environ["LP_NUM_THREADS"] == "1"
    monkeypatch.setenv("LP_NUM_THREADS", "3")
    gl.configure_rendering()
    assert os.environ["LP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("visible", "own", "expected"),
    [("2,3", None, "2"), ("1", "0", "0"), ("", None, None), ("-1", None, None), ("GPU-8a1f", None, None)],
)
def test_visible_cuda_devices_choose_the_egl_device(monkeypatch, visible, own, expected):
    pretend_installed(monkeypatch, "egl")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if own is not None:
        monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", own)
    gl.configure_rendering()
    assert os.environ.get("MUJOCO_EGL_DEVICE_ID") == expected


def test_configuring_twice_changes_nothing(monkeypatch):
    pretend_installed(monkeypatch, "osmesa")
    gl.configure_rendering()
    before = {name: os.environ.get(name) for name in VARIABLES}
    pretend_installed(monkeypatch, "egl", "osmesa")
    gl.configure_rendering()
    assert {name: os.environ.get(name) for name in VARIABLES} == before


def test_a_machine_without_opengl_fails_only_when_it_renders(monkeypatch):
    pretend_installed(monkeypatch)
    assert gl.configure_rendering() == "disable"
    with pytest.raises(RenderingUnavailable) as raised:
        gl.make_gl_context(64, 64)
    assert str(raised.value) == (
        "Rendering needs OpenGL, and neither libEGL nor libOSMesa can be loaded. Install Mesa's software EGL: apt-get "
        "install -y libegl1 libgl1 libopengl0 libgl1-mesa-dri (or libosmesa6, with MUJOCO_GL=osmesa). Runs without "
        "cameras need no OpenGL."
    )


def test_rendering_that_the_user_switched_off_is_not_called_missing(monkeypatch):
    pretend_installed(monkeypatch, "osmesa")
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(
        RenderingUnavailable, match="MUJOCO_GL=off switches rendering off. Unset it, or set MUJOCO_GL=osmesa"
    ):
        gl.make_gl_context(64, 64)


def test_a_backend_that_is_not_installed_names_its_library(monkeypatch):
    pretend_installed(monkeypatch, "egl")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    message = r"MUJOCO_GL=osmesa asks for a library that cannot be loaded \(libOSMesa.so.8\). Unset it and let FlowBench choose"
    with pytest.raises(RenderingUnavailable, match=message):
        gl.configure_rendering()


def test_a_word_that_mujoco_does_not_know_is_refused(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(
        RenderingUnavailable, match="MUJOCO_GL=vulkan is no rendering backend of MuJoCo's. Set it to egl"
    ):
        gl.configure_rendering()


def test_a_context_that_cannot_be_made_says_why(monkeypatch):
    class Broken:
        def __init__(self, width, height):
            raise AttributeError("'NoneType' object has no attribute 'eglQueryDevicesEXT'")

    pretend_installed(monkeypatch, "egl")
    monkeypatch.setattr(gl, "_gl_context_class", lambda name: Broken)
    monkeypatch.delitem(sys.modules, "OpenGL.platform", raising=False)
    with pytest.raises(RenderingUnavailable) as raised:
        gl.make_gl_context(64, 64)
    assert str(raised.value).startswith(
        "MuJoCo's OpenGL backend MUJOCO_GL=egl could not create a context ('NoneType' object has no attribute "
        "'eglQueryDevicesEXT'). Install Mesa's software EGL: apt-get install -y libegl1"
    )


def test_an_earlier_import_with_another_backend_is_named(monkeypatch):
    class OSMesaPlatform:
        pass

    pretend_installed(monkeypatch, "egl")
    monkeypatch.setitem(sys.modules, "OpenGL.platform", types.SimpleNamespace(PLATFORM=OSMesaPlatform()))
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(RenderingUnavailable) as raised:
        gl.make_gl_context(64, 64)
    assert str(raised.value) == (
        "MuJoCo or PyOpenGL was already imported in this process with the OpenGL backend 'osmesa', and MUJOCO_GL=egl can no "
        "longer take effect. Set MUJOCO_GL=egl before starting Python, or create the FlowBench environment before "
        "importing them."
    )


SKIP_WITHOUT_EGL = """
import sys
try:
    import flowbench.envs.gl as gl, mujoco
    gl.describe()
except Exception as error:
    print("no rendering here:", error)
    sys.exit(77)
"""


def run_with_rendering(code, prelude="", **variables):
    pytest.importorskip("mujoco")
    check = run_python(SKIP_WITHOUT_EGL)
    if check.returncode == 77:
        pytest.skip(check.stdout.strip())
    return run_python(prelude + code, **variables)


def test_describe_names_backend_renderer_and_version():
    finished = run_with_rendering("from flowbench.envs.gl import describe; print(*describe(), sep='|')")
    backend, renderer, version = finished.stdout.strip().split("|")
    assert backend in ("egl", "osmesa")
    assert renderer and version


def test_mujoco_may_be_imported_before_flowbench():
    finished = run_with_rendering(
        "from flowbench.envs.gl import describe; print(describe().renderer)", "import mujoco\n"
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()


def test_an_egl_device_that_does_not_exist_is_not_insisted_on():
    finished = run_with_rendering(
        "from flowbench.envs.gl import describe; print(describe().renderer)", CUDA_VISIBLE_DEVICES="9"
    )
    assert finished.returncode == 0, finished.stderr


def test_an_egl_device_that_the_user_named_and_does_not_exist_is_refused():
    finished = run_with_rendering(
        "from flowbench.envs.gl import describe; describe()", MUJOCO_GL="egl", MUJOCO_EGL_DEVICE_ID="9"
    )
    assert finished.returncode == 1
    assert "MUJOCO_EGL_DEVICE_ID environment variable must be an integer between 0 and" in finished.stderr


RENDER_AND_LEAVE = """
import mujoco, numpy as np
from flowbench.camera import CameraParams
from flowbench.envs.mujoco_renderer import MujocoRenderer
from flowbench.simulator import RenderSettings
xml = '<mujoco><worldbody><camera name="above" pos="0 0 2"/><geom size=".1"/></worldbody></mujoco>'
model = mujoco.MjModel.from_xml_string(xml)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = MujocoRenderer(model, data, RenderSettings(64, 48))
view = renderer.view("above")
camera = CameraParams.from_fovy(view.fovy_deg, view.camera_to_world, 64, 48)
frame = renderer.render("above", camera, {"rgb", "depth", "segmentation"})
print(round(float(frame.depth_m[24, 32]), 2), np.unique(frame.element_ids).tolist())
"""


def test_a_renderer_that_is_never_closed_leaves_no_traceback_at_exit():
    finished = run_with_rendering(RENDER_AND_LEAVE)
    assert finished.returncode == 0
    assert finished.stdout.strip() == "1.9 [-1, 0]"
    assert finished.stderr == ""


def test_a_renderer_may_be_closed_twice_and_render_again():
    finished = run_with_rendering(
        RENDER_AND_LEAVE + "renderer.close(); renderer.close()\n"
        "again = renderer.render('above', camera, {'rgb'})\nassert np.array_equal(again.rgb, frame.rgb)\nrenderer.close()"
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
