"""Learning curves from the CSV files that trainings write: a `step` column and whatever was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from flowbench.errors import BadValue

#: A curve with more points is averaged over neighbours: the page has no more pixels than this.
_MOST_POINTS = 400
#: From this ratio of largest to smallest value, a logarithmic axis shows more.
_LOG_RATIO = 30.0


@dataclass(frozen=True)
class Curve:
    """One measured quantity of one training.

    Attributes:
        log: Index of the file.
        steps: (N,) ascending.
        values: (N,) finite.
        averaged: How many neighbouring points each value is the mean of.
    """

    log: int
    steps: np.ndarray
    values: np.ndarray
    averaged: int


@dataclass(frozen=True)
class LearningCurves:
    """All trainings' curves of one quantity.

    Attributes:
        quantity: Name of the column.
        names: Name of each training log.
        curves: The curves.
        log_scale: Whether values span so much that a logarithmic axis shows more.
    """

    quantity: str
    names: tuple[str, ...]
    curves: tuple[Curve, ...]
    log_scale: bool


def read_training_logs(paths: Sequence[Path]) -> tuple[LearningCurves, ...]:
    """Read training logs, quantity by quantity.

    Args:
        paths: CSV files with a `step` column; every other column with numbers is a quantity, empty fields are skipped.

    Raises:
        BadValue: If a file cannot be read or has no such columns.
    """
    frames = [_read(path) for path in paths]
    names = _names(paths)
    quantities = dict.fromkeys(column for frame in frames for column in frame.columns if column != "step")
    found = []
    for quantity in quantities:
        curves = tuple(_curve(index, frame, quantity) for index, frame in enumerate(frames) if quantity in frame)
        values = np.concatenate([curve.values for curve in curves])
        log_scale = bool(values.min() > 0 and values.max() / values.min() >= _LOG_RATIO)
        found.append(LearningCurves(str(quantity), names, curves, log_scale))
    return tuple(found)


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
        raise BadValue(f"--training-log {path} cannot be read as CSV: {reason}.") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    if "step" not in frame:
        raise BadValue(f"--training-log {path} has no column step; its columns are {', '.join(frame.columns)}.")
    numbers = frame.apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    numbers = numbers.dropna(subset="step").dropna(axis="columns", how="all")
    if len(numbers.columns) < 2:
        raise BadValue(f"--training-log {path} has no numbers beside its column step.")
    return numbers.sort_values("step", kind="stable")


def _curve(index: int, frame: pd.DataFrame, quantity: str) -> Curve:
    points = frame[["step", quantity]].dropna()
    averaged = -(-len(points) // _MOST_POINTS)
    if averaged > 1:
        points = points.groupby(np.arange(len(points)) // averaged).mean()
    return Curve(index, points["step"].to_numpy(float), points[quantity].to_numpy(float), averaged)


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return file names, with their folder where two are alike."""
    stems = [path.stem for path in paths]
    return tuple(stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths))
