"""`flowbench setup calvin`: the official calvin_env at its pinned commit, checked, into FlowBench's cache."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import click

from flowbench.envs.calvin.checkout import (
    COMMIT,
    CONTENT_SHA256,
    LICENCE_FILE,
    cached_checkout,
    content_digest,
    content_files,
)
from flowbench.errors import BadValue, RunFailed

#: GitHub's archive of the pinned commit. Its bytes may change with GitHub's compressor, so the content is hashed instead.
URL = f"https://github.com/mees/calvin_env/archive/{COMMIT}.tar.gz"
_TIMEOUT_S = 60.0


def install(source: str | None = None) -> Path:
    """Put the pinned calvin_env into the cache; nothing is done if it is there already.

    Args:
        source: A folder, a .tar.gz or .zip file, or the URL of one; None takes GitHub's archive.

    Returns:
        The checkout.

    Raises:
        BadValue: If the source does not exist, is no archive, or holds another version.
        RunFailed: If it cannot be downloaded.
    """
    target = cached_checkout()
    if target.is_dir() and content_digest(target) == CONTENT_SHA256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".calvin_env-") as scratch:
        root = _find_root(_unpacked(source or URL, Path(scratch)), source or URL)
        digest = content_digest(root)
        if digest != CONTENT_SHA256:
            raise BadValue(
                f"{source or URL} holds another calvin_env than commit {COMMIT} (content hash {digest[:16]}, expected "
                f"{CONTENT_SHA256[:16]}). Numbers stand for that commit; check it out there: git checkout {COMMIT}"
            )
        copy = Path(scratch) / "copy"
        for path in content_files(root):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, copy / path)
        # A damaged or older copy goes; the new one appears in one step.
        shutil.rmtree(target, ignore_errors=True)
        copy.rename(target)
    return target


def _unpacked(source: str, scratch: Path) -> Path:
    """Return a folder with the content of a folder, an archive, or the URL of an archive."""
    if "://" in source:
        archive = scratch / "archive"
        try:
            with urllib.request.urlopen(source, timeout=_TIMEOUT_S) as answer, archive.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise RunFailed(
                f"{source} could not be downloaded ({getattr(error, 'reason', error)}). Where there is no internet, copy a "
                "checkout or its archive and name it: flowbench setup calvin --from PATH"
            ) from error
    else:
        archive = Path(source).expanduser()
        if not archive.exists():
            raise BadValue(f"--from {source} does not exist; give a folder, a .tar.gz, a .zip, or a URL of one.")
        if archive.is_dir():
            return archive
    folder = scratch / "unpacked"
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                file.extractall(folder)
        else:
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise BadValue(
            f"{source} is neither a folder nor a .tar.gz or .zip archive that can be read: {error}."
        ) from error
    return folder


def _find_root(folder: Path, source: str) -> Path:
    """Return the folder with calvin_env's files: this one, or the only one inside it, as archives have it."""
    for root in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if (root / "calvin_env" / "envs" / "play_table_env.py").is_file():
            return root
    raise BadValue(f"{source} holds no calvin_env: there is no calvin_env/envs/play_table_env.py in it.")


@click.command("calvin", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--from", "source", help="A checkout, its .tar.gz or .zip, or the URL of one.  [default: GitHub]")
def command(source: str | None) -> None:
    """Fetch the official CALVIN environment (30 MB; no data set).

    It is checked against the pinned commit and put into FlowBench's cache; nothing is installed and nothing of it is changed.
    A checkout that lies elsewhere can be used as it is: set CALVIN_ENV_ROOT.

    \b
    Examples:
      flowbench setup calvin
      flowbench setup calvin --from ~/src/calvin_env
      flowbench doctor --suite calvin-d-d
    """  # noqa: D301 - click's mark of a paragraph whose lines stay
    root = install(source)
    licence = (root / LICENCE_FILE).read_text().strip()
    click.echo(f"{licence}\n")
    click.echo(
        "The licence above is calvin_env's own file; its package metadata says GPLv3 instead. The robot's meshes are Apache 2.0\n"
        "(data/franka_panda/LICENSE.txt); the origin of the table's meshes and textures is not stated. FlowBench redistributes\n"
        "none of it.\n"
    )
    click.echo(f"calvin_env {COMMIT[:8]} lies in {root}. Try it: flowbench doctor --suite calvin-d-d")
