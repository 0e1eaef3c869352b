"""The AI2-THOR client, made to fail in time and in words.

`ai2thor.controller.Controller` is used as it is released; but left alone it hangs for ever on a player that ends before it
connects, burns a core for 100 s on one that ends later, restarts a crashed one behind everybody's back, starts no player at
all where `DISPLAY` is missing or `CUDA_VISIBLE_DEVICES` is set, and deletes the user's other players. Each of that is mended
here where the client leaves a seam, by overriding a method; nothing of it is patched.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flowbench.envs.ithor import leash
from flowbench.envs.ithor.players import FORBIDDEN_VARIABLE, PlayerCommand
from flowbench.errors import BadValue, SimulatorLost

with warnings.catch_warnings():
    # Its docstrings have invalid escapes, which is a SyntaxError where warnings are errors.
    warnings.simplefilter("ignore")
    import ai2thor.platform
    from ai2thor.controller import Controller
    from ai2thor.fifo_server import FifoServer
    from ai2thor.server import Event

#: How often a waiting client looks whether the player is still there.
_LOOK_EVERY_S = 0.1
#: A player that has closed its pipe is about to end.
_END_S = 5.0


class _Lost(Exception):
    """The player is gone or hangs; what `Controller` makes of it does not matter, the sentence is kept in the guard."""


class _Guard:
    """What the client needs to know about one player process.

    Attributes:
        command: How it was started.
        failure: What went wrong with it, one sentence; empty while it answers.
        process: The process; None before it is started.
        folder: Holds its log.
    """

    def __init__(self, command: PlayerCommand) -> None:
        self.command = command
        self.failure = ""
        self.process: Any = None
        self.folder = tempfile.TemporaryDirectory(prefix="flowbench-ithor-")
        self.what = "starting"
        self._deadline_s = 0.0

    def allow(self, seconds: float) -> None:
        """Set the time limit of what comes next."""
        self._deadline_s = time.monotonic() + seconds

    def check(self) -> None:
        """Raise if the player has ended or used up its time."""
        if self.process is not None and self.process.poll() is not None:
            self.lose(self._ending())
        if time.monotonic() > self._deadline_s:
            limits = self.command.limits
            limit_s = limits.start_s if self.what == "starting" else limits.answer_s
            self.lose(f"did not answer within {limit_s:g} s and was stopped")

    def lose(self, how: str) -> None:
        """Note what became of the player, stop what is left of it, and raise."""
        pid = self.process.pid if self.process is not None else "none"
        self.failure = (
            f"The {self.command.backend} player (process {pid}) {how}, while {self.what}.{self._last_words()}"
        )
        self.kill()
        raise _Lost(self.failure)

    def close_of_pipe(self) -> None:
        """Say what became of a player whose end of a pipe is closed, and raise."""
        with suppress(Exception):
            self.process.wait(timeout=_END_S)
        self.lose(self._ending() if self.process.poll() is not None else "closed its pipe")

    def kill(self) -> None:
        """Stop the player's process; may be called twice."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            with suppress(Exception):
                self.process.wait(timeout=_END_S)

    def _ending(self) -> str:
        code = self.process.returncode
        if code < 0:
            with suppress(ValueError):
                return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = (Path(self.folder.name) / "unity.log").read_text(errors="replace").split("\n")
            if said := [line.strip() for line in lines if line.strip()]:
                return f" The last it said: {said[-1][:300]}"
        return ""


class _GuardedServer(FifoServer):
    """The client's end of the pipes, which waits for a living player only, and not for ever.

    `poll` instead of the client's `select` also works with more than 1023 open files.
    """

    def __init__(self, guard: _Guard, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guard = guard
        self._poll = select.poll()

    def _recv_message(self, timeout: float | None) -> Any:
        limits = self.guard.command.limits
        self.guard.process = self.unity_proc
        if self.server_pipe is None:
            self.guard.allow(limits.start_s)
            self.server_pipe = os.fdopen(os.open(self.server_pipe_path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
            self._poll.register(self.server_pipe, select.POLLIN)
        else:
            self.guard.allow(limits.answer_s)
        return super()._recv_message(timeout)

    def _read_with_timeout(self, server_pipe: Any, message_size: int, timeout: float | None) -> bytes:
        parts = []
        while message_size:
            if not self._poll.poll(1000 * _LOOK_EVERY_S):
                self.guard.check()
                continue
            try:
                part = os.read(server_pipe.fileno(), message_size)
            except BlockingIOError:
                continue
            if not part:
                self.guard.close_of_pipe()
            parts.append(part)
            message_size -= len(part)
        return b"".join(parts)

    def _send_message(self, message_type: Any, body: bytes) -> None:
        self.guard.allow(self.guard.command.limits.answer_s)
        if self.client_pipe is None:
            self.client_pipe = os.fdopen(self._open_for_writing(), "wb", 0)
        message = memoryview(self._create_header(message_type, body) + body + self.eom_header)
        while message:
            try:
                message = message[os.write(self.client_pipe.fileno(), message) :]
            except BlockingIOError:
                time.sleep(0.001)
                self.guard.check()
            except BrokenPipeError:
                self.guard.close_of_pipe()

    def _open_for_writing(self) -> int:
        while True:
            try:
                return os.open(self.client_pipe_path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            # The player has spoken and does not listen yet.
            time.sleep(0.001)
            self.guard.check()


class _GuardedController(Controller):
    """The client with a guarded server."""

    def __init__(self, guard: _Guard, **arguments: Any) -> None:
        self.guard = guard
        super().__init__(**arguments)

    def _build_server(self, host: str, port: int, width: int, height: int) -> None:
        del host, port
        if self.server is None:
            self.server = _GuardedServer(self.guard, width, height, self.server_timeout, self.depth_format)

    def unity_command(self, width: int, height: int, headless: bool) -> list[str]:
        # The client sees CUDA_VISIBLE_DEVICES and asks tools for a Vulkan device that only this platform can use.
        if self._build.platform is not ai2thor.platform.CloudRendering or not _has_vulkaninfo():
            self.gpu_device = None
        command = super().unity_command(width, height, headless)
        if self.guard.command.leashed:
            command = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
        return command

    def prune_releases(self) -> None:
        """Delete nothing: the client would remove all but the three newest players of the user."""

    @property
    def log_dir(self) -> str:
        """A folder of this player's own, so that its last words can be quoted."""
        return self.guard.folder.name


class ThorClient:
    """One player in a process of its own.

    Non-obvious behaviours:
        - Nothing here takes longer than the player's time limits; then, and when the player ends, every call raises
          `SimulatorLost`, and no process is left.
        - The client keeps what was once given to `reset`; here every reset gives all of it anew.
    """

    def __init__(self, command: PlayerCommand, width: int, height: int, scene: str, **settings: Any) -> None:
        """Start a player and go to a scene.

        Args:
            command: From `flowbench.envs.ithor.players.find_player`.
            width: Width of pictures in pixels.
            height: Height of pictures in pixels.
            scene: E.g. `"FloorPlan1"`.
            **settings: Arguments of AI2-THOR's `Initialize`.

        Raises:
            BadValue: If the environment would change what is measured.
            SimulatorLost: If the player does not start.
        """
        if FORBIDDEN_VARIABLE in os.environ:
            raise BadValue(
                f"{FORBIDDEN_VARIABLE} is set, and AI2-THOR's client would replace the protocol's visibility distance by it. "
                f"Unset it: unset {FORBIDDEN_VARIABLE}"
            )
        self.command = command
        self._settings = settings
        self._guard = _Guard(command)
        arguments = dict(command.arguments)
        if "platform" in arguments:
            arguments["platform"] = getattr(ai2thor.platform, arguments["platform"])
        # Any text will do for a player that draws without an X server; without one the client passes on None, and fails.
        arguments.setdefault("x_display", os.environ.get("DISPLAY") or ":0")
        self._controller: _GuardedController | None = None
        try:
            self._controller = self._guarded(
                lambda: _GuardedController(
                    self._guard, width=width, height=height, scene=scene, **arguments, **settings
                )
            )
        except BaseException:
            self.close()
            raise

    @property
    def lost(self) -> bool:
        """Whether the player has ended or hung."""
        return bool(self._guard.failure) or self._controller is None

    @property
    def event(self) -> Event:
        """The answer to the last action."""
        return self._controller.last_event

    @property
    def clipping_planes_m(self) -> tuple[float, float]:
        """Distances of the camera's near and far plane."""
        server = self._controller.server
        return server.camera_near_plane, server.camera_far_plane

    @property
    def pid(self) -> int:
        """Process id of the player."""
        return self._guard.process.pid

    def reset(self, scene: str) -> Event:
        """Load a scene and set everything anew."""
        self._guard.what = f"loading {scene}"
        return self._guarded(lambda: self._controller.reset(scene, **self._settings))

    def do(self, action: str, **arguments: Any) -> Event:
        """Carry out an action; whether it had an effect stands in the event's `lastActionSuccess`."""
        self._guard.what = f"carrying out {action}"
        return self._guarded(lambda: self._controller.step(action, **arguments))

    def close(self) -> None:
        """Stop the player; may be called twice."""
        controller, self._controller = self._controller, None
        self._guard.kill()
        if controller is not None:
            with suppress(Exception):
                controller.stop()
            with suppress(Exception):
                controller.server.tmp_dir.cleanup()
        self._guard.folder.cleanup()

    def _guarded(self, call: Callable[[], Any]) -> Any:
        if self._guard.failure:
            raise SimulatorLost(self._guard.failure)
        try:
            return call()
        except Exception as error:
            # `Controller.step` wraps what its server raises.
            if self._guard.failure:
                raise SimulatorLost(self._guard.failure) from error
            raise


def _has_vulkaninfo() -> bool:
    import shutil

    return shutil.which("vulkaninfo") is not None
