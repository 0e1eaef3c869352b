"""Whether a point lies inside something visible, so that a camera that would see only the inside of it is refused early."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np

_MESH, _PLANE = int(mujoco.mjtGeom.mjGEOM_MESH), int(mujoco.mjtGeom.mjGEOM_PLANE)
#: Shapes that `mju_rayGeom` intersects.
_SOLIDS = frozenset(
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{name}")) for name in ("SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX")
)
#: Towards the faces and the corners of a cube.
_DIRECTIONS = [
    np.array(signs, dtype=np.float64) / np.linalg.norm(signs)
    for signs in itertools.product((-1, 0, 1), repeat=3)
    if abs(sum(map(abs, signs)) - 2) == 1
]
#: Rays that must meet a shape: meshes of robot links are open where the next link begins, and often lose one of the 14. A
#: cupboard without its door loses five; Meta-World's own camera behindGripper looks out of such an opening and loses two.
_ENOUGH_RAYS = 13


def enclosing_geom(
    model: mujoco.MjModel, data: mujoco.MjData, point_world: np.ndarray, option: mujoco.MjvOption | None = None
) -> int | None:
    """Return a visible geom that the (3,) point lies inside of, or None.

    A point is inside a solid or a mesh if rays meet it in at least 13 of 14 directions; inside a cupboard with an open door
    is outside. A point is inside a plane if it lies below it.

    Args:
        model: The compiled model.
        data: The state; its geom poses are used.
        point_world: In metres.
        option: Which groups are visible; None is MuJoCo's default.
    """
    groups = np.asarray((option or mujoco.MjvOption()).geomgroup, dtype=bool)
    point = np.asarray(point_world, dtype=np.float64)
    visible = groups[model.geom_group] & (model.geom_rgba[:, 3] > 0)
    distances_m = np.linalg.norm(data.geom_xpos - point, axis=1)
    near = visible & ((model.geom_rbound == 0) | (distances_m <= model.geom_rbound))
    return next((int(geom) for geom in np.flatnonzero(near) if _is_inside(model, data, int(geom), point)), None)


def _is_inside(model: mujoco.MjModel, data: mujoco.MjData, geom: int, point: np.ndarray) -> bool:
    kind, position, rotation = model.geom_type[geom], data.geom_xpos[geom], data.geom_xmat[geom]
    if kind == _PLANE:
        local = rotation.reshape(3, 3).T @ (point - position)
        half_size = model.geom_size[geom, :2]
        return bool(local[2] < 0 and np.all((half_size == 0) | (np.abs(local[:2]) < half_size)))
    if kind == _MESH:
        distances_m = [mujoco.mj_rayMesh(model, data, geom, point, direction) for direction in _DIRECTIONS]
    elif kind in _SOLIDS:
        size = model.geom_size[geom]
        distances_m = [mujoco.mju_rayGeom(position, rotation, size, point, ray, kind) for ray in _DIRECTIONS]
    else:
        return False
    return sum(distance_m >= 0 for distance_m in distances_m) >= _ENOUGH_RAYS
