"""Where a value lies on an axis, in percent, and which values deserve a label.

Positions are percentages, so that a chart follows the width of its page while its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Tick(NamedTuple):
    """A labelled value.

    Attributes:
        position: Percent of the axis, from its start.
        text: What is written there.
    """

    position: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale.

    Attributes:
        low: Value at 0 %.
        high: Value at 100 %.
        marks: Values with a label.
        log: Whether equal distances are equal ratios.
    """

    low: float
    high: float
    marks: tuple[float, ...]
    log: bool = False

    @classmethod
    def covering(cls, values: Iterable[float], *, include_zero: bool = False) -> Axis:
        """Return a linear axis from one round number to another that covers all finite values."""
        low, high = _extent(values)
        if include_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        step = _round_step((high - low) / 5)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(first * step, last * step, tuple(index * step for index in range(first, last + 1)))

    @classmethod
    def covering_log(cls, values: Iterable[float]) -> Axis:
        """Return a logarithmic axis between powers of ten that covers all finite positive values."""
        low, high = _extent(value for value in values if value > 0)
        first = math.floor(math.log10(low))
        last = max(math.ceil(math.log10(high)), first + 1)
        stride = math.ceil((last - first) / 6)
        return cls(10.0**first, 10.0**last, tuple(10.0**power for power in range(first, last + 1, stride)), log=True)

    @classmethod
    def at_values(cls, values: Iterable[float], *, most: int = 9) -> Axis:
        """Return an axis that labels the given values themselves, or every other one where they are many."""
        marks = sorted(set(values))
        margin = 0.04 * (marks[-1] - marks[0]) or 0.5
        return cls(marks[0] - margin, marks[-1] + margin, tuple(marks[:: math.ceil(len(marks) / most)]))

    def at(self, value: float) -> float:
        """Return the position of a value in percent; NaN for one that a logarithmic axis cannot show."""
        if not self.log:
            return 100 * (value - self.low) / (self.high - self.low)
        return 100 * math.log(value / self.low) / math.log(self.high / self.low) if value > 0 else math.nan

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """The labelled values."""
        return tuple(Tick(self.at(value), _text(value)) for value in self.marks)


#: Success rates are always shown on the whole scale, so that a small difference looks small.
PERCENT_AXIS = Axis(0.0, 100.0, (0.0, 25.0, 50.0, 75.0, 100.0))


def _extent(values: Iterable[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _round_step(rough: float) -> float:
    """Return the smallest 1, 2, 2.5 or 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _text(value: float) -> str:
    return f"{round(value, 12):,g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.0e}"
