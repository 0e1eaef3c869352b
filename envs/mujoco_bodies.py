"""Rigid bodies of a MuJoCo model: which one a rendered element belongs to, and where each stands."""

from __future__ import annotations

import mujoco
import numpy as np


def body_of_element(model: mujoco.MjModel) -> np.ndarray:
    """Return the int32 (1 + ngeom + nsite,) body by 1 + element of `MujocoFrame.element_ids`; entry 0 is the background.

    A geom belongs to its body. A site counts as a body of its own, after the model's: suites move their goal markers within
    a body, which therefore are not rigid parts of it.
    """
    sites = model.nbody + np.arange(model.nsite)
    return np.concatenate([[0], model.geom_bodyid, sites]).astype(np.int32)


def body_poses(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Return the (nbody + nsite, 4, 4) poses in the world, metres, as they stand in `data`; the first is the identity."""
    poses = np.zeros((model.nbody + model.nsite, 4, 4))
    poses[: model.nbody, :3, :3] = data.xmat.reshape(-1, 3, 3)
    poses[: model.nbody, :3, 3] = data.xpos
    poses[model.nbody :, :3, :3] = data.site_xmat.reshape(-1, 3, 3)
    poses[model.nbody :, :3, 3] = data.site_xpos
    poses[:, 3, 3] = 1
    return poses
