"""LIBERO and robosuite, imported without questions, noise or files.

As they come, they ask on stdin where data should go, warn and print, append to a log file that another user may own,
force EGL, need a windowing library for OpenCV, and compile to a cache that may not be writable. On clusters and in
containers each of these stops the run. Everything about that is settled here, before the first import.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import logging
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from flowbench.envs.libero.suites import upstream_suite_of
from flowbench.errors import MissingExtra, missing_extra


@cache
def load() -> type:
    """Import LIBERO and return its `ControlEnv`.

    Raises:
        MissingExtra: If LIBERO or one of its dependencies is not installed, or two distributions of it are in conflict.
    """
    try:
        with quiet():
            _answer_config_question()
            _import_robosuite()
            return importlib.import_module("libero.libero.envs.env_wrapper").ControlEnv
    except ModuleNotFoundError as error:
        raise missing_extra("The LIBERO suites", "libero", error) from error
    except ImportError as error:
        raise MissingExtra(f"LIBERO is installed but cannot be imported: {error}") from error


def bddl_file(task_name: str) -> Path:
    """Return the file that defines a task's scene and goal."""
    return _folder("bddl_files") / upstream_suite_of(task_name) / f"{task_name}.bddl"


def init_states_file(task_name: str) -> Path:
    """Return the file of a task's official initial states, by LIBERO's name for it."""
    return _folder("init_states") / upstream_suite_of(task_name) / f"{task_name}.pruned_init"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what LIBERO and robosuite print; errors still propagate."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def numpy_random(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, which LIBERO samples from, and give the caller's state back afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _folder(key: str) -> Path:
    load()
    with quiet():
        return Path(importlib.import_module("libero.libero").get_libero_path(key))


#: Folder of the configuration written by this process, deleted with it.
_config_folder: tempfile.TemporaryDirectory | None = None


def _answer_config_question() -> None:
    """Write LIBERO's configuration before it asks for one.

    The original package reads `$LIBERO_CONFIG_PATH/config.yaml` (default: `~/.libero`) and, where there is none, asks on
    stdin at import. A user's own file is used; otherwise the package's defaults go to a folder of this process.
    Distributions that ask nothing have paths of their own and are left alone.
    """
    global _config_folder
    spec = importlib.util.find_spec("libero.libero")
    if spec is None or not spec.origin or "input(" not in Path(spec.origin).read_text(encoding="utf-8"):
        return
    asked_in = os.environ.get("LIBERO_CONFIG_PATH") or os.path.expanduser("~/.libero")
    if os.path.isfile(os.path.join(asked_in, "config.yaml")):
        return
    root = Path(spec.origin).parent
    paths = {
        "benchmark_root": root,
        "bddl_files": root / "bddl_files",
        "init_states": root / "init_files",
        "datasets": root.parent / "datasets",
        "assets": root / "assets",
    }
    _config_folder = tempfile.TemporaryDirectory(prefix="flowbench-libero-")
    text = json.dumps({key: str(path) for key, path in paths.items()})  # JSON is YAML.
    Path(_config_folder.name, "config.yaml").write_text(text, encoding="utf-8")
    os.environ["LIBERO_CONFIG_PATH"] = _config_folder.name


def _import_robosuite() -> None:
    """Import robosuite with our settings; a robosuite that the user has imported before keeps its own."""
    importlib.import_module("mujoco")  # Before the variable below changes: MuJoCo fixes its backend at import, too.
    if "robosuite" not in sys.modules:
        # Every module of robosuite reads its settings at import, so they must be there before the first one.
        macros = _load_settings_module()
        macros.CONSOLE_LOGGING_LEVEL = macros.FILE_LOGGING_LEVEL = (
            None  # The file is /tmp/robosuite.log, for all users.
        )
        macros.MUJOCO_GPU_RENDERING = False  # It would overwrite MUJOCO_GL with "egl".
        macros.CACHE_NUMBA = macros.CACHE_NUMBA and _numba_can_cache(Path(macros.__file__).parent)
        # Without any handler, Python itself would print the warnings.
        logging.getLogger("robosuite_logs").addHandler(logging.NullHandler())
        with _opengl_optional(), _opencv_optional():
            importlib.import_module("robosuite").macros = macros
    _fix_joint_addresses()


def _load_settings_module() -> types.ModuleType:
    package = importlib.util.find_spec("robosuite")
    if package is None:
        raise ModuleNotFoundError("No module named 'robosuite'", name="robosuite")
    location = Path(package.origin).with_name("macros.py")
    spec = importlib.util.spec_from_file_location("robosuite.macros", location)
    macros = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    sys.modules["robosuite.macros"] = macros
    return macros


@contextlib.contextmanager
def _opengl_optional() -> Iterator[None]:
    """Let robosuite import without OpenGL when no backend is chosen; its own renderer is not used by FlowBench."""
    chosen = os.environ.get("MUJOCO_GL", "").strip()
    if not chosen:
        os.environ["MUJOCO_GL"] = "disable"
    try:
        yield
    finally:
        if not chosen:
            del os.environ["MUJOCO_GL"]


@contextlib.contextmanager
def _opencv_optional() -> Iterator[None]:
    """Stand in for OpenCV where its system libraries are missing.

    robosuite imports it for an on-screen window that is never opened here; the wheel needs libGL and GLib, which servers
    lack.
    """
    search_path = list(sys.path)
    try:
        importlib.import_module("cv2")
    except ImportError:
        # A failed import leaves OpenCV's folder in front, whose `typing` would hide Python's own in every child process.
        sys.path[:] = search_path
        sys.modules["cv2"] = types.ModuleType("cv2")
        try:
            yield
        finally:
            del sys.modules["cv2"]
    else:
        yield


def _numba_can_cache(robosuite_root: Path) -> bool:
    """Whether numba finds a folder for its cache: beside the source, in HOME, or where the user says.

    It raises at import if it does not; robosuite is then compiled in memory, once per process.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return True
    home_cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return any(_writable(folder) for folder in (robosuite_root / "utils" / "__pycache__", home_cache))


def _writable(folder: Path) -> bool:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _fix_joint_addresses() -> None:
    """Make robosuite 1.4's joint look-up work with MuJoCo 3, whose enums no longer equal NumPy integers.

    Distributions that repair it themselves do so later, when LIBERO is imported, and then theirs counts.
    """
    binding = importlib.import_module("robosuite.utils.binding_utils")
    mujoco = importlib.import_module("mujoco")
    if np.int32(int(mujoco.mjtJoint.mjJNT_HINGE)) in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
        return

    def make_lookup(first_address: str, widths: dict[int, int]) -> Any:
        def lookup(self: Any, name: str) -> int | tuple[int, int]:
            joint = self.joint_name2id(name)
            address = getattr(self, first_address)[joint]
            width = widths[int(self.jnt_type[joint])]
            return address if width == 1 else (address, address + width)

        return lookup

    # Free, ball, slide and hinge joints, in the order of mjtJoint.
    binding.MjModel.get_joint_qpos_addr = make_lookup("jnt_qposadr", {0: 7, 1: 4, 2: 1, 3: 1})
    binding.MjModel.get_joint_qvel_addr = make_lookup("jnt_dofadr", {0: 6, 1: 3, 2: 1, 3: 1})
