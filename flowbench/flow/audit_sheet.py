"""The tables of a flow audit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from flowbench.flow.audit import STILL, AuditSpec, Measured, Tally, group_names, pooled
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell, Span

#: Resamplings of the intervals; whole scenes are drawn, because the pixels and pairs of one are alike.
RESAMPLES = 1000
_OVERALL = ("all", "moving", "things", "target", "hidden")


def overall_sheet(spec: AuditSpec, measured: Sequence[Measured]) -> Sheet:
    """Return the errors of each estimator by kind of pixel, and how well it tells what moves."""
    lines, records = [], []
    for name, items in _by_estimator(measured).items():
        cells = []
        record: dict[str, object] = {"estimator": name, "pairs": len(items)}
        for group in _OVERALL:
            tally = pooled(items, group)
            low, high = epe_interval(items, group)
            cells.append(
                SheetCell((_number(_epe(tally)), f"[{_number(low)}, {_number(high)}]" if tally.pixels else ""))
            )
            record |= {f"epe_{group}": _epe(tally), f"epe_{group}_low": low, f"epe_{group}_high": high}
            record[f"pixels_{group}"] = tally.pixels
        outliers = _share(pooled(items, "moving").outliers, pooled(items, "moving").pixels)
        precision, recall = precision_recall(items)
        seconds = None if name == STILL else float(np.median([item.seconds for item in items]))
        cells += [SheetCell((_percent(value),)) for value in (outliers, precision, recall)]
        cells.append(SheetCell((NOTHING if seconds is None else f"{1000 * seconds:.0f}",)))
        record |= {"outliers_moving": outliers, "precision": precision, "recall": recall, "seconds": seconds}
        lines.append(Line((name,), tuple(cells)))
        records.append({key: _json_number(value) for key, value in record.items()})
    return Sheet(
        caption=f"Flow on {spec.suite}: end-point error in pixels, pooled over pixels, with 95 % intervals over scenes",
        labels=("flow",),
        spans=(Span("end-point error, px", len(_OVERALL)), Span("moving", 3), Span("", 1)),
        headings=(*_OVERALL, "outliers %", "precision %", "recall %", "ms"),
        groups=(Group("", tuple(lines)),),
        notes=_notes(spec, measured),
        records=tuple(records),
    )


def detail_sheet(spec: AuditSpec, measured: Sequence[Measured]) -> Sheet:
    """Return the errors by displacement, object size, camera and task; one line per part, one column per estimator."""
    by_estimator = _by_estimator(measured)
    parts: list[tuple[str, str, str, Callable[[Measured], bool]]] = []
    for name in group_names():
        if name not in _OVERALL:
            kind = {"moves": "by displacement, moving pixels", "area ": "by visible area, moving things"}.get(name[:5])
            parts.append((kind or "by kind of pixel", name, name, lambda item: True))
    for camera in dict.fromkeys(item.camera for item in measured):
        parts.append(("by camera, moving pixels", camera, "moving", lambda item, camera=camera: item.camera == camera))
    for task in dict.fromkeys(item.task for item in measured):
        parts.append(("by task, moving pixels", task, "moving", lambda item, task=task: item.task == task))
    for task in dict.fromkeys(item.task for item in measured):
        parts.append(("by task, moving things", task, "things", lambda item, task=task: item.task == task))
    groups: dict[str, list[Line]] = {}
    records = []
    for kind, label, group, belongs in parts:
        cells = []
        pixels = 0
        for name, items in by_estimator.items():
            tally = pooled(filter(belongs, items), group)
            pixels = tally.pixels
            shown = (_number(_epe(tally)), f"{_percent(_share(tally.outliers, tally.pixels))} %" if pixels else "")
            cells.append(SheetCell(shown))
            records.append(
                {"part": kind, "value": label, "estimator": name, "pixels": pixels}
                | {"epe": _json_number(_epe(tally)), "outliers": _json_number(_share(tally.outliers, pixels))}
            )
        groups.setdefault(kind, []).append(Line((label, f"{pixels:,}"), tuple(cells)))
    return Sheet(
        caption=f"Flow on {spec.suite}: end-point error in pixels and share of outliers",
        labels=("", "pixels"),
        spans=(),
        headings=tuple(by_estimator),
        groups=tuple(Group(kind, tuple(lines)) for kind, lines in groups.items()),
        notes=(),
        records=tuple(records),
    )


def precision_recall(items: Iterable[Measured]) -> tuple[float, float]:
    """Return the share of the pixels said to move that do, and of the moving pixels that are said to; NaN for none."""
    items = list(items)
    hits, misses, alarms = (sum(getattr(item, name) for item in items) for name in ("hits", "misses", "alarms"))
    return _share(hits, hits + alarms), _share(hits, hits + misses)


def epe_interval(items: Sequence[Measured], group: str) -> tuple[float, float]:
    """Return a 95 % interval of a group's mean error: percentiles over resampled scenes (task and seed)."""
    scenes: dict[tuple[str, int], np.ndarray] = {}
    for item in items:
        tally = item.groups.get(group)
        if tally is not None:
            sums = scenes.setdefault((item.task, item.seed), np.zeros(2))
            sums += [tally.error_px, tally.pixels]
    if not scenes:
        return float("nan"), float("nan")
    sums = np.array(list(scenes.values()))
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    totals = sums[drawn].sum(axis=1)
    low, high = np.percentile(totals[:, 0] / totals[:, 1], [2.5, 97.5])
    return float(low), float(high)


def _notes(spec: AuditSpec, measured: Sequence[Measured]) -> tuple[str, ...]:
    gap = f"frames {spec.gap} steps apart" if spec.gap else "neighbours in plans of eight frames"
    scenes = len({(item.task, item.seed, item.camera) for item in measured})
    part = f"the middle {spec.window} x {spec.window} pixels" if spec.window else "whole images"
    return (
        f"{len(spec.tasks)} tasks, {len(spec.cameras)} cameras, {len(spec.seeds)} seeds: {scenes} scenes; {gap}, {part}.",
        f"{STILL} answers that nothing moves, so its error is how far things moved.",
        "moving: seen in both images and displaced by more than 0.5 px. things: of those, what moved in the world and is not "
        "the robot. target: what the task is about. hidden: no longer seen in the second image.",
        "An outlier is off by more than 3 px and 5 % of its displacement. Precision and recall are of the pixels that an "
        "estimator says move by more than 0.5 px.",
    )


def _by_estimator(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    for item in measured:
        found.setdefault(item.estimator, []).append(item)
    return found


def _epe(tally: Tally) -> float:
    return _share(tally.error_px, tally.pixels)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _number(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{value:.2f}"


def _percent(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{100 * value:.1f}"


def _json_number(value: object) -> object:
    return None if isinstance(value, float) and np.isnan(value) else value
