"""Points on the surfaces of collision geoms: the only description of shape that the expert's planners use."""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.spatial import ConvexHull, QhullError

#: Points along one edge of a box, at most.
_MOST_PER_EDGE = 80
_MOST_PER_MESH = 6000


def surface_points(model: mujoco.MjModel, geom: int, spacing_m: float) -> np.ndarray:
    """Return (N, 3) points on a geom's surface, about `spacing_m` apart, in the geom's frame; planes have none."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return box_points(size, spacing_m)
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first = model.mesh_vertadr[mesh]
        return hull_points(model.mesh_vert[first : first + model.mesh_vertnum[mesh]], spacing_m)
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        return _cylinder_points(size[0], size[1], spacing_m)
    if kind in (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_ELLIPSOID):
        directions = np.random.default_rng(0).normal(size=(400, 3))
        radii = size if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID else size[0]
        return radii * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.zeros((0, 3))


def box_points(half_size: np.ndarray, spacing_m: float) -> np.ndarray:
    """Return points on the six faces of a box."""
    counts = [int(np.clip(2 * half / spacing_m + 1, 2, _MOST_PER_EDGE)) for half in half_size]
    lines = [np.linspace(-half, half, count) for half, count in zip(half_size, counts, strict=True)]
    faces = []
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        a, b = np.meshgrid(lines[first], lines[second])
        for side in (-half_size[axis], half_size[axis]):
            face = np.empty((a.size, 3))
            face[:, first], face[:, second], face[:, axis] = a.ravel(), b.ravel(), side
            faces.append(face)
    return np.concatenate(faces)


def hull_points(vertices: np.ndarray, spacing_m: float) -> np.ndarray:
    """Return points on the convex hull of a mesh, which is what MuJoCo collides."""
    try:
        hull = ConvexHull(vertices)
    except QhullError:  # Flat, or too few vertices.
        return np.array(vertices, dtype=float)
    triangles = vertices[hull.simplices]
    edges_1, edges_2 = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    areas = np.linalg.norm(np.cross(edges_1, edges_2), axis=1) / 2
    count = int(np.clip(areas.sum() / spacing_m**2, 50, _MOST_PER_MESH))
    generator = np.random.default_rng(0)
    chosen = generator.choice(len(areas), count, p=areas / areas.sum())
    u, v = generator.random((2, count, 1))
    root = np.sqrt(u)
    inside = triangles[chosen, 0] + root * (1 - v) * edges_1[chosen] + root * v * edges_2[chosen]
    return np.concatenate([vertices[hull.vertices], inside])


def _cylinder_points(radius: float, half_length: float, spacing_m: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    heights = np.linspace(-half_length, half_length, max(2, int(2 * half_length / spacing_m)))
    wall = [np.column_stack([radius * circle, np.full(len(circle), height)]) for height in heights]
    caps = [
        np.column_stack([inner * circle, np.full(len(circle), height)])
        for inner in np.linspace(0, radius, 8)
        for height in (-half_length, half_length)
    ]
    return np.concatenate(wall + caps)
