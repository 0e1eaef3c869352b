"""The official calvin_env on a modern Python: imported, configured and built from a checkout without changing a file of it.

Everything that upstream's release does not survive is put right here, from outside; `tests/envs/needs_calvin/test_shims.py`
shows for each shim what goes wrong without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from flowbench.envs.calvin import clients
from flowbench.errors import missing_extra

#: The scenes of the benchmark, by their letter; policies are evaluated in D.
SCENES = {letter: f"calvin_scene_{letter}" for letter in "ABCD"}
#: What upstream imports and nothing here uses: a viewer, git's hash of the checkout, the angle of another inverse kinematics.
_UNUSED_MODULES = ("cv2", "git", "quaternion")
_MODULES = (
    "utils.utils",
    "robot.mixed_ik",
    "robot.robot",
    "scene.play_table_scene",
    "envs.tasks",
    "envs.play_table_env",
)


@cache
def load(root: Path) -> types.ModuleType:
    """Import calvin_env from a checkout and return its module of the environment class.

    Raises:
        MissingExtra: If PyBullet, Hydra or OmegaConf is not installed.
    """
    with quiet():
        try:
            import hydra  # noqa: F401
            import omegaconf  # noqa: F401
            import pybullet
        except ImportError as error:
            raise missing_extra("CALVIN", "calvin", error) from error
        with _no_byte_code(), _stand_ins(), warnings.catch_warnings():
            # Hydra's advice to upstream's authors.
            warnings.simplefilter("ignore")
            _import_package(root)
            modules = {name: importlib.import_module(f"calvin_env.{name}") for name in _MODULES}
    environment = modules["envs.play_table_env"]
    # It asks git, and a checkout may be an unpacked archive.
    environment.get_git_commit_hash = lambda path: "unknown"
    environment.PlayTableSimEnv.__del__ = lambda self: None
    for name in ("robot.robot", "robot.mixed_ik"):
        modules[name].p = clients.ClientModule(pybullet)
    for name in ("utils.utils", "robot.mixed_ik"):
        modules[name].angle_between_quaternions = _angle_between_quaternions
    return environment


def build(root: Path, scene: str, *, egl_plugin: str | None = None) -> Any:
    """Build a `PlayTableSimEnv` without cameras.

    Args:
        root: The checkout.
        scene: A letter of `SCENES`.
        egl_plugin: Path of PyBullet's EGL renderer, to draw with OpenGL; None draws with TinyRenderer.
    """
    environment_class = load(root).PlayTableSimEnv
    values = config(root, scene)
    with quiet():
        core = environment_class.__new__(environment_class)
        connect = environment_class.initialize_bullet

        def connect_and_mean(self: Any, *args: Any) -> int:
            # Loading comes right after, and the robot then needs to know its world.
            client = connect(self, *args)
            clients.now_means(client)
            if egl_plugin is not None:
                load_egl(self.p, client, egl_plugin)
            return client

        with clients.meaning(-1):
            core.initialize_bullet = types.MethodType(connect_and_mean, core)
            core.__init__(**values)
            del core.initialize_bullet
    return core


def load_egl(pybullet: Any, client: int, path: str) -> None:
    """Let a world be drawn by OpenGL.

    Raises:
        RenderingUnavailable: If the plugin cannot be loaded.
    """
    from flowbench.errors import RenderingUnavailable

    if pybullet.loadPlugin(path, "_eglRendererPlugin", physicsClientId=client) < 0:
        raise RenderingUnavailable(
            f"PyBullet's EGL plugin {path} could not be loaded; unset FLOWBENCH_CALVIN_RENDERER to draw with TinyRenderer."
        )


@cache
def config(root: Path, scene: str) -> Mapping[str, Any]:
    """Return the arguments of `PlayTableSimEnv`: those of the official validation configuration, without cameras.

    Upstream composes them with Hydra for its own entry points, or reads them from a data set of 166 GB; here its own files
    are merged as its defaults lists say. `use_egl` is off: the renderer is chosen here.
    """
    from omegaconf import OmegaConf

    def read(name: str) -> Any:
        return OmegaConf.load(root / "conf" / f"{name}.yaml")

    robot = OmegaConf.merge(read("robot/panda"), read("robot/panda_longer_finger"))
    del robot["defaults"]
    merged = OmegaConf.create(
        {
            # Absolute: upstream looks beside its installed package otherwise, where no data is.
            "data_path": str(root / "data"),
            "use_vr": False,
            "robot": robot,
            "scene": read(f"scene/{SCENES[scene]}"),
            "cameras": {},
            "env": read("env/play_table_env"),
        }
    )
    merged.env.use_egl = False
    merged.env.use_scene_info = True
    OmegaConf.resolve(merged)
    return {name: value for name, value in merged.env.items() if not name.startswith("_")}


@cache
def camera_config(root: Path, name: str) -> Mapping[str, Any]:
    """Return upstream's settings of a camera: `static` or `gripper`."""
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(OmegaConf.load(root / "conf" / "cameras" / "cameras" / f"{name}.yaml"))
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


@cache
def task_oracle(root: Path) -> Any:
    """Return upstream's `Tasks`, which judges all 34 tasks from what `get_info` gave before and after."""
    from omegaconf import OmegaConf

    load(root)
    return sys.modules["calvin_env.envs.tasks"].Tasks(
        OmegaConf.load(root / "conf/tasks/new_playtable_tasks.yaml").tasks
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what PyBullet's C code and upstream print: build times, "argv[0]=", Hydra's advice to its authors."""
    streams = ((1, sys.stdout), (2, sys.stderr))
    for _, stream in streams:
        stream.flush()
    saved, sink = [os.dup(number) for number, _ in streams], os.open(os.devnull, os.O_WRONLY)
    for number, _ in streams:
        os.dup2(sink, number)
    try:
        yield
    finally:
        for (number, stream), copy in zip(streams, saved, strict=True):
            stream.flush()
            os.dup2(copy, number)
            os.close(copy)
        os.close(sink)


def seed(core: Any, rng: np.random.Generator) -> None:
    """Let everything that upstream draws come from one generator; its own `seed` reaches the environment alone."""
    core.np_random = core.scene.np_random = rng
    for block in core.scene.movable_objects:
        block.np_random = rng


def _import_package(root: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "calvin_env", root / "calvin_env" / "__init__.py", submodule_search_locations=[str(root / "calvin_env")]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["calvin_env"] = package
    spec.loader.exec_module(package)


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Put empty modules where upstream imports packages that it does not need, and take them away again.

    A half `gym` left behind would be found by other libraries, which then take it for the real one.
    """
    from gymnasium.utils import seeding

    gym = types.ModuleType("gym")
    gym.Env = type("Env", (), {})  # type: ignore[attr-defined]
    gym.utils = types.ModuleType("gym.utils")  # type: ignore[attr-defined]
    gym.utils.seeding = types.ModuleType("gym.utils.seeding")
    gym.utils.seeding.np_random = seeding.np_random
    modules = {"gym": gym, "gym.utils": gym.utils, "gym.utils.seeding": gym.utils.seeding}
    modules |= {name: types.ModuleType(name) for name in _UNUSED_MODULES if importlib.util.find_spec(name) is None}
    saved = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextmanager
def _no_byte_code() -> Iterator[None]:
    """Write no `__pycache__` into somebody's checkout."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _angle_between_quaternions(first: np.ndarray, second: np.ndarray) -> float:
    """Return the angle in radians between two (4,) quaternions, x y z w; upstream's needs a package of its own."""
    from scipy.spatial.transform import Rotation

    return float((Rotation.from_quat(first) * Rotation.from_quat(second).inv()).magnitude())
