"""Fixtures for tests that run AI2-THOR's client, with the stand-in or with its own player."""

import os
import time

import numpy as np
import pytest

BACKENDS = ["standin", pytest.param("unity", marks=pytest.mark.unity)]


def pytest_generate_tests(metafunc):
    """Run what names a backend on the stand-in, and on AI2-THOR's own player where there is one."""
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", BACKENDS, scope="session")


@pytest.fixture(scope="session")
def simulators(opengl):
    """Build simulators by backend, task and protocol, and keep the last: a player is a process."""
    from flowbench.errors import MissingExtra
    from flowbench.registry import get_suite
    from flowbench.simulator import RenderSettings
    from flowbench.task import Scenario

    kept = {}

    def get(backend, task="Toaster", protocol="clean", size=(64, 64), seed=0):
        key = (backend, task, protocol, size)
        if key not in kept:
            while kept:
                kept.popitem()[1].close()
            suite = get_suite(f"ithor12-{backend}")
            try:
                kept[key] = suite.make_simulator(suite.task(task), suite.rules(protocol), RenderSettings(*size))
            except MissingExtra as error:
                pytest.skip(str(error))
        kept[key].reset(Scenario(seed))
        return kept[key]

    yield get
    for simulator in kept.values():
        simulator.close()


@pytest.fixture(scope="session")
def look():
    """Give a function that takes a picture through a camera pose written as text, and returns it with its calibration."""
    from flowbench.camera import CameraPose

    def look(simulator, camera="agent", *modalities, size=(64, 64)):
        pose = CameraPose.parse(camera)
        params = pose.apply(simulator.view(pose.view), simulator.workspace_center_world, *size)
        return simulator.render(pose.view, params, frozenset(modalities or ("rgb", "depth"))), params

    return look


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="session")
def ends():
    """Give a function that waits until a process has ended, and says whether it did."""

    def wait(pid, seconds=10.0):
        deadline = time.monotonic() + seconds
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not is_alive(pid)

    return wait


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder without players, and an environment that says nothing about them."""
    for name in ("FLOWBENCH_THOR_PLAYER", "DISPLAY", "CUDA_VISIBLE_DEVICES", "AI2THOR_VISIBILITY_DISTANCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def open_files():
    """Give a function that opens so many files, and closes them afterwards."""
    opened = []
    yield lambda count: opened.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(count))
    for number in opened:
        os.close(number)


@pytest.fixture(scope="session")
def walk():
    """Give a function that takes some steps, the same ones every time."""

    def walk(simulator, count, seed=0):
        return [simulator.step(np.array([choice])) for choice in np.random.default_rng(seed).integers(3, size=count)]

    return walk


@pytest.fixture(scope="session")
def walks(opengl, tmp_path_factory):
    """Two demonstrations of one target."""
    from flowbench.data.collect import CollectOptions, collect
    from flowbench.data.collect_spec import CollectSpec
    from flowbench.spec import AgentSpec

    path = tmp_path_factory.mktemp("walks") / "walks.h5"
    spec = CollectSpec(
        suite="ithor12-standin", protocol="clean", agent=AgentSpec("scripted"), tasks=("Toaster",), cameras=("agent",),
        seeds=(10_000, 10_001), demonstrations=2, max_attempts=2, modalities=("rgb",),
    )  # fmt: skip
    collect(spec, path, CollectOptions(workers=0, progress=False))
    return path
