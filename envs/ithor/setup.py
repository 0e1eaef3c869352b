"""`flowbench setup ithor`: fetch AI2-THOR's player where that is possible, and say what is missing where it is not.

The download is the client's own (`ai2thor.build.Build`): this only asks first whether it can work, because the client's
requests have no time limit, and tells afterwards whether the player could run.
"""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from flowbench.envs.ithor.players import (
    PLATFORMS,
    PLAYER_VARIABLE,
    find_unity,
    release_folder,
    what_the_machine_lacks,
)
from flowbench.errors import FlowBenchError, MissingExtra, RunFailed, missing_extra

#: The zip file is kept in memory and then unpacked, about 0.6 and 1.5 GB.
_NEEDED_BYTES = 4 * 10**9
_CONNECT_S = 10.0


def missing() -> str | None:
    """Return what `flowbench setup` still has to fetch, with the command, in one sentence; None if there is a player."""
    try:
        find_unity()
    except MissingExtra as error:
        return str(error)
    return None


def fetch(platform: str) -> Path:
    """Download the player for a platform, unless it is there.

    Returns:
        Its folder.

    Raises:
        MissingExtra: If the client is not installed.
        RunFailed: If there is no room for it, or it cannot be reached.
    """
    folder = release_folder(platform)
    if (folder / "metadata.json").is_file():
        return folder
    try:
        import ai2thor.build
        import ai2thor.platform
    except ModuleNotFoundError as error:
        raise missing_extra("iTHOR", "ithor", error) from error
    free = shutil.disk_usage(Path.home()).free
    if free < _NEEDED_BYTES:
        raise RunFailed(
            f"{Path.home()} has {free / 1e9:.1f} GB free and the player needs {_NEEDED_BYTES / 1e9:.0f} GB while it is "
            "unpacked. Make room, or let HOME be on another disk."
        )
    kind = getattr(ai2thor.platform, platform)
    build = ai2thor.build.Build(kind, ai2thor.build.COMMIT_ID, False, str(folder.parent))
    _check_reachable(build.url, folder)
    try:
        build.download()
        build.download_metadata()
    except Exception as error:
        # Names no class of the client: it passes on those of three libraries.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunFailed(
            f"The player could not be fetched from {build.url}: {reason:.300}. {_by_hand(folder)}"
        ) from error
    return folder


def _check_reachable(url: str, folder: Path) -> None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise RunFailed(
            f"{parts.hostname} cannot be reached from here ({error.strerror or error}), and the player comes from {url}. "
            f"{_by_hand(folder)}"
        ) from error


def _by_hand(folder: Path) -> str:
    return (
        f"On a machine with internet run the same command and copy {folder} here, or name an executable of your own with "
        f"{PLAYER_VARIABLE}. Without any: --backend standin"
    )


@click.command(
    "ithor",
    short_help="AI2-THOR's player (0.6 GB).",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--platform",
    type=click.Choice(PLATFORMS),
    help="CloudRendering needs Vulkan, Linux64 an X server.  [default: the first that could run here]",
)
@click.option("--check", is_flag=True, help="Fetch nothing; say whether a player is there and could run.")
def command(platform: str | None, check: bool) -> None:
    """Fetch the player that AI2-THOR's client belongs to into ~/.ai2thor/releases, where the client looks for it.

    Its licence is Apache 2.0 (github.com/allenai/ai2thor). What the machine lacks to run it is said, with the command that
    installs it.

    \b
    Examples:
      flowbench setup ithor --check
      flowbench setup ithor
      flowbench setup ithor --platform Linux64
    """  # noqa: D301 - click's mark of a paragraph whose lines stay
    if not check:
        chosen = platform or next((name for name in PLATFORMS if what_the_machine_lacks(name) is None), PLATFORMS[0])
        click.echo(f"{chosen}: {fetch(chosen)}")
        if (lack := what_the_machine_lacks(chosen)) is not None:
            click.echo(f"It is there, and to run it the machine still lacks: {lack}", err=True)
    try:
        player = find_unity()
    except FlowBenchError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    click.echo(f"--backend unity uses {player.description}.")
