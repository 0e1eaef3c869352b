"""What the diagnoses of SOF draw: contents in colour for rows of pictures, and figures of tokens, actions and success."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowbench.data.colours import colour_flow
from flowbench.figures import new_figure, write_figure

_DEMONSTRATION, _AGENT = "#969696", "#1f6fd1"

#: What one bar shows: name, success rate, and the bounds of its interval.
Bar = tuple[str, float, float, float]


def colour_content(content: np.ndarray, full: float) -> np.ndarray:
    """Colour (C, h, w) flow by direction, or show differences of pixels about grey; uint8 (h, w, 3).

    Args:
        content: Two channels of flow or three of pixels.
        full: Length in the full colour.
    """
    if len(content) == 2:
        return colour_flow(np.moveaxis(content, 0, -1), full)
    return (np.clip(0.5 + np.moveaxis(content, 0, -1) / (2 * full), 0, 1) * 255).astype(np.uint8)


def to_picture(frame: np.ndarray) -> np.ndarray:
    """Turn float (3, H, W) in [0, 1] into uint8 (H, W, 3)."""
    return (np.moveaxis(frame, 0, -1) * 255).round().astype(np.uint8)


def draw_timelines(
    path: Path, rows: Sequence[tuple[str, Sequence[tuple[int, int, int]]]], title: str, every: int
) -> None:
    """Draw a row of coloured cells per demonstration: which token came when.

    Args:
        path: Of the picture.
        rows: Name and RGB colours of each demonstration, which may differ in length.
        title: Above them.
        every: Steps from one cell to the next.
    """
    cells = np.full((len(rows), max(len(colours) for _, colours in rows), 3), 255, np.uint8)
    for row, (_, colours) in zip(cells, rows, strict=True):
        row[: len(colours)] = colours
    figure = new_figure(7.0, 0.9 + 0.22 * len(rows))
    axes = figure.subplots()
    axes.imshow(
        cells, aspect="auto", interpolation="nearest", extent=(0, every * cells.shape[1], len(rows) - 0.5, -0.5)
    )
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.hlines(np.arange(len(rows) - 1) + 0.5, 0, every * cells.shape[1], color="white", lw=2)
    axes.set_xlabel("step of the demonstration", fontsize=8)
    _finish(axes, title)
    write_figure(figure, path)


def draw_success(path: Path, bars: Sequence[Bar], title: str) -> None:
    """Draw a horizontal bar per setting, with the 95 % interval of its success rate."""
    figure = new_figure(7.0, 0.9 + 0.32 * len(bars))
    axes = figure.subplots()
    for place, (_, *values) in enumerate(bars):
        rate, low, high = (100 * value for value in values)
        axes.barh(place, rate, color=_AGENT, height=0.62)
        axes.errorbar(rate, place, xerr=[[max(0, rate - low)], [max(0, high - rate)]], color="black", lw=0.8, capsize=2)
        axes.text(102, place, f"{rate:.1f}", va="center", fontsize=7)
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("success in %, with 95 % interval", fontsize=8)
    _finish(axes, title)
    write_figure(figure, path)


def draw_actions(path: Path, wanted: np.ndarray, made: np.ndarray) -> None:
    """Draw a graph per component of (T, A) actions, the demonstration's in grey under the agent's."""
    components = wanted.shape[1]
    figure = new_figure(7.0, 0.6 + 1.0 * components)
    grid = figure.subplots(components, 1, sharex=True, squeeze=False)[:, 0]
    for component, axes in enumerate(grid):
        axes.plot(wanted[:, component], color=_DEMONSTRATION, lw=2.5, label="demonstration")
        axes.plot(made[:, component], color=_AGENT, lw=1, label="agent")
        axes.set_ylabel(f"component {component}", fontsize=7)
        _finish(axes, "")
    grid[0].legend(fontsize=7, ncols=2, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    grid[-1].set_xlabel("step", fontsize=8)
    write_figure(figure, path)


def _finish(axes, title: str) -> None:
    axes.set_title(title, fontsize=8, loc="left")
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
