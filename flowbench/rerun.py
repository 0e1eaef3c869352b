"""A run once more: the same spec into a new folder, and episode by episode where it came out differently.

An episode's outcome is a function of its id, the agent's checkpoint and the package versions. So what has changed of these
is said first, and any other difference in an outcome is a defect of the agent, the simulator or FlowBench.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from flowbench.errors import BadValue, FlowBenchError
from flowbench.manifest import RunManifest, content_hash, installed_versions
from flowbench.registry import get_suite
from flowbench.result import EpisodeResult, Outcome
from flowbench.spec import EvalSpec
from flowbench.store import MANIFEST_NAME, ResultStore, Run


@dataclass(frozen=True)
class RerunPlan:
    """What to run again.

    Attributes:
        original: The run as it is stored.
        spec: The evaluation to run.
        warnings: What has changed since, one sentence each.
    """

    original: Run
    spec: EvalSpec
    warnings: tuple[str, ...]


class Difference(NamedTuple):
    """An episode that came out differently; `before` and `after` name the fields that differ."""

    id: str
    before: Mapping[str, object]
    after: Mapping[str, object]

    @property
    def text(self) -> str:
        """The difference in one line, e.g. `toy/push@front/s003: status success -> failure, steps 12 -> 30`."""
        changes = ", ".join(f"{name} {_show(self.before[name])} -> {_show(self.after[name])}" for name in self.before)
        return f"{self.id}: {changes}"


@dataclass(frozen=True)
class RerunReport:
    """How a rerun compares with its original.

    Attributes:
        compared: Number of episodes that both have.
        differences: Those that came out differently, in the order of the spec.
        only_again: Ids of episodes that the original never finished.
    """

    compared: int
    differences: tuple[Difference, ...]
    only_again: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether episodes were compared and all came out the same."""
        return self.compared > 0 and not self.differences


def plan_rerun(
    place: Path, *, limit: int | None = None, checkpoint: str | None = None, allow_changed: bool = False
) -> RerunPlan:
    """Read a run and find out what has changed since it was made.

    Args:
        place: A run's folder, or its manifest.
        limit: Run at most this many of its episodes, spread over the tasks.
        checkpoint: Where its checkpoint lies now, if it was moved.
        allow_changed: Run it even if the checkpoint or the agent's file is not the one that the run used.

    Raises:
        StoreError: If there is no run.
        BadValue: If it has no episode to compare with, or its agent has changed.
    """
    folder = _folder_of(Path(place))
    original = ResultStore.read(folder)
    if not original.results:
        raise BadValue(
            f"{folder} has no finished episode to compare with. Run it by its own command: {original.manifest.command}"
        )
    if limit is not None and limit < 1:
        raise BadValue(f"--limit is {limit}; give a whole number from 1.")
    spec, warnings = original.manifest.spec, []
    if limit is not None:
        spec = replace(spec, limit=min(limit, spec.limit or limit))
    where = checkpoint or spec.agent.checkpoint
    content = _content_now(spec, where)
    if content != spec.agent.content_sha256:
        what = (
            f"The checkpoint {where}, or the agent's file, is" if where else f"The agent's file ({spec.agent.name}) is"
        )
        sentence = (
            f"{what} not what the run used (sha256 {_short(spec.agent.content_sha256)} then, {_short(content)} now)."
        )
        if not allow_changed:
            raise BadValue(f"{sentence} Restore it, or pass --allow-changed to see which outcomes that changes.")
        warnings.append(sentence)
    spec = replace(spec, agent=replace(spec.agent, checkpoint=where, content_sha256=content))
    suite_version = get_suite(spec.suite).version
    if suite_version != spec.suite_version:
        warnings.append(
            f"Suite {spec.suite} had version {spec.suite_version} then and has {suite_version} now: some episode ids mean "
            "other episodes."
        )
        spec = replace(spec, suite_version=suite_version)
    warnings += version_differences(original.manifest.versions, installed_versions())
    return RerunPlan(original, spec, tuple(warnings))


def version_differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return a sentence for each package whose version differs."""
    return [
        f"Package {name} was {before.get(name, 'not installed')} then and is {after.get(name, 'not installed')} now."
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def environment_differences(before: RunManifest, after: RunManifest) -> list[str]:
    """Return a sentence for each other thing that differs between two runs of one spec and may matter."""
    found = []
    for kind, then, now in (
        ("Renderer", before.renderer, after.renderer),
        ("Platform", before.platform, after.platform),
        ("Run", {"device": before.device}, {"device": after.device}),
    ):
        found += [
            f"{kind}: {key} was {then.get(key, 'none')} then and is {now.get(key, 'none')} now."
            for key in dict.fromkeys((*then, *now))
            if key != "cpus" and then.get(key) != now.get(key)
        ]
    if before.commit != after.commit:
        found.append(f"FlowBench's source was at {_short(before.commit)} then and is at {_short(after.commit)} now.")
    found += [
        f"FlowBench's source had uncommitted changes {when}."
        for when, manifest in (("then", before), ("now", after))
        if manifest.dirty
    ]
    return found


def check_folder(plan: RerunPlan, out: Path) -> None:
    """Check that the rerun goes into a folder of its own, so that nothing is compared with itself.

    Raises:
        BadValue: If it is the original's, or holds a finished rerun.
        StoreError: If it holds another run.
    """
    if out.resolve() == plan.original.folder.resolve():
        raise BadValue(f"--out {out} is the run itself; choose a new folder.")
    ResultStore.check(out, plan.spec)
    if (out / MANIFEST_NAME).exists() and not ResultStore.read(out).missing():
        raise BadValue(f"{out} already holds this rerun, finished. Delete it, or choose another --out.")


def compare_outcomes(original: Sequence[EpisodeResult], again: Sequence[EpisodeResult]) -> RerunReport:
    """Compare two runs of one spec, episode by episode.

    Args:
        original: Results of the original.
        again: Results of the rerun; may be fewer.
    """
    before = {result.id: result.outcome for result in original}
    differences, only_again, compared = [], [], 0
    for result in again:
        if result.id not in before:
            only_again.append(result.id)
            continue
        compared += 1
        then, now = before[result.id], result.outcome
        fields = [name for name in Outcome._fields if not _equal(getattr(then, name), getattr(now, name))]
        if fields:
            differences.append(
                Difference(result.id, _pick(then, fields), _pick(now, fields)),
            )
    return RerunReport(compared, tuple(differences), tuple(only_again))


def _folder_of(place: Path) -> Path:
    if place.is_dir() or place.name != MANIFEST_NAME:
        if place.is_file():
            raise BadValue(f"{place} is no run; give a run's folder or its {MANIFEST_NAME}.")
        return place
    return place.parent


def _content_now(spec: EvalSpec, checkpoint: str | None) -> str | None:
    try:
        return content_hash(spec.agent.name, checkpoint)
    except FlowBenchError as error:
        if checkpoint is None:
            raise
        raise BadValue(
            f"The checkpoint {checkpoint} does not exist here. Say where it lies with --checkpoint PATH."
        ) from error


def _pick(outcome: Outcome, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(outcome, name) for name in names}


def _equal(one: object, other: object) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both_nan or one == other


def _show(value: object) -> str:
    return "none" if value is None else repr(value) if isinstance(value, float) else str(value)


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
