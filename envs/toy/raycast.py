"""Exact ray casting of a few solids, in numpy: depth and visibility without a rasteriser, at any sub-pixel position.

Vectors are stored component first, (3, N), because numpy reduces over a leading axis of three much faster than over a
trailing one. A ray is `origin + t * direction` with directions that are *not* normalised: a camera ray whose direction
has length 1 along the optical axis makes `t` the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from flowbench.camera import CameraParams

#: Hits nearer than this are ignored, metres; it keeps a shadow ray from hitting the surface that it starts on.
NEAR_M = 1e-4


class Shape(Protocol):
    """A convex solid around the origin of its own frame."""

    @property
    def radius_m(self) -> float:
        """Radius of a sphere around the origin that holds the shape."""
        ...

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Return the (N,) ray parameter where rays enter the shape; infinity where they miss it.

        One of `origins` and `directions` may be (3, 1) for (3, N) of the other. Rays that start inside count as misses.
        """
        ...

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Return the (3, N) outward unit normals at (3, N) points of the surface."""
        ...

    def contains(self, point: np.ndarray) -> bool:
        """Return whether a (3,) point lies inside."""
        ...


@dataclass(frozen=True)
class Box:
    """A box, by half of its edge lengths in metres."""

    half_m: tuple[float, float, float]

    @property
    def radius_m(self) -> float:
        """Radius of the sphere through the corners."""
        return float(np.linalg.norm(self.half_m))

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See `Shape`; the slab method."""
        half = np.array(self.half_m)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1 / directions
            one, other = (-half - origins) * inverse, (half - origins) * inverse
        enter = np.fmin(one, other).max(axis=0)
        leave = np.fmax(one, other).min(axis=0)
        return np.where((enter <= leave) & (enter > NEAR_M), enter, np.inf)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """See `Shape`."""
        scaled = points / np.array(self.half_m)[:, None]
        axis = np.abs(scaled).argmax(axis=0)
        each = np.arange(points.shape[1])
        normals = np.zeros_like(points)
        normals[axis, each] = np.sign(scaled[axis, each])
        return normals

    def contains(self, point: np.ndarray) -> bool:
        """See `Shape`."""
        return bool(np.all(np.abs(point) <= self.half_m))


@dataclass(frozen=True)
class Cylinder:
    """A cylinder about z, by its radius and half of its height in metres."""

    side_m: float
    half_m: float

    @property
    def radius_m(self) -> float:
        """Radius of the sphere through both rims."""
        return float(np.hypot(self.side_m, self.half_m))

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See `Shape`."""
        (ox, oy, oz), (dx, dy, dz) = origins, directions
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b, c = dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy - self.side_m**2
            side = (-b - np.sqrt(b * b - a * c)) / a
            side = np.where(np.abs(oz + side * dz) <= self.half_m, side, np.inf)
            cap = (-np.sign(dz) * self.half_m - oz) / dz
            cap = np.where((ox + cap * dx) ** 2 + (oy + cap * dy) ** 2 <= self.side_m**2, cap, np.inf)
        enter = np.fmin(side, cap)
        return np.where(enter > NEAR_M, enter, np.inf)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """See `Shape`."""
        x, y, z = points
        across = np.hypot(x, y)
        on_cap = np.abs(z) / self.half_m > across / self.side_m
        with np.errstate(divide="ignore", invalid="ignore"):
            normals = np.stack([x / across, y / across, np.zeros_like(z)])
        normals[:, on_cap] = 0
        normals[2, on_cap] = np.sign(z[on_cap])
        return normals

    def contains(self, point: np.ndarray) -> bool:
        """See `Shape`."""
        return bool(np.hypot(point[0], point[1]) <= self.side_m and abs(point[2]) <= self.half_m)


@dataclass(frozen=True)
class Sphere:
    """A sphere, by its radius in metres."""

    radius_m: float

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See `Shape`."""
        a = (directions * directions).sum(axis=0)
        b = (origins * directions).sum(axis=0)
        c = (origins * origins).sum(axis=0) - self.radius_m**2
        with np.errstate(invalid="ignore"):
            enter = (-b - np.sqrt(b * b - a * c)) / a
            return np.where(enter > NEAR_M, enter, np.inf)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """See `Shape`."""
        return points / self.radius_m

    def contains(self, point: np.ndarray) -> bool:
        """See `Shape`."""
        return bool(np.linalg.norm(point) <= self.radius_m)


@dataclass(frozen=True)
class Solid:
    """A shape in its place.

    Attributes:
        name: Segmentation name; several solids may share one.
        shape: The shape, in its own frame.
        position_world: (3,) origin of that frame in metres.
        yaw: Rotation of that frame about world z in radians.
        colour: RGB in [0, 1].
        checker: Edge of a chess-board pattern on the solid's horizontal faces in metres; 0 for a plain colour.
    """

    name: str
    shape: Shape
    position_world: tuple[float, float, float]
    colour: tuple[float, float, float]
    yaw: float = 0.0
    checker: float = 0.0

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) rotation from the solid's frame to the world."""
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])

    def to_local(self, points_world: np.ndarray) -> np.ndarray:
        """Express (3, N) world points in the solid's frame."""
        return self.rotation.T @ (points_world - np.array(self.position_world)[:, None])

    def to_world(self, points_local: np.ndarray) -> np.ndarray:
        """Express (3, N) points of the solid's frame in the world."""
        return self.rotation @ points_local + np.array(self.position_world)[:, None]


class Hits(NamedTuple):
    """What rays hit first.

    Attributes:
        distance: (N,) ray parameter; infinity where nothing was hit.
        solid: (N,) index of the solid; -1 where nothing was hit.
    """

    distance: np.ndarray
    solid: np.ndarray


def cast(solids: Sequence[Solid], origins_world: np.ndarray, directions_world: np.ndarray) -> Hits:
    """Return what rays hit first.

    Args:
        solids: What can be hit.
        origins_world: (3, 1) for rays from one camera, else (3, N).
        directions_world: (3, 1) for rays towards one light, else (3, N). Not both can be (3, 1) unless N is 1.
    """
    count = max(origins_world.shape[1], directions_world.shape[1])
    distance = np.full(count, np.inf)
    solid_index = np.full(count, -1)
    # Per ray, for the bounding spheres: all that is left to do per solid are products with its centre.
    norms = RayNorms(
        (origins_world * origins_world).sum(axis=0),
        (origins_world * directions_world).sum(axis=0),
        (directions_world * directions_world).sum(axis=0),
    )
    for index, solid in enumerate(solids):
        candidates = np.flatnonzero(_near(solid, origins_world, directions_world, norms))
        if not len(candidates):
            continue
        origins = _columns(origins_world, candidates)
        directions = solid.rotation.T @ _columns(directions_world, candidates)
        enter = solid.shape.intersect(solid.to_local(origins), directions)
        closer = enter < distance[candidates]
        hit = candidates[closer]
        distance[hit] = enter[closer]
        solid_index[hit] = index
    return Hits(distance, solid_index)


class RayNorms(NamedTuple):
    """Scalar products of rays with themselves, each (N,) or (1,): origin^2, origin * direction, direction^2."""

    origin: np.ndarray
    mixed: np.ndarray
    direction: np.ndarray


def _columns(vectors: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return vectors if vectors.shape[1] == 1 else np.take(vectors, columns, axis=1)


def _near(solid: Solid, origins: np.ndarray, directions: np.ndarray, norms: RayNorms) -> np.ndarray:
    """Return which rays pass through the solid's bounding sphere, ahead of their origins."""
    center = np.array(solid.position_world)
    along = center @ directions - norms.mixed
    # The squared distance of origin and centre, less the squared radius (a little more, against rounding).
    radius_m = solid.shape.radius_m + 1e-6
    missing = norms.origin - 2 * (center @ origins) + (center @ center - radius_m**2)
    # The ray's nearest point to the centre is within the radius, or the origin is inside the sphere.
    return (missing <= 0) | ((along > 0) & (along * along >= missing * norms.direction))


def camera_rays(camera: CameraParams, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return origins (3, 1) and directions (3, N) in the world through (2, N) pixel positions, column then row.

    Directions advance one metre along the optical axis, so that the ray parameter of a hit is its depth.
    """
    focal, centre = camera.intrinsics[[0, 1], [0, 1]], camera.intrinsics[:2, 2]
    directions = np.ones((3, pixels.shape[1]))
    directions[:2] = (pixels - centre[:, None]) / focal[:, None]
    return camera.camera_to_world[:3, 3:], camera.camera_to_world[:3, :3] @ directions


def pixel_grid(camera: CameraParams) -> np.ndarray:
    """Return the (2, H * W) centres of all pixels, row by row."""
    rows, columns = np.indices((camera.height, camera.width), dtype=np.float64)
    return np.stack([columns.ravel(), rows.ravel()])
