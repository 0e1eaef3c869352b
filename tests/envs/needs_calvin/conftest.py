"""Fixtures for tests that run the real CALVIN: they skip where the official checkout is not there."""

import pytest

from flowbench.env import EnvConfig, TaskEnv
from flowbench.registry import get_suite
from flowbench.simulator import RenderSettings


@pytest.fixture(scope="session")
def root():
    """The official checkout."""
    for module in ("pybullet", "hydra", "omegaconf"):
        pytest.importorskip(module, reason=f"CALVIN needs {module}: pip install 'flowbench[calvin]'")
    from flowbench.envs.calvin.checkout import find_checkout

    found = find_checkout()
    if found is None:
        pytest.skip("CALVIN's checkout is not in the cache, nor at CALVIN_ENV_ROOT: flowbench setup calvin")
    return found


@pytest.fixture(scope="session")
def simulators(root):
    """Give simulators by suite, task and protocol; each is loaded once."""
    kept = {}

    def get(suite="calvin-d-d", task="chain", protocol=None):
        key = (suite, task, protocol)
        if key not in kept:
            found = get_suite(suite)
            kept[key] = found.make_simulator(found.task(task), found.rules(protocol), RenderSettings(200, 200))
        return kept[key]

    yield get
    for simulator in kept.values():
        simulator.close()


@pytest.fixture
def make_env(root):
    """Build environments, and close them."""
    made = []

    def make(suite="calvin-d-d", task="chain", protocol=None, **config):
        found = get_suite(suite)
        settings = {"cameras": (), "modalities": (), "lazy": True} | config
        env = TaskEnv(found, found.task(task), found.rules(protocol), EnvConfig(**settings))
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()
