"""Fixtures for tests that run the real Meta-World."""

import numpy as np
import pytest

from flowbench.camera import CameraPose
from flowbench.registry import get_suite
from flowbench.simulator import RenderSettings

WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def simulators():
    """Give a function that builds simulators by task name, and keeps them."""
    kept = {}

    def get(task_name, suite_name="metaworld11", protocol=None, profile="full"):
        key = (task_name, suite_name, protocol, profile)
        if key not in kept:
            suite = get_suite(suite_name)
            settings = RenderSettings(WIDTH, HEIGHT, profile)
            kept[key] = suite.make_simulator(suite.task(task_name), suite.rules(protocol), settings)
        return kept[key]

    yield get
    for simulator in kept.values():
        simulator.close()


@pytest.fixture(scope="session")
def look():
    """Give a function that renders a camera pose written as text, and returns the frame and its calibration."""

    def look(simulator, camera, *modalities):
        pose = CameraPose.parse(camera)
        params = pose.apply(simulator.view(pose.view), simulator.workspace_center_world, WIDTH, HEIGHT)
        return simulator.render(pose.view, params, frozenset(modalities)), params

    return look


@pytest.fixture(scope="session")
def walk():
    """Give a function that takes random steps and returns everything they gave."""

    def walk(simulator, steps, seed=0):
        rng = np.random.default_rng(seed)
        seen = []
        for _ in range(steps):
            outcome = simulator.step(rng.uniform(-1, 1, 4))
            seen.append([*simulator.raw_observation(), outcome.reward, outcome.success])
        return np.array(seen)

    return walk
