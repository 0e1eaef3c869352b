"""The geometry of the page's charts, in percent of the plotting area; the template draws it.

Only positions are computed here. Colours, fonts and widths belong to the style sheet, which knows the reader's theme and
screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flowbench.report.axes import PERCENT_AXIS, Axis, Tick
from flowbench.report.cameras import CameraSweep
from flowbench.report.lengths import Bin, Lengths, Quartiles
from flowbench.report.training_log import LearningCurves
from flowbench.tables import Score

#: Of every success rate, in percent.
RATE_TICKS = PERCENT_AXIS.ticks

#: Intervals of several runs stand this much beside each other, in percent of the chart's width.
_ASIDE = 0.8


class Whisker(NamedTuple):
    """A value with its interval, in percent of the axis."""

    low: float
    at: float
    high: float


class Point(NamedTuple):
    """A marked point; `low` and `high` are the ends of its interval. Percent, y downwards."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One series of a chart.

    Attributes:
        index: Which run or training log it belongs to.
        path: SVG path in a 100 x 100 box.
        points: Its marked points; empty for a curve of many.
    """

    index: int
    path: str
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Lines over two axes; y positions count downwards."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


class Bar(NamedTuple):
    """A rectangle of a histogram, in percent; `status` is 0 for success, 1 for failure, 2 for error."""

    x: float
    y: float
    width: float
    height: float
    status: int


@dataclass(frozen=True)
class Histogram:
    """Stacked bars over steps."""

    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


class Box(NamedTuple):
    """A box plot lying on its side, in percent."""

    shortest: float
    lower: float
    median: float
    upper: float
    longest: float


def whisker(score: Score | None) -> Whisker | None:
    """Place a score on the axis of success rates; None for one of nothing."""
    if score is None or math.isnan(score.rate):
        return None
    return Whisker(100 * score.low, 100 * score.rate, 100 * score.high)


def sweep_chart(sweep: CameraSweep) -> Chart:
    """Draw success over the displacement of a camera."""
    axis = Axis.at_values(sweep.values)
    lines = []
    for run, scores in enumerate(sweep.scores):
        aside = _ASIDE * (run - (len(sweep.scores) - 1) / 2)
        points = tuple(
            Point(axis.at(value) + aside, 100 * (1 - score.rate), 100 * (1 - score.low), 100 * (1 - score.high))
            for value, score in zip(sweep.values, scores)
            if score is not None and not math.isnan(score.rate)
        )
        if points:
            lines.append(Line(run, _path([(point.x, point.y) for point in points]), points))
    return Chart(tuple(lines), axis.ticks, _downwards(RATE_TICKS))


def learning_chart(curves: LearningCurves) -> Chart:
    """Draw learning curves over training steps."""
    x_axis = Axis.covering(step for curve in curves.curves for step in curve.steps)
    y_axis = learning_axis(curves)
    lines = []
    for curve in curves.curves:
        places = [(x_axis.at(step), 100 - y_axis.at(value)) for step, value in zip(curve.steps, curve.values)]
        points = tuple(Point(x, y, y, y) for x, y in places) if len(places) <= 2 else ()
        lines.append(Line(curve.log, _path(places), points))
    return Chart(tuple(lines), x_axis.ticks, _downwards(y_axis.ticks))


def learning_axis(curves: LearningCurves) -> Axis:
    """Return the vertical axis of learning curves."""
    values = [value for curve in curves.curves for value in curve.values]
    return Axis.covering_log(values) if curves.log_scale else Axis.covering(values)


def length_histogram(bins: Sequence[Bin]) -> Histogram:
    """Stack the outcomes of each bin."""
    x_axis = Axis.covering((0, bins[-1].last))
    y_axis = Axis.covering((0, max(sum(one.counts) for one in bins)))
    bars = []
    for one in bins:
        left, right = x_axis.at(one.first - 1), x_axis.at(one.last)
        below = 0
        for status, count in enumerate(one.counts):
            if count:
                top, bottom = 100 - y_axis.at(below + count), 100 - y_axis.at(below)
                bars.append(Bar(left, top, right - left, bottom - top, status))
                below += count
    whole = [value for value in y_axis.marks if value == int(value)]
    y_ticks = Axis(y_axis.low, y_axis.high, tuple(whole)).ticks
    return Histogram(tuple(bars), x_axis.ticks, _downwards(y_ticks))


def length_axis(lengths: Lengths) -> Axis:
    """Return the axis of steps that all tasks share."""
    return Axis.covering((0, lengths.most_steps))


def box(quartiles: Quartiles, axis: Axis) -> Box:
    """Place the lengths of a task's successes on the axis of steps."""
    return Box(*(axis.at(value) for value in quartiles[:5]))


def _downwards(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    return tuple(Tick(100 - tick.position, tick.text) for tick in ticks)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.2f},{y:.2f}" for x, y in places)
