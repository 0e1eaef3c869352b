"""Parts of one evaluation as the whole: what was divided over machines or evenings becomes one run again.

Parts are runs of one agent under the same rules that differ in one of tasks, cameras, seeds and initial states, and have
no episode in common. Their union is the spec that one run of everything would have had, so every command takes it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

from flowbench.comparability import check_distinct, incomparable
from flowbench.errors import BadValue, StoreError
from flowbench.evaluate import ERRORS_NAME
from flowbench.manifest import RunManifest, command_line
from flowbench.outcomes import field_differences
from flowbench.spec import EvalSpec
from flowbench.store import EPISODES_NAME, MANIFEST_NAME, copy_episodes, read_manifest

#: Fields of a spec over which an evaluation may be divided.
DIVISIBLE = ("tasks", "cameras", "seeds", "init_states")


class Part(NamedTuple):
    """One run that is a part.

    Attributes:
        name: How the user calls it: its folder.
        manifest: What was run.
    """

    name: str
    manifest: RunManifest

    @classmethod
    def read(cls, folder: Path | str) -> Part:
        """Read a stored run's manifest."""
        return cls(str(folder), read_manifest(Path(folder)))


def parts_of_one(parts: Sequence[Part]) -> list[list[Part]]:
    """Group runs by everything in their specs but what an evaluation may be divided over, in the order given."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        shared = {name: value for name, value in part.manifest.spec.to_json().items() if name not in DIVISIBLE}
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(part)
    return list(groups.values())


def merged_manifest(parts: Sequence[Part]) -> RunManifest:
    """Return the manifest of the whole; its command is that of every part.

    Raises:
        BadValue: If the runs are not parts of one evaluation.
    """
    check_distinct(parts)
    first, *others = parts
    for other in others:
        _check_alike(first, other)
    changed = [name for name in DIVISIBLE if len({getattr(part.manifest.spec, name) for part in parts}) > 1]
    if len(changed) != 1:
        how = f"in {' and '.join(changed)}" if changed else "in nothing"
        raise BadValue(
            f"{_names(parts)} differ {how}; parts of one evaluation differ in one of {', '.join(DIVISIBLE)}. Merge "
            "those that differ in one first."
        )
    manifests = [part.manifest for part in parts]
    commits = {manifest.commit for manifest in manifests}
    return replace(
        first.manifest,
        spec=_union(parts, changed[0]),
        command=" && ".join(manifest.command for manifest in manifests),
        created=min(manifest.created for manifest in manifests),
        commit=first.manifest.commit if len(commits) == 1 else None,
        dirty=any(manifest.dirty for manifest in manifests),
    )


def merge(folders: Sequence[Path], out: Path) -> RunManifest:
    """Write the whole of several stored runs into a new folder, with their videos; the parts stay as they are.

    Lines are copied as they were written. What a part has not finished is missing in the whole, too, and an evaluation of
    the whole into that folder goes on with it.

    Raises:
        BadValue: If the runs are not parts of one evaluation.
        StoreError: If one is damaged, or `out` exists or cannot be written.
    """
    if out.exists():
        raise StoreError(f"{out} exists; give merge a new folder with --out.")
    parts = [Part.read(folder) for folder in folders]
    manifest = merged_manifest(parts)
    manifest = replace(manifest, command=f"{manifest.command} && {command_line()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # The folder appears only when it is whole.
        scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror}. Choose another --out.") from error
    try:
        with (scratch / EPISODES_NAME).open("wb") as file:
            for folder in folders:
                copy_episodes(folder, file)
        for folder in folders:
            _copy_beside(Path(folder), scratch)
        (scratch / MANIFEST_NAME).write_text(json.dumps(manifest.to_json(), indent=2) + "\n")
        scratch.chmod(0o777 & ~_umask())
        scratch.rename(out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror}. Make room, or choose another --out.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def _check_alike(first: Part, other: Part) -> None:
    """Check that two runs have the same agent, rules, simulator and pixels.

    Raises:
        BadValue: With every difference.
    """
    a, b = first.manifest, other.manifest
    for part in (first, other):
        if part.manifest.spec.limit is not None:
            raise BadValue(
                f"{part.name} was limited to {part.manifest.spec.limit} episodes; only whole runs can be merged."
            )
    fields = [name for name in a.spec.to_json() if name not in DIVISIBLE]
    found = field_differences(a.spec, b.spec, fields) + field_differences(a, b, ("privileged", "modalities"))
    # The fields of the spec are compared above, with others.
    found += [text for text in incomparable((first, other), ()) if text.startswith(("package", "renderer"))]
    if found:
        raise BadValue(
            f"{first.name} and {other.name} are not parts of one evaluation: {'; '.join(found)}. Show them side by side: "
            "flowbench table"
        )


def _union(parts: Sequence[Part], field: str) -> EvalSpec:
    values = [getattr(part.manifest.spec, field) for part in parts]
    if any(value is None for value in values):
        raise BadValue(f"{_names(parts)} are not parts of one evaluation: only some have {field}.")
    for (one, mine), (other, theirs) in combinations(zip(parts, values), 2):
        if shared := sorted({*mine} & {*theirs}):
            raise BadValue(f"{one.name} and {other.name} both have {field} {', '.join(map(str, shared[:4]))}.")
    together = list(chain.from_iterable(values))
    # Numbers in their order, as one run of everything would have them.
    if all(isinstance(value, int) for value in together):
        together.sort()
    return replace(parts[0].manifest.spec, **{field: tuple(together)})


def _copy_beside(folder: Path, target: Path) -> None:
    """Copy the folders of a run (videos, recordings), and add its tracebacks to the others'."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            shutil.copytree(path, target / path.name, dirs_exist_ok=True)
    if (folder / ERRORS_NAME).exists():
        with (target / ERRORS_NAME).open("ab") as file:
            file.write((folder / ERRORS_NAME).read_bytes())


def _names(parts: Sequence[Part]) -> str:
    return ", ".join(part.name for part in parts)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
