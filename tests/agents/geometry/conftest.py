"""An object of known shape that moves in a known way before known cameras."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flowbench.camera import CameraParams, look_at

CAMERA = CameraParams.from_fovy(45, look_at(np.array([-1.1, -0.4, 0.6]), np.array([0.0, 0.6, 0.1])), 320, 240)


@pytest.fixture(params=["upright", "mirrored"])
def camera(request):
    return CAMERA if request.param == "upright" else CAMERA.mirror()


@pytest.fixture
def box_world():
    """(300, 3) points on the visible faces of an 8 x 5 x 4 cm box, metres."""
    points = np.random.default_rng(0).uniform(-1, 1, (300, 3)) * [0.04, 0.025, 0.02]
    points[:150, 2] = 0.02
    points[150:, 0] = -0.04
    return points + [0.05, 0.6, 0.05]


@pytest.fixture
def motion_about():
    """Return a function that makes a (4, 4) motion about the middle of some points."""

    def make(points_world, rotation_deg=(0, 0, 0), step_m=(0, 0, 0)):
        motion = np.eye(4)
        motion[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
        centre = points_world.mean(axis=0)
        motion[:3, 3] = centre + step_m - motion[:3, :3] @ centre
        return motion

    return make
