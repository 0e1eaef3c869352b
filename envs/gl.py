"""Off-screen OpenGL for the MuJoCo suites: chosen once per process, before MuJoCo is imported.

MuJoCo reads `MUJOCO_GL` and PyOpenGL reads `PYOPENGL_PLATFORM` at import, and a wrong pair fails with a traceback or opens
a window. This module decides both, leaves the user's own `MUJOCO_GL` alone, and turns every later failure into one
sentence. A machine without any OpenGL is not an error until something is rendered: runs without cameras need none.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from typing import Any, NamedTuple

from flowbench.errors import RenderingUnavailable

#: Debian and Ubuntu packages of Mesa's software EGL: dispatch libraries, and the driver that draws without a GPU.
APT_PACKAGES = "libegl1 libgl1 libopengl0 libgl1-mesa-dri"
#: MuJoCo's word for "no OpenGL at all": it then imports without any GL library.
DISABLED = "disable"

_OFF_VALUES = ("disable", "disabled", "off", "false", "0")
#: What MuJoCo 3.3 accepts on Linux besides the two above it (mujoco/gl_context.py).
_OTHER_VALUES = ("glfw", "glx", "enable", "enabled", "on", "true", "1")
_LIBRARIES = {"egl": ("libEGL.so.1", "libEGL.so"), "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")}

#: Set when MUJOCO_EGL_DEVICE_ID was derived here, so that a wrong guess can be taken back.
_device_was_derived = False


class RenderingInfo(NamedTuple):
    """Who draws the pixels; recorded in manifests, because drivers differ in the last bits.

    Attributes:
        backend: `egl`, `osmesa`, or what `MUJOCO_GL` says.
        renderer: `GL_RENDERER`, e.g. `"llvmpipe (LLVM 15.0.6, 256 bits)"`.
        version: `GL_VERSION`.
    """

    backend: str
    renderer: str
    version: str


def configure_rendering() -> str:
    """Choose the OpenGL backend of this process; call it before MuJoCo is imported.

    - `MUJOCO_GL` of the user is kept. Otherwise EGL is taken if its library can be loaded, else OSMesa, else none.
    - `PYOPENGL_PLATFORM` follows, because PyOpenGL and MuJoCo must agree.
    - A user who restricts the GPUs with `CUDA_VISIBLE_DEVICES` alone gets the first of them for EGL too.
    - Mesa's software rasteriser is pinned to one thread.

    Calling it again changes nothing.

    Returns:
        The value of `MUJOCO_GL`; `"disable"` when no library was found. Empty on systems other than Linux, where MuJoCo
        has only one choice.

    Raises:
        RenderingUnavailable: If the user's `MUJOCO_GL` is a word that MuJoCo does not know, or names a library that cannot be
            loaded: importing MuJoCo would fail with a traceback.
    """
    if not sys.platform.startswith("linux"):
        return os.environ.get("MUJOCO_GL", "")
    # llvmpipe starts a thread per core in every process; evaluation runs a process per core, and they would fight.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    if not os.environ.get("MUJOCO_GL", "").strip():
        os.environ["MUJOCO_GL"] = _find_backend()
    chosen = backend()
    if chosen not in (*_LIBRARIES, *_OFF_VALUES, *_OTHER_VALUES):
        raise RenderingUnavailable(
            f"MUJOCO_GL={chosen} is no rendering backend of MuJoCo's. Set it to egl or osmesa, or unset it and let FlowBench "
            "choose."
        )
    if chosen in _LIBRARIES:
        if not _can_load(chosen):
            raise RenderingUnavailable(
                f"MUJOCO_GL={chosen} asks for a library that cannot be loaded ({_LIBRARIES[chosen][0]}). Unset it and let "
                f"FlowBench choose. {_install_hint()}"
            )
        # MUJOCO_GL decides: with a different PYOPENGL_PLATFORM `import mujoco` itself fails.
        os.environ["PYOPENGL_PLATFORM"] = chosen
    if chosen == "egl":
        _map_visible_device()
    return chosen


def backend() -> str:
    """Return the backend that `MUJOCO_GL` names now, in lower case; empty when it is not set."""
    return os.environ.get("MUJOCO_GL", "").strip().lower()


def make_gl_context(width: int, height: int) -> Any:
    """Create an off-screen OpenGL context and make it current.

    Args:
        width: Largest image width in pixels; only OSMesa needs it.
        height: Largest image height in pixels; only OSMesa needs it.

    Returns:
        MuJoCo's `GLContext`, with `make_current()` and `free()`.

    Raises:
        RenderingUnavailable: With the command that installs what is missing, or the variable that is wrong.
    """
    configure_rendering()
    name = backend()
    if name in _OFF_VALUES:
        raise RenderingUnavailable(_disabled_message(name))
    _check_pyopengl_platform(name)
    try:
        try:
            context = _gl_context_class(name)(width, height)
        except RuntimeError:
            if not _device_was_derived:
                raise
            # EGL does not number its devices as CUDA does on this machine; let MuJoCo take the first that works.
            os.environ.pop("MUJOCO_EGL_DEVICE_ID", None)
            context = _gl_context_class(name)(width, height)
        if not context._context:
            raise RuntimeError("no context was created")
        context.make_current()
    except Exception as error:  # EGL, OSMesa and GLFW fail with unrelated types; all of them mean "no pixels here".
        raise RenderingUnavailable(_failed_message(name, error)) from error
    return context


def describe() -> RenderingInfo:
    """Create a small context and return who draws.

    Raises:
        RenderingUnavailable: If no context can be created.
    """
    context = make_gl_context(16, 16)
    try:
        from OpenGL import GL

        strings = [GL.glGetString(name) for name in (GL.GL_RENDERER, GL.GL_VERSION)]
    finally:
        context.free()
    return RenderingInfo(backend(), *((text or b"").decode(errors="replace") for text in strings))


def _find_backend() -> str:
    wanted = os.environ.get("PYOPENGL_PLATFORM", "").strip().lower()
    order = sorted(_LIBRARIES, key=lambda name: name != wanted)
    return next((name for name in order if _can_load(name)), DISABLED)


def _can_load(name: str) -> bool:
    for library in _LIBRARIES[name]:
        try:
            ctypes.CDLL(library)
            return True
        except OSError:
            continue
    return False


def _map_visible_device() -> None:
    global _device_was_derived
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if "MUJOCO_EGL_DEVICE_ID" not in os.environ and first.isdigit():
        os.environ["MUJOCO_EGL_DEVICE_ID"] = first
        _device_was_derived = True


def _gl_context_class(name: str) -> type:
    # By name, not `mujoco.GLContext`: that one was fixed when MuJoCo was imported, perhaps before FlowBench.
    if name in _LIBRARIES:
        return importlib.import_module(f"mujoco.{name}").GLContext
    return importlib.import_module("mujoco.gl_context").GLContext


def _check_pyopengl_platform(name: str) -> None:
    platform = getattr(sys.modules.get("OpenGL.platform"), "PLATFORM", None)
    loaded = type(platform).__name__.removesuffix("Platform").lower() if platform is not None else name
    if name in _LIBRARIES and loaded != name:
        raise RenderingUnavailable(
            f"MuJoCo or PyOpenGL was already imported in this process with the OpenGL backend {loaded!r}, and "
            f"MUJOCO_GL={name} can no longer take effect. Set MUJOCO_GL={name} before starting Python, or create the "
            "FlowBench environment before importing them."
        )


def _install_hint() -> str:
    return (
        f"Install Mesa's software EGL: apt-get install -y {APT_PACKAGES} (or libosmesa6, with MUJOCO_GL=osmesa). Runs "
        "without cameras need no OpenGL."
    )


def _disabled_message(name: str) -> str:
    usable = [candidate for candidate in _LIBRARIES if _can_load(candidate)]
    if usable:
        return f"MUJOCO_GL={name} switches rendering off. Unset it, or set MUJOCO_GL={usable[0]}."
    return f"Rendering needs OpenGL, and neither libEGL nor libOSMesa can be loaded. {_install_hint()}"


def _failed_message(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    what = f"MuJoCo's OpenGL backend MUJOCO_GL={name or '(not set)'}"
    return f"{what} could not create a context ({reason:.200}). {_install_hint()}"
