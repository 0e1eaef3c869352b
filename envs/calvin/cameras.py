"""CALVIN's two cameras, and the two renderers that draw for them: where in a pixel they sample differs.

PyBullet draws with TinyRenderer, on the processor, or with OpenGL through its EGL plugin. Their images differ in light and
texture (20 grey levels on average), and by half a pixel, which the calibration has to follow.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from flowbench.camera import View
from flowbench.errors import BadValue, RenderingUnavailable

#: Chooses the renderer: `tiny` (default) or `egl`.
RENDERER_VARIABLE = "FLOWBENCH_CALVIN_RENDERER"
RENDERERS = ("tiny", "egl")
#: How far each renderer's principal point lies from the image's centre, in pixels right and down. OpenGL samples at pixel
#: centres; TinyRenderer half a pixel to the left of and below them (fitted to a floor and to a cube of known pose: residuals
#: of 0.04 mm at 4 m in the static camera, against 1.1 mm with upstream's own `deproject`).
PRINCIPAL_SHIFT_PX: Mapping[str, tuple[float, float]] = {"tiny": (0.5, -0.5), "egl": (0.0, 0.0)}
#: PyBullet's name of the camera's link in the robot's description; the number in upstream's configuration is another's.
GRIPPER_CAMERA_LINK = "gripper_cam"


class RenderingInfo(NamedTuple):
    """Who draws the pixels; recorded with every run, because images differ.

    Attributes:
        renderer: `TinyRenderer`, or `OpenGL` for PyBullet's EGL plugin.
        pybullet: Version of PyBullet.
    """

    renderer: str
    pybullet: str


@dataclass(frozen=True)
class CameraModel:
    """Upstream's settings of a camera.

    Attributes:
        fovy_deg: Vertical field of view in degrees.
        near_m: Distance of the near plane, metres.
        far_m: Distance of the far plane, metres; nothing beyond it is drawn.
        camera_to_world: (4, 4) pose of a fixed camera; None for the one on the hand.
    """

    fovy_deg: float
    near_m: float
    far_m: float
    camera_to_world: np.ndarray | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> CameraModel:
        """Read upstream's settings."""
        pose = None
        if "look_from" in settings:
            pose = camera_to_world(settings["look_from"], settings["look_at"], settings["up_vector"])
        return cls(float(settings["fov"]), float(settings["nearval"]), float(settings["farval"]), pose)

    def view(self, camera_to_world: np.ndarray, renderer: str) -> View:
        """Return the view from a pose as a renderer draws it."""
        return View(
            camera_to_world,
            self.fovy_deg,
            mounted=self.camera_to_world is None,
            principal_shift_px=PRINCIPAL_SHIFT_PX[renderer],
        )

    def depth_m(self, buffer: np.ndarray) -> np.ndarray:
        """Turn a (H, W) depth buffer, 0 to 1, into float32 metres along the optical axis; 0 where nothing was hit."""
        # In float64: the buffer's last bits are tenths of a millimetre at four metres, and the formula cancels.
        buffer = buffer.astype(np.float64)
        depth_m = self.far_m * self.near_m / (self.far_m - (self.far_m - self.near_m) * buffer)
        return np.where(buffer < 1, depth_m, 0).astype(np.float32)


def camera_to_world(eye: Any, target: Any, up: Any) -> np.ndarray:
    """Return the (4, 4) pose, OpenCV axes, of a camera at `eye` that looks at `target` with `up` up in the image."""
    eye, target, up = (np.asarray(value, dtype=np.float64) for value in (eye, target, up))
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


def view_matrix(camera_to_world: np.ndarray) -> list[float]:
    """Return PyBullet's view matrix (OpenGL's axes, column by column) of a pose."""
    world_to_gl = np.diag([1.0, -1.0, -1.0, 1.0]) @ np.linalg.inv(camera_to_world)
    return world_to_gl.T.ravel().tolist()


def chosen_renderer() -> str:
    """Return the renderer that the environment asks for.

    Raises:
        BadValue: If there is no such renderer.
    """
    name = os.environ.get(RENDERER_VARIABLE, "").strip().lower() or RENDERERS[0]
    if name not in RENDERERS:
        raise BadValue(f"{RENDERER_VARIABLE}={name} is no renderer of PyBullet; choose {' or '.join(RENDERERS)}.")
    return name


def egl_plugin() -> str:
    """Return the path of PyBullet's EGL plugin.

    Raises:
        RenderingUnavailable: If this PyBullet has none.
    """
    spec = importlib.util.find_spec("eglRenderer")
    if spec is None or spec.origin is None:
        raise RenderingUnavailable(
            f"This PyBullet was built without its EGL renderer; unset {RENDERER_VARIABLE} to draw with TinyRenderer."
        )
    return spec.origin


def describe() -> RenderingInfo:
    """Return who draws, for manifests and `flowbench doctor`."""
    from importlib import metadata

    name = {"tiny": "TinyRenderer", "egl": "OpenGL (EGL plugin)"}[chosen_renderer()]
    return RenderingInfo(name, metadata.version("pybullet"))
