"""Pinhole cameras: what a view saw, where it stood, and how a user asks for another pose.

Every suite converts to one convention here, because the simulators disagree on all of it and a wrong sign still renders
a plausible image:

- OpenCV axes: x right, y down, z forward; right-handed; metres.
- Pixel centres at integers: the top-left pixel's centre is (0, 0), so a central principal point is ((W - 1) / 2, (H - 1) / 2).
- Depth is measured along the optical axis (not along the ray); 0 means that nothing was hit.
- `camera_to_world` maps camera coordinates to world coordinates; `extrinsic_cv` is its inverse.
- A horizontally mirrored image is a camera whose fx is negative. Projection stays plain linear algebra, and no pose has
  a determinant of -1.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from flowbench.errors import CameraError, ShapeError


class Projection(NamedTuple):
    """Where world points fall in an image.

    Attributes:
        pixels: (..., 2) column and row in pixels, pixel centres at integers.
        depth_m: (...) metres along the optical axis; not positive for points behind the camera.
    """

    pixels: np.ndarray
    depth_m: np.ndarray


@dataclass(frozen=True)
class CameraParams:
    """One calibrated view, exactly as its image was taken.

    Attributes:
        intrinsics: (3, 3) float64 pinhole matrix in pixels; no skew.
        camera_to_world: (4, 4) float64 rigid transform, metres, OpenCV camera axes.
        width: Image width in pixels.
        height: Image height in pixels.
    """

    intrinsics: np.ndarray
    camera_to_world: np.ndarray
    width: int
    height: int

    def __post_init__(self) -> None:
        for name, shape in (("intrinsics", (3, 3)), ("camera_to_world", (4, 4))):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != shape:
                raise ShapeError(f"{name} has shape {value.shape}; expected {shape}.")
            if not np.all(np.isfinite(value)):
                raise ShapeError(f"{name} has entries that are not finite: {value.tolist()}.")
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    @classmethod
    def from_fovy(cls, fovy_deg: float, camera_to_world: np.ndarray, width: int, height: int) -> CameraParams:
        """Build a camera with square pixels and a central principal point from its vertical field of view.

        f = (H / 2) / tan(fovy / 2), in pixels.
        """
        focal_px = height / 2 / math.tan(math.radians(fovy_deg) / 2)
        intrinsics = [[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]]
        return cls(np.array(intrinsics), camera_to_world, width, height)

    @property
    def world_to_camera(self) -> np.ndarray:
        """(4, 4) inverse of `camera_to_world`."""
        return invert_rigid(self.camera_to_world)

    @property
    def fovy_deg(self) -> float:
        """Vertical field of view in degrees."""
        return math.degrees(2 * math.atan(self.height / 2 / self.intrinsics[1, 1]))

    @property
    def mirrored(self) -> bool:
        """Whether the image is a horizontal mirror image (negative fx)."""
        return bool(self.intrinsics[0, 0] < 0)

    def project(self, points_world: np.ndarray) -> Projection:
        """Project (..., 3) world points in metres to pixels.

        Points in the camera's plane give infinite or NaN pixels, without a warning; check `depth_m > 0`.
        """
        points_world = np.asarray(points_world, dtype=np.float64)
        points_camera = transform_points(self.world_to_camera, points_world)
        depth_m = points_camera[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            normalised = points_camera[..., :2] / depth_m[..., None]
        focal = self.intrinsics[[0, 1], [0, 1]]
        return Projection(normalised * focal + self.intrinsics[:2, 2], depth_m)

    def unproject(self, pixels: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
        """Lift (..., 2) pixels with (...) depths in metres to (..., 3) world points in metres."""
        pixels = np.asarray(pixels, dtype=np.float64)
        depth_m = np.asarray(depth_m, dtype=np.float64)
        focal = self.intrinsics[[0, 1], [0, 1]]
        lateral = (pixels - self.intrinsics[:2, 2]) / focal * depth_m[..., None]
        points_camera = np.concatenate([lateral, depth_m[..., None]], axis=-1)
        return transform_points(self.camera_to_world, points_camera)

    def unproject_image(self, depth_m: np.ndarray) -> np.ndarray:
        """Lift a whole (H, W) depth image in metres to (H, W, 3) world points in metres."""
        if depth_m.shape != (self.height, self.width):
            raise ShapeError(
                f"depth has shape {depth_m.shape}; expected (height, width) = {(self.height, self.width)}."
            )
        columns, rows = np.meshgrid(np.arange(self.width), np.arange(self.height))
        return self.unproject(np.stack([columns, rows], axis=-1), depth_m)

    def mirror(self) -> CameraParams:
        """Return the camera of the horizontally mirrored image, `image[:, ::-1]`."""
        intrinsics = self.intrinsics.copy()
        intrinsics[0, 0] *= -1
        intrinsics[0, 2] = self.width - 1 - intrinsics[0, 2]
        return replace(self, intrinsics=intrinsics)

    def rotate_180(self) -> CameraParams:
        """Return the camera of the image turned by half a turn, `image[::-1, ::-1]`."""
        intrinsics = self.intrinsics.copy()
        intrinsics[:2, 2] = np.array([self.width - 1, self.height - 1]) - intrinsics[:2, 2]
        half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
        return replace(self, intrinsics=intrinsics, camera_to_world=self.camera_to_world @ half_turn)

    def resize(self, width: int, height: int) -> CameraParams:
        """Return the camera of the image resized to `width` x `height` (area-aligned, as OpenCV and PIL resize)."""
        scale = np.array([width / self.width, height / self.height])
        intrinsics = self.intrinsics.copy()
        intrinsics[[0, 1], [0, 1]] *= scale
        # Pixel centres at integers: the image's left edge is at -0.5 before and after.
        intrinsics[:2, 2] = (intrinsics[:2, 2] + 0.5) * scale - 0.5
        return replace(self, intrinsics=intrinsics, width=width, height=height)

    def crop(self, left: int, top: int, width: int, height: int) -> CameraParams:
        """Return the camera of `image[top : top + height, left : left + width]`."""
        if left < 0 or top < 0 or left + width > self.width or top + height > self.height or min(width, height) < 1:
            raise ShapeError(
                f"A crop of {width}x{height} at ({left}, {top}) does not fit in a {self.width}x{self.height} image."
            )
        intrinsics = self.intrinsics.copy()
        intrinsics[:2, 2] -= [left, top]
        return replace(self, intrinsics=intrinsics, width=width, height=height)


def invert_rigid(transform: np.ndarray) -> np.ndarray:
    """Invert a (4, 4) rigid transform."""
    rotation, translation = transform[:3, :3], transform[:3, 3]
    inverse = np.eye(4)
    inverse[:3, :3] = rotation.T
    inverse[:3, 3] = -rotation.T @ translation
    return inverse


def transform_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a (4, 4) rigid transform to (..., 3) points."""
    return points @ transform[:3, :3].T + transform[:3, 3]


def rotation_about(axis: np.ndarray, angle_deg: float) -> np.ndarray:
    """Return the (3, 3) right-handed rotation by `angle_deg` about the (3,) `axis`."""
    from scipy.spatial.transform import Rotation

    axis = np.asarray(axis, dtype=np.float64)
    return Rotation.from_rotvec(math.radians(angle_deg) * axis / np.linalg.norm(axis)).as_matrix()


def look_at(eye_world: np.ndarray, target_world: np.ndarray) -> np.ndarray:
    """Return the (4, 4) `camera_to_world` of an upright camera at `eye_world` that looks at `target_world`.

    World z is up. A camera that looks straight up or down has no unique roll; world y is then up in the image.
    """
    forward = np.asarray(target_world, dtype=np.float64) - eye_world
    forward /= np.linalg.norm(forward)
    up = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.999 else np.array([0.0, 1.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye_world
    return pose


class View(NamedTuple):
    """A named camera of a simulator, as it stands now.

    Attributes:
        camera_to_world: (4, 4) pose in metres, OpenCV axes, of the upright image.
        fovy_deg: Vertical field of view in degrees.
        mounted: Whether the camera rides on a moving body (a wrist camera).
        principal_shift_px: How far right and down of the image's centre the optical axis meets it, in pixels: not 0 where
            the renderer does not sample at pixel centres.
    """

    camera_to_world: np.ndarray
    fovy_deg: float
    mounted: bool = False
    principal_shift_px: tuple[float, float] = (0.0, 0.0)


#: What each offset of a camera pose does; the text is shown by `flowbench list cameras`.
OFFSET_KINDS = {
    "x": "metres to the camera's right",
    "y": "metres down in the image",
    "z": "metres forward along the optical axis",
    "yaw": "degrees: turn the camera to its right",
    "pitch": "degrees: turn the camera up",
    "roll": "degrees: turn the camera clockwise about its optical axis",
    "az": "degrees: orbit about the vertical through the look-at point, counter-clockwise seen from above",
    "el": "degrees: orbit up over the look-at point",
    "fovy": "degrees: add to the vertical field of view",
}
_ORBITS = ("az", "el")
_OFFSET = re.compile(r"(?P<kind>[a-z]+)(?P<value>-?(?:\d+\.?\d*|\.\d+))")


class CameraOffset(NamedTuple):
    """One displacement of a camera pose.

    Attributes:
        kind: A key of `OFFSET_KINDS`.
        value: Metres or degrees, as `OFFSET_KINDS` says.
    """

    kind: str
    value: float


@dataclass(frozen=True)
class CameraPose:
    """A request for a view, exactly or displaced: `corner2`, `corner2+yaw15`, `agentview+az-10+z0.05`.

    Offsets are applied from left to right, each in the camera frame that the previous ones left, except that `az` and
    `el` turn about the look-at point: the point of the named view's optical axis that is nearest to the suite's
    workspace centre.

    Attributes:
        view: Name of one of the suite's cameras.
        offsets: Displacements, in order; empty for the view itself.
    """

    view: str
    offsets: tuple[CameraOffset, ...] = ()

    def __str__(self) -> str:
        return "+".join([self.view, *(f"{offset.kind}{offset.value:g}" for offset in self.offsets)])

    @classmethod
    def parse(cls, text: str) -> CameraPose:
        """Read a pose from its text.

        Raises:
            CameraError: If an offset is not of the form `<kind><number>` with a kind of `OFFSET_KINDS`.
        """
        view, *parts = text.strip().split("+")
        if not view:
            raise CameraError(f"Camera pose {text!r} names no camera. Write for example 'corner' or 'corner+yaw15'.")
        offsets = []
        for part in parts:
            match = _OFFSET.fullmatch(part)
            if match is None or match["kind"] not in OFFSET_KINDS:
                raise CameraError(
                    f"Camera pose {text!r} has an offset {part!r} that is not one of {', '.join(OFFSET_KINDS)} followed "
                    f"by a number. Write for example '{view}+yaw15' or '{view}+x0.05+el-10'."
                )
            offsets.append(CameraOffset(match["kind"], float(match["value"])))
        return cls(view, tuple(offsets))

    def displaced(self, *offsets: CameraOffset) -> CameraPose:
        """Return this pose with further offsets applied after its own."""
        return replace(self, offsets=(*self.offsets, *offsets))

    def apply(self, view: View, workspace_center_world: np.ndarray, width: int, height: int) -> CameraParams:
        """Return the calibrated camera of this pose.

        Args:
            view: The named view as the simulator holds it now.
            workspace_center_world: (3,) metres; fixes the look-at point of `az` and `el`.
            width: Image width in pixels.
            height: Image height in pixels.

        Raises:
            CameraError: If a mounted camera is asked to orbit, or the field of view leaves (1, 170) degrees.
        """
        pose = np.array(view.camera_to_world, dtype=np.float64)
        fovy_deg = view.fovy_deg
        forward = pose[:3, 2]
        look_at_world = pose[:3, 3] + forward * max(0.05, float(forward @ (workspace_center_world - pose[:3, 3])))
        for kind, value in self.offsets:
            if kind in _ORBITS and view.mounted:
                raise CameraError(
                    f"Camera {self.view!r} is mounted on the robot and cannot orbit, as {str(self)!r} asks. Use the "
                    "offsets x, y, z, yaw, pitch, roll or fovy."
                )
            if kind == "fovy":
                fovy_deg += value
            else:
                pose = _displace(pose, kind, value, look_at_world)
        if not 1 < fovy_deg < 170:
            raise CameraError(
                f"Camera pose {str(self)!r} has a field of view of {fovy_deg:g} degrees; allowed is 1 to 170."
            )
        params = CameraParams.from_fovy(fovy_deg, pose, width, height)
        if view.principal_shift_px == (0.0, 0.0):
            return params
        intrinsics = params.intrinsics.copy()
        intrinsics[:2, 2] += view.principal_shift_px
        return replace(params, intrinsics=intrinsics)


def _displace(camera_to_world: np.ndarray, kind: str, value: float, look_at_world: np.ndarray) -> np.ndarray:
    moved = camera_to_world.copy()
    right, down, forward = camera_to_world[:3, :3].T
    if kind in "xyz":
        moved[:3, 3] += value * {"x": right, "y": down, "z": forward}[kind]
    elif kind in _ORBITS:
        axis = np.array([0.0, 0.0, 1.0]) if kind == "az" else -right
        rotation = rotation_about(axis, value)
        moved[:3, :3] = rotation @ camera_to_world[:3, :3]
        moved[:3, 3] = look_at_world + rotation @ (camera_to_world[:3, 3] - look_at_world)
    else:
        axis = {"yaw": down, "pitch": right, "roll": forward}[kind]
        moved[:3, :3] = rotation_about(axis, value) @ camera_to_world[:3, :3]
    return moved


def random_pose(
    view: str, rng: np.random.Generator, translation_m: float = 0.1, rotation_deg: float = 10.0
) -> CameraPose:
    """Draw a displaced pose: up to `translation_m` along each camera axis and `rotation_deg` about each."""
    bounds = {"x": translation_m, "y": translation_m, "z": translation_m}
    bounds |= {"yaw": rotation_deg, "pitch": rotation_deg, "roll": rotation_deg}
    return CameraPose(view, tuple(CameraOffset(k, round(float(rng.uniform(-b, b)), 4)) for k, b in bounds.items()))


def expand_sweep(cameras: tuple[CameraPose, ...], sweep: str) -> tuple[CameraPose, ...]:
    """Displace every camera by every value of a sweep such as `az=-20:20:10` (start:stop:step, both ends included).

    The value 0 stands for the undisplaced camera.

    Raises:
        CameraError: If the sweep is malformed.
    """
    match = re.fullmatch(r"(?P<kind>[a-z]+)=(?P<start>[-.\d]+):(?P<stop>[-.\d]+):(?P<step>[-.\d]+)", sweep)
    try:
        if match is None or match["kind"] not in OFFSET_KINDS:
            raise ValueError
        start, stop, step = (float(match[name]) for name in ("start", "stop", "step"))
        count = math.floor((stop - start) / step + 1e-9) + 1
        if count < 1:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise CameraError(
            f"Camera sweep {sweep!r} is not of the form <offset>=<start>:<stop>:<step>, e.g. az=-20:20:10. "
            f"Offsets: {', '.join(OFFSET_KINDS)}."
        ) from None
    values = [round(start + index * step, 6) for index in range(count)]
    return tuple(
        camera if value == 0 else camera.displaced(CameraOffset(match["kind"], value))
        for camera in cameras
        for value in values
    )
