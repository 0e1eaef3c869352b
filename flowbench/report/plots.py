"""The charts of a report as PNG and SVG files, in the size and type of a paper's column.

Matplotlib is an extra: the page itself is drawn without it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowbench.atomic import write_atomically
from flowbench.errors import BadValue
from flowbench.figures import check_matplotlib
from flowbench.report.axes import Axis
from flowbench.report.cameras import CameraSweep, HeatMap
from flowbench.report.charts import learning_axis
from flowbench.report.content import Report
from flowbench.report.lengths import Bin
from flowbench.report.training_log import LearningCurves
from flowbench.result import STATUSES
from flowbench.tables import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The page's light theme.
_RUN_COLORS = ("#1f6fd1", "#c4560a", "#13805a", "#a83a8e", "#7a6a00", "#5b50c4", "#b3303a", "#3d6470")
_RUN_MARKERS = ("o", "s", "D", "^")
_STATUS_COLORS = {"success": "#1b7f79", "failure": "#d8722c", "error": "#7d5ba6"}
_HEAT_COLORS = ("#eef4fb", "#063f7d")
_STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    # Text stays text, so that a paper's font can replace it and a reader can search it.
    "svg.fonttype": "none",
    # Equal input gives an equal file.
    "svg.hashsalt": "flowbench",
}
_PNG_DPI = 300
#: Width in inches of one column of a two-column paper, and of the whole page.
_COLUMN, _PAGE = 3.4, 7.0


def save_plots(report: Report, folder: Path) -> list[Path]:
    """Draw every chart of a report and return the files, two for each.

    Raises:
        MissingExtra: If Matplotlib is not installed.
        BadValue: If a file cannot be written.
    """
    check_matplotlib("--plots")
    from matplotlib import rc_context

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadValue(f"--plots {folder} is a file; give the name of a folder.")
    written = []
    with rc_context(_STYLE):
        for name, figure in _figures(report):
            for suffix, options in (("png", {"dpi": _PNG_DPI}), ("svg", {"metadata": {"Date": None}})):
                path = folder / f"{name}.{suffix}"
                write_atomically(
                    path,
                    lambda temporary, figure=figure, suffix=suffix, options=options: figure.savefig(
                        temporary, format=suffix, bbox_inches="tight", pad_inches=0.03, **options
                    ),
                    "--plots",
                )
                written.append(path)
    return written


def _figures(report: Report) -> Iterator[tuple[str, Figure]]:
    labels = [_plain(column.label) for column in report.board.columns]
    yield "success-by-task", _success_by_task(report, labels)
    for sweep in report.sweeps:
        yield f"camera-sweep-{_file_name(sweep.view)}-{sweep.kind}", _camera_sweep(sweep, labels)
    for heat_map in report.heat_maps:
        # Numbered, because two labels may become the same file name.
        name = f"camera-heat-map-{heat_map.run + 1}-{_file_name(labels[heat_map.run])}"
        yield name, _heat_map(heat_map)
    yield "episode-lengths", _episode_lengths(report.lengths.bins, labels)
    for curves in report.curves:
        yield f"learning-curves-{_file_name(curves.quantity)}", _learning_curves(curves)


def _success_by_task(report: Report, labels: Sequence[str]) -> Figure:
    rows = dict(report.board.tasks)
    if len(rows) > 1:
        rows["all tasks"] = report.board.overall
    runs = len(labels)
    figure, axes = _figure(_COLUMN, 0.5 + len(rows) * max(0.2, 0.11 * runs + 0.06))
    for index, label in enumerate(labels):
        spread = 0.0 if runs == 1 else 0.6 * (index / (runs - 1) - 0.5)
        points = [(y + spread, scores[index]) for y, scores in enumerate(rows.values()) if _counted(scores[index])]
        if points:
            heights, scores = zip(*points)
            axes.errorbar(
                [100 * score.rate for score in scores], heights, xerr=_bars(scores), label=label, **_run_style(index)
            )
    if len(rows) > 1:
        axes.axhline(len(rows) - 1.5, color="0.6", linewidth=0.6)
    axes.set(yticks=range(len(rows)), xlim=(-2, 102), ylim=(len(rows) - 0.5, -0.5), xlabel="success rate [%]")
    axes.set_yticklabels([_plain(name) for name in rows])
    axes.grid(axis="x", linewidth=0.4, color="0.88")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    _legend_above(axes, runs)
    return figure


def _camera_sweep(sweep: CameraSweep, labels: Sequence[str]) -> Figure:
    figure, axes = _figure(_COLUMN, 2.1)
    aside = 0.008 * (sweep.values[-1] - sweep.values[0])
    shown = 0
    for index, scores in enumerate(sweep.scores):
        points = [(value, score) for value, score in zip(sweep.values, scores) if _counted(score)]
        if points:
            values, scores = zip(*points)
            values = [value + aside * (index - (len(labels) - 1) / 2) for value in values]
            heights = [100 * score.rate for score in scores]
            style = _run_style(index) | {"linestyle": "-"}
            axes.errorbar(values, heights, yerr=_bars(scores), label=labels[index], **style)
            shown += 1
    axes.set(xlabel=f"{sweep.kind} of {_plain(sweep.view)} [{_unit(sweep)}]", ylabel="success rate [%]", ylim=(-2, 102))
    axes.set_xticks(Axis.at_values(sweep.values).marks)
    axes.grid(linewidth=0.4, color="0.88")
    axes.set_axisbelow(True)
    _legend_above(axes, shown if len(labels) > 1 else 1)
    return figure


def _heat_map(heat_map: HeatMap) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap

    several = len(heat_map.tasks) > 1
    names = [*heat_map.tasks, *(["all tasks"] if several else [])]
    rows = [*heat_map.scores, *([heat_map.totals] if several else [])]
    rates = [[100 * score.rate if _counted(score) else math.nan for score in row] for row in rows]
    figure, axes = _figure(min(_PAGE, 1.0 + 0.5 * len(heat_map.cameras)), 0.6 + 0.26 * len(names))
    axes.imshow(rates, cmap=LinearSegmentedColormap.from_list("rates", _HEAT_COLORS), vmin=0, vmax=100, aspect="auto")
    for y, row in enumerate(rates):
        for x, rate in enumerate(row):
            text = "–" if math.isnan(rate) else f"{rate:.0f}"
            axes.text(x, y, text, ha="center", va="center", color="white" if rate > 67 else "black", fontsize=7)
    if several:
        axes.axhline(len(names) - 1.5, color="white", linewidth=2)
    axes.set_xticks(range(len(heat_map.cameras)), [_plain(name) for name in heat_map.cameras], rotation=45, ha="right")
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _episode_lengths(bins: Sequence[Sequence[Bin]], labels: Sequence[str]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_COLUMN, 0.4 + 1.2 * len(bins)))
    grid = figure.subplots(len(bins), squeeze=False, sharex=True)[:, 0]
    for axes, one, label in zip(grid, bins, labels):
        below = [0] * len(one)
        for status, color in _STATUS_COLORS.items():
            counts = [each.counts[STATUSES.index(status)] for each in one]
            if any(counts):
                width = one[0].last - one[0].first + 1
                left = [each.first - 1 for each in one]
                axes.bar(
                    left,
                    counts,
                    width,
                    below,
                    align="edge",
                    color=color,
                    label=status,
                    edgecolor="white",
                    linewidth=0.3,
                )
                below = [a + b for a, b in zip(below, counts)]
        axes.set(ylabel="episodes")
        axes.set_title(label, fontsize=8, loc="left")
        axes.legend(fontsize=7, handlelength=1)
    grid[-1].set_xlabel("steps")
    figure.align_ylabels(grid)
    figure.tight_layout(h_pad=0.6)
    return figure


def _learning_curves(curves: LearningCurves) -> Figure:
    figure, axes = _figure(_COLUMN, 2.1)
    for curve in curves.curves:
        color = _RUN_COLORS[curve.log % len(_RUN_COLORS)]
        marker = "o" if len(curve.steps) <= 2 else None
        name = _plain(curves.names[curve.log])
        axes.plot(curve.steps, curve.values, color=color, linewidth=1, marker=marker, markersize=3, label=name)
    axis = learning_axis(curves)
    axes.set(xlabel="step", ylabel=_plain(curves.quantity), yscale="log" if axis.log else "linear")
    axes.set_ylim(axis.low, axis.high)
    axes.grid(linewidth=0.4, color="0.88")
    _legend_above(axes, len(curves.curves) + 1)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def _legend_above(axes: Axes, entries: int) -> None:
    if entries > 1:
        longest = max(len(text) for text in axes.get_legend_handles_labels()[1])
        columns = 2 if longest <= 22 else 1
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=7, handletextpad=0.4, columnspacing=1
        )


def _run_style(index: int) -> dict[str, object]:
    return {
        "color": _RUN_COLORS[index % len(_RUN_COLORS)],
        "marker": _RUN_MARKERS[index % len(_RUN_MARKERS)],
        "linestyle": "none",
        "markersize": 3.5,
        "elinewidth": 1,
        "linewidth": 1,
    }


def _bars(scores: Sequence[Score]) -> list[list[float]]:
    """Return the lengths of the intervals below and above each rate, in percent."""
    below = [100 * max(0.0, score.rate - score.low) for score in scores]
    return [below, [100 * max(0.0, score.high - score.rate) for score in scores]]


def _counted(score: Score | None) -> bool:
    return score is not None and not math.isnan(score.rate)


def _unit(sweep: CameraSweep) -> str:
    return sweep.meaning.split(":")[0].split(" ")[0]


def _plain(text: str) -> str:
    """Keep Matplotlib from reading a name as a formula."""
    return text.replace("$", r"\$")


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-") or "unnamed"
