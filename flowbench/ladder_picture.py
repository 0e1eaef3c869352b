"""A ladder as a picture: from a perfect score down, one bar per part that loses something."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flowbench.figures import check_matplotlib, new_figure, write_figure

if TYPE_CHECKING:
    from flowbench.ladder import Ladder, LadderRow

_LEFT, _LOST, _CONTROL = "#1f6fd1", "#e9a99b", "#9aa3ab"


def draw_ladder(ladder: Ladder, path: Path) -> None:
    """Write a ladder as an image, of the kind that the ending of the name says.

    Args:
        ladder: At least one rung.
        path: `.png`, `.svg` or `.pdf`; it appears only when complete.

    Raises:
        MissingExtra: If Matplotlib is not installed.
    """
    check_matplotlib("The picture of a ladder")
    groups = {name: rows for name, rows in ladder.groups.items() if name}
    shared = ladder.groups.get("", [])
    longest = max((len(rows) + len(shared) for rows in groups.values()), default=1)
    figure = new_figure(7.0, (0.42 * longest + 0.8) * max(1, len(groups)))
    axes = figure.subplots(max(1, len(groups)), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, rows) in zip(axes, groups.items()):
        _draw_group(axis, name, [*rows, *shared])
    axes[-1].set_xlabel("success in %, with 95 % interval", fontsize=8)
    write_figure(figure, path)


def _draw_group(axis, name: str, rows: list[LadderRow]) -> None:
    top = 100.0
    for place, row in enumerate(rows):
        rate, low, high = (100 * value for value in (row.rate.mean, row.rate.low, row.rate.high))
        control = row.rung.part is None
        axis.barh(place, rate, color=_CONTROL if control else _LEFT, height=0.62)
        if not control and top > rate:
            axis.barh(place, top - rate, left=rate, color=_LOST, height=0.62)
            label = f"{row.rung.part} \N{MINUS SIGN}{top - rate:.1f}"
            axis.text(max(top, high) + 1.5, place, label, va="center", fontsize=7, color="#7a2e1d")
        axis.errorbar(rate, place, xerr=[[max(0, rate - low)], [max(0, high - rate)]], color="black", lw=0.8, capsize=2)
        # Above the interval's line.
        axis.text(1, place - 0.16, f"{rate:.1f}", va="center", fontsize=7, color="white" if rate > 12 else "black")
        if not control:
            top = rate
    axis.set_yticks(range(len(rows)), [row.rung.says for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlim(0, 125)
    axis.set_xticks(range(0, 101, 20))
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title(name, fontsize=8, loc="left")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
