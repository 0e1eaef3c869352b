"""Which executable answers: AI2-THOR's own player, or the stand-in with one of its two kinds of rooms.

The backend is only another executable; nothing after the start asks which one it is.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flowbench.errors import MissingExtra, missing_extra

#: Names an executable of the user's own; arguments may follow.
PLAYER_VARIABLE = "FLOWBENCH_THOR_PLAYER"
#: The client would send it with every action, and so change what counts as success (`Controller.step` of ai2thor 5.0.0).
FORBIDDEN_VARIABLE = "AI2THOR_VISIBILITY_DISTANCE"
#: Builds of the player that run without a window system, and under an X server.
PLATFORMS = ("CloudRendering", "Linux64")
_SETUP_HINT = "Fetch it with: flowbench setup ithor"


class TimeLimits(NamedTuple):
    """How long a player may take, in seconds, until it counts as hung.

    Attributes:
        start_s: From the start of its process to its first message.
        answer_s: For one action; the first visit to a scene included.
    """

    start_s: float
    answer_s: float


@dataclass(frozen=True)
class PlayerCommand:
    """How to start a player.

    Attributes:
        backend: `unity`, `standin` or `recorded`.
        description: What it is, for manifests.
        arguments: For `ai2thor.controller.Controller`; `platform` is the name of a class of `ai2thor.platform`.
        limits: How long it may take.
        leashed: Whether it has to be stopped by others when its parent ends.
    """

    backend: str
    description: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    limits: TimeLimits = TimeLimits(start_s=60.0, answer_s=30.0)
    leashed: bool = False


#: What the client itself allows (`server_start_timeout` and `server_timeout` of `Controller`).
_UNITY_LIMITS = TimeLimits(start_s=300.0, answer_s=100.0)


def find_player(backend: str) -> PlayerCommand:
    """Return how to start the player of a backend; nothing is downloaded.

    Args:
        backend: `unity`, `standin`, `recorded`; or `auto`, which takes the first of `unity` and `standin` that is there and
            says so on standard error.

    Raises:
        MissingExtra: With everything that was tried, and what to do.
    """
    if backend == "auto":
        try:
            return find_unity()
        except MissingExtra:
            print("No AI2-THOR player here: using the stand-in, whose rooms are not iTHOR's.", file=sys.stderr)
            return find_standin()
    return BACKENDS[backend]()


def find_standin() -> PlayerCommand:
    """Return how to start the stand-in with procedural rooms."""
    return _standin("standin", "procedural")


def find_recorded() -> PlayerCommand:
    """Return how to start the stand-in with rooms blocked out from recorded metadata of the real ones.

    Raises:
        MissingExtra: If the package with the record is not installed.
    """
    if importlib.util.find_spec("procthor") is None:
        raise missing_extra("The backend recorded", "ithor-recorded", "no module named 'procthor'")
    return _standin("recorded", "recorded")


def find_unity() -> PlayerCommand:
    """Return how to start AI2-THOR's own player: the user's own executable, or the client's download.

    Raises:
        MissingExtra: If there is none that could run here.
    """
    own = os.environ.get(PLAYER_VARIABLE, "").strip()
    if own:
        executable = shlex.split(own)[0]
        if not os.access(executable, os.X_OK) or Path(executable).is_dir():
            raise MissingExtra(f"{PLAYER_VARIABLE} is {own!r}, and {executable} is no executable file. {_SETUP_HINT}")
        arguments = {"local_executable_path": own}
        return PlayerCommand("unity", f"{PLAYER_VARIABLE}={own}", arguments, _UNITY_LIMITS, leashed=True)
    problems = []
    for platform in PLATFORMS:
        folder = release_folder(platform)
        missing = what_is_missing(platform)
        if missing is None:
            arguments = {"platform": platform, "commit_id": commit_id()}
            return PlayerCommand("unity", folder.name, arguments, _UNITY_LIMITS, leashed=True)
        problems.append(f"{platform}: {missing}")
    raise MissingExtra(f"No AI2-THOR player can be used here: {'; '.join(problems)}. {_SETUP_HINT}")


def what_is_missing(platform: str) -> str | None:
    """Return why the client's download for a platform cannot be used, in words; None if it can."""
    folder = release_folder(platform)
    if not folder.is_dir():
        return f"there is no {folder}"
    if not (folder / "metadata.json").is_file():
        return f"{folder} has no metadata.json, so it is incomplete (delete it)"
    return what_the_machine_lacks(platform)


def what_the_machine_lacks(platform: str) -> str | None:
    """Return what a machine needs to run a platform's player and does not have, with the command that mends it."""
    if platform == "CloudRendering" and ctypes.util.find_library("vulkan") is None:
        return "no Vulkan loader (apt-get install -y libvulkan1, and a driver: NVIDIA's, or mesa-vulkan-drivers)"
    if platform == "Linux64" and not os.environ.get("DISPLAY"):
        return "no X server (apt-get install -y xvfb, then xvfb-run -a -s '-screen 0 1280x1024x24' flowbench ...)"
    return None


def release_folder(platform: str) -> Path:
    """Return where the client keeps its download for a platform."""
    return Path.home() / ".ai2thor" / "releases" / f"thor-{platform}-{commit_id()}"


def commit_id() -> str:
    """Return the commit of the player that the installed client belongs to.

    Raises:
        MissingExtra: If the client is not installed.
    """
    try:
        # Not `ai2thor.build`, which imports cloud clients.
        from ai2thor._builds import COMMIT_ID
    except ModuleNotFoundError as error:
        raise missing_extra("iTHOR", "ithor", error) from error
    return COMMIT_ID


def _standin(backend: str, rooms: str) -> PlayerCommand:
    command = shlex.join([sys.executable, "-m", "flowbench.envs.ithor.standin", "--rooms", rooms])
    return PlayerCommand(backend, f"FlowBench's stand-in, {rooms} rooms", {"local_executable_path": command})


#: Backend -> how its player is found.
BACKENDS: dict[str, Callable[[], PlayerCommand]] = {
    "unity": find_unity,
    "standin": find_standin,
    "recorded": find_recorded,
}


# --- What draws, for manifests --------------------------------------------------------------------------------------


class PlayerInfo(NamedTuple):
    """Who answers and who draws the pixels.

    Attributes:
        player: What was started.
        renderer: OpenGL back end and driver of the stand-in; empty for Unity's player, which does not tell.
    """

    player: str
    renderer: str = ""


def describe_unity() -> PlayerInfo:
    """Return which player `unity` starts."""
    return PlayerInfo(find_unity().description)


def describe_standin() -> PlayerInfo:
    """Return which player `standin` starts, and what it draws with."""
    return _drawn(find_standin())


def describe_recorded() -> PlayerInfo:
    """Return which player `recorded` starts, and what it draws with."""
    return _drawn(find_recorded())


def describe_auto() -> PlayerInfo:
    """Return which player `auto` starts."""
    command = find_player("auto")
    return PlayerInfo(command.description) if command.backend == "unity" else _drawn(command)


def _drawn(command: PlayerCommand) -> PlayerInfo:
    # The player is a process of its own on the same machine; it chooses as this one does.
    from flowbench.envs.gl import describe

    return PlayerInfo(command.description, ", ".join(describe()))
