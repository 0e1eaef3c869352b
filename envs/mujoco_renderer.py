"""Calibrated RGB-D and ids from MuJoCo, for every suite that runs on it.

MuJoCo's own renderers draw a full, shadowed frame per array and at the camera's own pose only. This one draws what is
asked for, from any pose, and never twice:

- RGB is one lit pass, with the pixels of `mujoco.Renderer` and of Gymnasium, byte for byte.
- Depth and ids share one unlit pass without anti-aliasing, about fifteen times cheaper. Depth is deliberately not read
  from the lit pass: its samples lie off the pixel centres, which displaces the table top of Meta-World by 1 to 3 mm
  (unlit: under 0.001 mm). It equals `mujoco.Renderer`'s depth bit for bit.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import mujoco
import numpy as np

from flowbench.camera import CameraParams, View
from flowbench.envs.gl import make_gl_context
from flowbench.errors import RenderingUnavailable, ShapeError
from flowbench.simulator import RenderSettings

# MuJoCo cameras look along -z with y up; OpenCV cameras look along +z with y down.
_MUJOCO_TO_OPENCV = np.array([1.0, -1.0, -1.0])
# A camera turned by half a turn about its optical axis.
_HALF_TURN = np.array([-1.0, -1.0, 1.0])
#: A requested field of view this close to the model's own is the model's own (it went through an arc tangent).
_FOVY_TOLERANCE_DEG = 1e-9
#: `fast` leaves these out; it is not for published numbers.
_FAST_FLAGS = {mujoco.mjtRndFlag.mjRND_SHADOW: False, mujoco.mjtRndFlag.mjRND_REFLECTION: False}
_ID_FLAGS = {mujoco.mjtRndFlag.mjRND_SEGMENT: True, mujoco.mjtRndFlag.mjRND_IDCOLOR: True}

#: What `Simulator.passes` is for a suite that renders with this module.
PASSES = (frozenset({"rgb"}), frozenset({"depth", "segmentation"}))


class MujocoFrame(NamedTuple):
    """What one camera sees; what was not asked for is None.

    Attributes:
        rgb: uint8 (H, W, 3), upright and not mirrored.
        depth_m: float32 (H, W) metres along the optical axis; 0 where nothing was hit.
        element_ids: int32 (H, W): g for geom g, `model.ngeom + s` for site s, -1 for nothing or anything else.
    """

    rgb: np.ndarray | None = None
    depth_m: np.ndarray | None = None
    element_ids: np.ndarray | None = None


class MujocoRenderer:
    """Renders a model from its named cameras, displaced at will.

    Non-obvious behaviours:
        - No OpenGL is touched before the first `render`.
        - The camera's pose is written into `data` and the field of view into `model` only while MuJoCo builds the scene
          (so that culling and the headlight follow), and put back: rendering changes neither.
        - Cameras in `rolled` are mounted upside down; their image and their pose are turned by half a turn together.
        - Several renderers may live in one process; each makes its own context current.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        settings: RenderSettings,
        *,
        rolled: Collection[str] = (),
        scene_option: mujoco.MjvOption | None = None,
        scene_flags: Mapping[mujoco.mjtRndFlag, bool] | None = None,
        max_geoms: int = 1000,
    ) -> None:
        """Remember what to render; nothing is allocated yet.

        Args:
            model: The compiled model; its `vis.quality` decides anti-aliasing and shadow size, as upstream.
            data: The state that is rendered.
            settings: Image size and profile.
            rolled: Names of the cameras whose upright image is upstream's turned by half a turn.
            scene_option: Which groups are visible; None is MuJoCo's default.
            scene_flags: Render flags that differ from MuJoCo's default.
            max_geoms: Capacity of the scene (Gymnasium and robosuite use 1000).
        """
        self.model = model
        self.data = data
        self.settings = settings
        self._rolled = frozenset(rolled)
        self._option = scene_option or mujoco.MjvOption()
        self._flags = dict(scene_flags or {})
        self._max_geoms = max_geoms
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._rect = mujoco.MjrRect(0, 0, settings.width, settings.height)
        self._scene: mujoco.MjvScene | None = None
        self._gl: Any = None
        self._contexts: dict[str, mujoco.MjrContext] = {}

    def view(self, name: str) -> View:
        """Return a named camera as it stands in `data`, in the convention of its upright image."""
        camera = self.model.camera(name).id
        camera_to_world = np.eye(4)
        camera_to_world[:3, :3] = self.data.cam_xmat[camera].reshape(3, 3) * self._axes(name)
        camera_to_world[:3, 3] = self.data.cam_xpos[camera]
        # A body whose weld root is the world never moves.
        mounted = self.model.body_weldid[self.model.cam_bodyid[camera]] != 0
        return View(camera_to_world, float(self.model.cam_fovy[camera]), bool(mounted))

    def render(self, name: str, camera: CameraParams, modalities: Collection[str]) -> MujocoFrame:
        """Render from the pose and field of view of `camera`.

        Args:
            name: The named camera that `camera` is, or was displaced from.
            camera: Upright, unmirrored, with a central principal point, of the size in the settings.
            modalities: Any of `rgb`, `depth`, `segmentation`, `bodies`; the last two give `element_ids`.

        Raises:
            RenderingUnavailable: If no OpenGL context can be made.
            ShapeError: If the camera's size is not the renderer's.
        """
        size = (self.settings.width, self.settings.height)
        if (camera.width, camera.height) != size:
            raise ShapeError(f"The camera is {camera.width}x{camera.height}; this renderer makes {size[0]}x{size[1]}.")
        self._make_current()
        rgb = depth_m = element_ids = None
        if "rgb" in modalities:
            self._update_scene(name, camera)
            rgb = self._upright(name, self._lit_pass())
        ids, depth = not {"segmentation", "bodies"}.isdisjoint(modalities), "depth" in modalities
        if ids or depth:
            with self._without_invisible() as something_is_left_out:
                if rgb is None or something_is_left_out:
                    self._update_scene(name, camera)
            colours, inverse_depth = self._unlit_pass(ids, depth)
            if inverse_depth is not None:
                depth_m = self._upright(name, self._metric_depth(inverse_depth))
            if colours is not None:
                element_ids = self._upright(name, self._decode_ids(colours))
        return MujocoFrame(rgb, depth_m, element_ids)

    def close(self) -> None:
        """Free the OpenGL context; may be called twice. A later `render` makes a new one."""
        gl, self._gl = self._gl, None
        contexts, self._contexts = self._contexts, {}
        self._scene = None
        if gl is None:
            return
        _open_renderers.discard(self)
        gl.make_current()
        for context in contexts.values():
            context.free()
        gl.free()

    def __del__(self) -> None:
        # Left to themselves, MuJoCo's contexts would free their objects in whichever OpenGL context is current.
        if getattr(self, "_gl", None) is not None:
            self.close()

    def _axes(self, name: str) -> np.ndarray:
        """Signs that take the columns of MuJoCo's camera rotation to the upright OpenCV camera's, and back."""
        return _MUJOCO_TO_OPENCV * _HALF_TURN if name in self._rolled else _MUJOCO_TO_OPENCV

    def _upright(self, name: str, rows_bottom_up: np.ndarray) -> np.ndarray:
        """Turn OpenGL's bottom-up rows into the upright image."""
        # Upstream flips the rows; a rolled camera's image is that, turned by half a turn: the rows stay, columns flip.
        return np.ascontiguousarray(rows_bottom_up[:, ::-1] if name in self._rolled else rows_bottom_up[::-1])

    def _update_scene(self, name: str, camera: CameraParams) -> None:
        with self._posed(name, camera):
            mujoco.mjv_updateScene(
                self.model, self.data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
            )

    @contextmanager
    def _without_invisible(self) -> Iterator[bool]:
        """Leave out what is hidden by a negative opacity, as robosuite hides its 20 m long aiming rod and the stove's flame.

        Drawing in colour shows nothing of it, but an id or a depth does not know opacity. MuJoCo itself skips what has none.
        Yields whether there is such a thing.
        """
        colours = (self.model.site_rgba, self.model.geom_rgba)
        hidden = [np.flatnonzero(rgba[:, 3] < 0) for rgba in colours]
        opacities = [rgba[index, 3] for rgba, index in zip(colours, hidden, strict=True)]
        for rgba, index in zip(colours, hidden, strict=True):
            rgba[index, 3] = 0
        try:
            yield any(map(len, hidden))
        finally:
            for rgba, index, opacity in zip(colours, hidden, opacities, strict=True):
                rgba[index, 3] = opacity

    @contextmanager
    def _posed(self, name: str, camera: CameraParams) -> Iterator[None]:
        model, data, index = self.model, self.data, self.model.camera(name).id
        self._camera.fixedcamid = index
        position, rotation, fovy = data.cam_xpos[index].copy(), data.cam_xmat[index].copy(), model.cam_fovy[index]
        data.cam_xpos[index] = camera.camera_to_world[:3, 3]
        data.cam_xmat[index] = (camera.camera_to_world[:3, :3] * self._axes(name)).ravel()
        if abs(camera.fovy_deg - fovy) > _FOVY_TOLERANCE_DEG:
            model.cam_fovy[index] = camera.fovy_deg
        try:
            yield
        finally:
            data.cam_xpos[index], data.cam_xmat[index], model.cam_fovy[index] = position, rotation, fovy

    def _make_current(self) -> None:
        if self._gl is not None:
            self._gl.make_current()
            return
        self._gl = make_gl_context(self.settings.width, self.settings.height)
        self._scene = mujoco.MjvScene(self.model, self._max_geoms)
        for flag, value in self._flags.items():
            self._scene.flags[flag] = value
        _close_at_exit(self)

    def _context(self, kind: str) -> mujoco.MjrContext:
        """Return the context of a pass, current for drawing.

        `lit` has the model's own anti-aliasing and shadows; `plain` has neither, so that it holds pure ids.
        """
        if kind not in self._contexts:
            quality, buffer = self.model.vis.quality, self.model.vis.global_
            before = quality.offsamples, quality.shadowsize, buffer.offwidth, buffer.offheight
            if kind == "plain":
                quality.offsamples = quality.shadowsize = 0
            buffer.offwidth = max(buffer.offwidth, self.settings.width)
            buffer.offheight = max(buffer.offheight, self.settings.height)
            try:
                context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_150)
            except mujoco.FatalError as error:
                raise RenderingUnavailable(
                    f"MuJoCo could not set up OpenGL for images of {self.settings.width}x{self.settings.height}: {error}. "
                    "Check with: flowbench doctor"
                ) from error
            finally:
                quality.offsamples, quality.shadowsize, buffer.offwidth, buffer.offheight = before
            # MuJoCo draws with a reversed z-buffer; reading it as it is keeps its precision, and 0 is "nothing".
            context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
            self._contexts[kind] = context
        context = self._contexts[kind]
        # The binding is one per OpenGL context: without this the other pass would be read, silently.
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        return context

    def _lit_pass(self) -> np.ndarray:
        fast = self.settings.profile == "fast"
        colours = np.empty((self.settings.height, self.settings.width, 3), np.uint8)
        self._draw("plain" if fast else "lit", _FAST_FLAGS if fast else {}, colours, None)
        return colours

    def _unlit_pass(self, ids: bool, depth: bool) -> tuple[np.ndarray | None, np.ndarray | None]:
        shape = (self.settings.height, self.settings.width)
        colours = np.empty((*shape, 3), np.uint8) if ids else None
        inverse_depth = np.empty(shape, np.float32) if depth else None
        self._draw("plain", _ID_FLAGS, colours, inverse_depth)
        return colours, inverse_depth

    def _draw(
        self,
        kind: str,
        flags: Mapping[mujoco.mjtRndFlag, bool],
        colours: np.ndarray | None,
        inverse_depth: np.ndarray | None,
    ) -> None:
        context = self._context(kind)
        before = self._scene.flags.copy()
        for flag, value in flags.items():
            self._scene.flags[flag] = value
        mujoco.mjr_render(self._rect, self._scene, context)
        mujoco.mjr_readPixels(colours, inverse_depth, self._rect, context)
        self._scene.flags[:] = before

    def _metric_depth(self, inverse_depth: np.ndarray) -> np.ndarray:
        """Turn the reversed z-buffer (1 at the near plane, 0 at the far plane) into metres.

        z = a / (d + b) with a = near far / (far - near), b = near / (far - near). Both come out of OpenGL's projection
        matrix, which is float32; rounding them as it does is what makes the result agree with the buffer (and with
        `mujoco.Renderer`).
        """
        extent = self.model.stat.extent
        near = np.float32(self.model.vis.map.znear * extent)
        far = np.float32(self.model.vis.map.zfar * extent)
        half = np.float32(0.5)
        b = half * ((far + near) / (far - near)) - half
        a = half * (np.float32(2) * far * near / (far - near))
        depth_m = (a / (inverse_depth.astype(np.float64) + b)).astype(np.float32)
        depth_m[inverse_depth == 0] = 0
        return depth_m

    def _decode_ids(self, colours: np.ndarray) -> np.ndarray:
        scene = self._scene
        codes = colours[..., 0].astype(np.int32)
        codes |= colours[..., 1].astype(np.int32) << 8
        codes |= colours[..., 2].astype(np.int32) << 16
        offsets = {int(mujoco.mjtObj.mjOBJ_GEOM): 0, int(mujoco.mjtObj.mjOBJ_SITE): self.model.ngeom}
        # MuJoCo draws segment id + 1, so that black is the background.
        element_of_code = np.full(max(scene.ngeom, int(codes.max())) + 2, -1, np.int32)
        for geom in scene.geoms[: scene.ngeom]:
            offset = offsets.get(geom.objtype)
            if offset is not None and geom.segid >= 0:
                element_of_code[geom.segid + 1] = offset + geom.objid
        return element_of_code[codes]


_open_renderers: weakref.WeakSet[MujocoRenderer] = weakref.WeakSet()
_exit_hook_registered = False


def _close_at_exit(renderer: MujocoRenderer) -> None:
    """Free contexts before the interpreter goes down.

    MuJoCo terminates EGL in an exit hook that it registers with the first context; freeing a context after that prints
    a traceback. Hooks run last in, first out, so ours is registered after that first context exists.
    """
    global _exit_hook_registered
    _open_renderers.add(renderer)
    if not _exit_hook_registered:
        atexit.register(_close_open_renderers)
        _exit_hook_registered = True


def _close_open_renderers() -> None:
    for renderer in list(_open_renderers):
        renderer.close()
