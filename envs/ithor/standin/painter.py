"""Draws a room with MuJoCo: colour and depth in one pass, ids in a second, from any pose.

A room never changes, so MuJoCo's scene is built once and only its camera moves; what is outside the picture is left out, and
anti-aliasing and shadows are off (MuJoCo's defaults make a 64 pixel frame 60 times slower on a CPU).

Unity's axes (x right, y up, z forward, left-handed) become MuJoCo's by exchanging y and z.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, NamedTuple

from flowbench.envs.gl import configure_rendering, make_gl_context
from flowbench.envs.ithor.standin.materials import LARGE, LARGE_PX, MATERIALS, SMALL_PX, paint
from flowbench.envs.ithor.standin.rooms import Room
from flowbench.envs.ithor.standin.things import Block, Thing

configure_rendering()

import mujoco  # noqa: E402
import numpy as np  # noqa: E402

#: Clipping planes of iTHOR's camera, metres (`cameraNearPlane` and `cameraFarPlane` of `Initialize`).
NEAR_M, FAR_M = 0.1, 20.0
#: Exchanges Unity's y and z.
TO_MUJOCO = [0, 2, 1]
#: Things are boxes at least this thick, because MuJoCo draws nothing thinner well.
_THINNEST_M = 0.004


class Eye(NamedTuple):
    """Where a picture is taken from, in Unity's axes.

    Attributes:
        position: (3,) metres.
        yaw_deg: Clockwise seen from above, from +z.
        pitch_deg: Down.
        roll_deg: Unity's rotation about the camera's own z axis, which is applied first.
        fovy_deg: Vertical field of view.
    """

    position: tuple[float, float, float]
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    fovy_deg: float

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the (3,) right, up and forward directions in MuJoCo's axes."""
        yaw, pitch, roll = (math.radians(angle) for angle in (self.yaw_deg, self.pitch_deg, self.roll_deg))
        cosine, sine, level, down = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
        forward = np.array([sine * level, cosine * level, -down])
        across, upright = np.array([cosine, -sine, 0.0]), np.array([sine * down, cosine * down, level])
        # Unity turns its x axis towards its y axis.
        return (
            math.cos(roll) * across + math.sin(roll) * upright,
            math.cos(roll) * upright - math.sin(roll) * across,
            forward,
        )


class Pictures(NamedTuple):
    """What an eye sees, bottom row first, as the wire has it.

    Attributes:
        rgb: uint8 (H, W, 3).
        depth_m: float32 (H, W) metres along the optical axis; `FAR_M` where nothing was hit.
        ids: uint8 (H, W, 4) colour of the thing at each pixel, see `Painter.colors`; None if not asked for.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    ids: np.ndarray | None


class Painter:
    """Draws one room at one size.

    Attributes:
        model: The room as a MuJoCo model, which rays can be cast into.
        data: Its only state.
        owners: int (G,) index of the thing that each geom belongs to, sim objects first, then walls and ceiling.
        colors: Name and id colour of every object, part of the building and object type.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.things = (*room.things, *room.shell)
        self.model, owners = _compile(room, self.things)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        self.owners = np.array(owners)
        names = [thing.type if thing.structure else thing.object_id for thing in self.things]
        types = sorted({thing.type for thing in room.things})
        self.colors = [{"name": name, "color": _color(name)} for name in dict.fromkeys([*names, *types])]
        self._id_of_geom = np.array([_color(names[owner]) for owner in owners], np.uint8)
        self._scene: Any = None

    def draw(self, canvas: Canvas, eye: Eye, *, ids: bool) -> Pictures:
        """Draw the room onto a canvas."""
        if self._scene is None:
            self._build_scene()
        canvas.show(self)
        self._aim(eye, canvas.width / canvas.height)
        self._leave_out(eye, canvas.width / canvas.height)
        rgb = np.empty((canvas.height, canvas.width, 3), np.uint8)
        inverse_depth = np.empty((canvas.height, canvas.width), np.float32)
        canvas.draw(self._scene, rgb, inverse_depth)
        # The z-buffer is reversed: 1 at the near plane, 0 at the far plane and where nothing is.
        depth_m = (NEAR_M * FAR_M / (NEAR_M + inverse_depth.astype(np.float64) * (FAR_M - NEAR_M))).astype(np.float32)
        return Pictures(rgb, depth_m, self._draw_ids(canvas) if ids else None)

    def _build_scene(self) -> None:
        self._scene = mujoco.MjvScene(self.model, self.model.ngeom + 8)
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        mujoco.mjv_updateScene(
            self.model, self.data, mujoco.MjvOption(), None, mujoco.MjvCamera(), mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        self._geoms = self._scene.geoms[: self._scene.ngeom]
        self._types = np.array([geom.type for geom in self._geoms])
        self._drawn = np.ones(len(self._geoms), dtype=bool)
        self._middles = np.array([geom.pos for geom in self._geoms])
        self._radii_m = np.array([np.linalg.norm(geom.size) for geom in self._geoms])
        self._id_of_segment = np.zeros((self._scene.ngeom + 1, 4), np.uint8)
        self._id_of_segment[:, 3] = 255
        for geom in self._geoms:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                self._id_of_segment[geom.segid + 1, :3] = self._id_of_geom[geom.objid]

    def _aim(self, eye: Eye, aspect: float) -> None:
        _, up, forward = eye.axes()
        top = NEAR_M * math.tan(math.radians(eye.fovy_deg) / 2)
        for camera in self._scene.camera:
            camera.pos, camera.forward, camera.up = np.array(eye.position)[TO_MUJOCO], forward, up
            camera.frustum_center, camera.frustum_width = 0.0, top * aspect
            camera.frustum_bottom, camera.frustum_top = -top, top
            camera.frustum_near, camera.frustum_far = NEAR_M, FAR_M

    def _leave_out(self, eye: Eye, aspect: float) -> None:
        """Let MuJoCo pass over what lies wholly outside the picture: it would draw it, at ten microseconds apiece."""
        right, up, forward = eye.axes()
        away = self._middles - np.array(eye.position)[TO_MUJOCO]
        ahead = away @ forward
        inside = ahead > -self._radii_m
        for axis, slope in ((right, aspect), (up, 1.0)):
            slope *= math.tan(math.radians(eye.fovy_deg) / 2)
            # Distance beyond the two planes of this axis that bound the picture.
            inside &= (np.abs(away @ axis) - slope * ahead) / math.hypot(1, slope) < self._radii_m
        for index in np.flatnonzero(inside != self._drawn):
            self._geoms[index].type = self._types[index] if inside[index] else mujoco.mjtGeom.mjGEOM_NONE
        self._drawn = inside

    def _draw_ids(self, canvas: Canvas) -> np.ndarray:
        flags = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
        for flag in flags:
            self._scene.flags[flag] = 1
        codes = np.empty((canvas.height, canvas.width, 3), np.uint8)
        canvas.draw(self._scene, codes, None)
        for flag in flags:
            self._scene.flags[flag] = 0
        return self._id_of_segment[codes[..., 0].astype(np.int32) | codes[..., 1].astype(np.int32) << 8]


class Canvas:
    """An off-screen OpenGL context of one size; the room on it can be exchanged."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._gl = make_gl_context(width, height)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._shown: Painter | None = None
        self._context: Any = None

    def show(self, painter: Painter) -> None:
        """Load the textures of a room, unless they are loaded."""
        if self._shown is painter:
            return
        self._free()
        buffer = painter.model.vis.global_
        buffer.offwidth, buffer.offheight = self.width, self.height
        self._context = mujoco.MjrContext(painter.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._shown = painter

    def draw(self, scene: Any, colors: np.ndarray, inverse_depth: np.ndarray | None) -> None:
        """Draw a scene of the room that is shown."""
        mujoco.mjr_render(self._rect, scene, self._context)
        mujoco.mjr_readPixels(colors, inverse_depth, self._rect, self._context)

    def close(self) -> None:
        """Free the context."""
        self._free()
        self._gl.free()

    def _free(self) -> None:
        if self._context is not None:
            self._context.free()
        self._context = self._shown = None


def _color(name: str) -> list[int]:
    """Return a name's id colour: always the same, and never black."""
    digest = hashlib.md5(name.encode()).digest()
    return [digest[0] | 1, digest[1], digest[2]]


def _compile(room: Room, things: tuple[Thing, ...]) -> tuple[Any, list[int]]:
    """Return the room as a MuJoCo model, and the index of the thing that each geom belongs to."""
    used = dict.fromkeys(block.material for thing in things for block in thing.blocks)
    assets = "".join(
        f'<texture name="{name}" type="{"2d" if name in LARGE else "cube"}" builtin="flat" '
        f'width="{_side(name)}" height="{_side(name)}"/><material name="{name}" texture="{name}" '
        f'texrepeat=".7 .7" texuniform="{"true" if name in LARGE else "false"}" specular=".05" shininess=".1"/>'
        for name in used
    )
    geoms, owners = [], []
    for index, thing in enumerate(things):
        for block, center, half in zip(thing.blocks, thing.centers, thing.halves, strict=True):
            geoms.append(_geom(thing, block, center, half))
            owners.append(index)
    x, z = (center + size / 12 for center, size in zip(room.center, room.size, strict=True))
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><compiler angle="degree"/><visual>'
        '<quality offsamples="0" shadowsize="0" numslices="12" numstacks="6" numquads="1"/>'
        '<headlight ambient=".62 .62 .62" diffuse=".22 .22 .22" specular="0 0 0"/></visual><statistic extent="1"/>'
        f"<asset>{assets}</asset><worldbody>"
        f'<light pos="{x} {z} {room.height_m - 0.6}" diffuse=".42 .41 .38" specular="0 0 0" castshadow="false"/>'
        f"{''.join(geoms)}</worldbody></mujoco>"
    )
    for number, name in enumerate(used):
        side = _side(name)
        start, faces = model.tex_adr[number], model.tex_height[number] // side
        model.tex_data[start : start + faces * side * side * 3] = paint(name, room.scene, faces).ravel()
    return model, owners


def _side(material: str) -> int:
    assert material in MATERIALS, material
    return LARGE_PX if material in LARGE else SMALL_PX


def _geom(thing: Thing, block: Block, center: np.ndarray, half: np.ndarray) -> str:
    half = np.maximum(half, _THINNEST_M / 2)
    if block.material in LARGE:
        return _plane(thing, center, half)
    shape = block.shape
    size = {"box": half[TO_MUJOCO], "cylinder": half[:2], "sphere": half[:1]}[shape]
    # Unity's yaw is clockwise and MuJoCo's counter-clockwise.
    placed = f'pos="{_text(center[TO_MUJOCO])}" size="{_text(size)}" euler="0 0 {-thing.yaw_deg}"'
    return f'<geom type="{shape}" {placed} material="{block.material}"/>'


def _plane(thing: Thing, center: np.ndarray, half: np.ndarray) -> str:
    """Draw the inner face of floor, ceiling or wall: only planes repeat their texture."""
    if thing.type == "Floor":
        return f'<geom type="plane" pos="{_text([center[0], center[2], 0])}" size="{_text(half[[0, 2]])} .1" material="floor"/>'
    if thing.type == "Ceiling":
        at = [center[0], center[2], center[1] - half[1]]
        return (
            f'<geom type="plane" pos="{_text(at)}" size="{_text(half[[0, 2]])} .1" euler="180 0 0" material="ceiling"/>'
        )
    toward = {"Wall_North": (0, -1), "Wall_South": (0, 1), "Wall_East": (-1, 0), "Wall_West": (1, 0)}[thing.name]
    at = [center[0] + toward[0] * half[0], center[2] + toward[1] * half[2], center[1]]
    length = half[0] if toward[0] == 0 else half[2]
    along = (-toward[1], toward[0])
    # The plane's own axes: x along the wall, y up, z into the room.
    return (
        f'<geom type="plane" pos="{_text(at)}" size="{_text([length, half[1]])} .1" xyaxes="{along[0]} {along[1]} 0 0 0 1" '
        'material="wall"/>'
    )


def _text(values: Any) -> str:
    return " ".join(f"{value:.6f}" for value in values)
