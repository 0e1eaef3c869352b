"""What an agent imagined beside what then happened: a picture per plan for people, and its arrays for programs.

An agent that plans may have `recorded_plans()`; it is told to keep them by setting its `record_plans`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowbench.atomic import write_atomically
from flowbench.data.colours import colour_flow
from flowbench.errors import BadValue, missing_extra

#: Of a moment in the picture, pixels.
_TILE_HEIGHT = 144
_MARGIN, _TEXT_HEIGHT = 4, 14
_LIVE, _LOST = (60, 230, 90), (150, 150, 150)
#: Points that are drawn; all of them are in the arrays.
_DRAWN_POINTS = 120


@dataclass(frozen=True)
class RecordedPlan:
    """One plan of an episode.

    Attributes:
        step: Agent steps taken before it.
        frames: uint8 (T, h, w, 3) what was imagined; the first is what was seen.
        window: (left, top, width, height) of the observed image that the frames show, pixels.
        flow_px: float32 (T - 1, H, W, 2) flow on the observed image; None if the agent reads none.
        points_px: (T, N, 2) points that were followed, on the observed image; None if there are none.
        live: bool (T, N) which of them were trusted.
        title: One line about it.
    """

    step: int
    frames: np.ndarray
    window: tuple[int, int, int, int]
    flow_px: np.ndarray | None = None
    points_px: np.ndarray | None = None
    live: np.ndarray | None = None
    title: str = ""


def check_plan_recording(agent: Any, name: str) -> None:
    """Check that an agent has plans that can be recorded, and that they can be drawn; tell it to keep them.

    Raises:
        BadValue: If it has none.
        MissingExtra: With the command that installs what draws them.
    """
    if not hasattr(agent, "recorded_plans"):
        raise BadValue(f"--record plans: agent {name} does not plan. Leave it out, or record videos with --record all.")
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise missing_extra("--record plans", "data", error) from error
    agent.record_plans = True


def plan_path(folder: Path, episode_id: str, number: int) -> Path:
    """Return where the picture of an episode's plan lies in a run's folder; its arrays lie beside it, as `.npz`."""
    return folder / "plans" / (re.sub(r"[^\w.+@-]+", "_", episode_id) + f"-plan{number}.png")


def write_plans(folder: Path, episode_id: str, plans: Sequence[RecordedPlan], happened: Sequence[np.ndarray]) -> None:
    """Write every plan of an episode.

    Args:
        folder: The run's folder.
        episode_id: Id of the episode.
        plans: Its plans, in order.
        happened: uint8 (H, W, 3) what the camera saw before each step, and at the end.

    Raises:
        BadValue: If a file cannot be written.
    """
    ends = [*(plan.step for plan in plans[1:]), len(happened) - 1]
    for number, (plan, end) in enumerate(zip(plans, ends)):
        path = plan_path(folder, episode_id, number)
        moments = np.linspace(plan.step, max(plan.step, end), len(plan.frames)).round().astype(int)
        seen = [happened[min(moment, len(happened) - 1)] for moment in moments]
        write_atomically(path, lambda temporary: draw_plan(plan, seen, moments).save(temporary), "--record")  # noqa: B023
        arrays = {
            name: value
            for name in ("frames", "flow_px", "points_px", "live")
            if (value := getattr(plan, name)) is not None
        }
        facts = {"step": plan.step, "window": np.array(plan.window), "moments": moments, "happened": np.stack(seen)}
        save = lambda temporary: np.savez_compressed(temporary, **arrays, **facts)  # noqa: B023, E731
        write_atomically(path.with_suffix(".npz"), save, "--record")


def draw_plan(plan: RecordedPlan, seen: Sequence[np.ndarray], moments: np.ndarray) -> Any:
    """Return a PIL image: imagined frames with the followed points, flow, and what happened, moment by moment.

    Args:
        plan: The plan.
        seen: uint8 (H, W, 3) observed images, one per moment of the plan.
        moments: (T,) the steps at which they were seen.
    """
    from PIL import Image, ImageDraw

    left, top, width, height = plan.window
    scale = _TILE_HEIGHT / height
    size = (round(width * scale), _TILE_HEIGHT)
    rows = 3 if plan.flow_px is not None else 2
    tile_width, tile_height = size[0] + _MARGIN, size[1] + _MARGIN + _TEXT_HEIGHT
    sheet = Image.new("RGB", (len(plan.frames) * tile_width + _MARGIN, rows * tile_height + _TEXT_HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 1), plan.title, fill="black")
    window = (slice(top, top + height), slice(left, left + width))
    largest_px = 1.0
    if plan.flow_px is not None:
        largest_px = max(1.0, float(np.percentile(np.linalg.norm(plan.flow_px[(slice(None), *window)], axis=-1), 99.5)))
    for moment, frame in enumerate(plan.frames):
        tiles = [(f"imagined {moment}", frame)]
        if plan.flow_px is not None:
            is_last = moment == len(plan.flow_px)
            flow = np.full((height, width, 3), 255, np.uint8)
            if not is_last:
                flow = colour_flow(plan.flow_px[moment][window], largest_px)
            tiles.append(("" if is_last else f"flow, full at {largest_px:.0f} px", flow))
        tiles.append((f"step {moments[moment]}", seen[moment][window]))
        for row, (text, picture) in enumerate(tiles):
            corner = (_MARGIN + moment * tile_width, _TEXT_HEIGHT + row * tile_height + _TEXT_HEIGHT)
            sheet.paste(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BILINEAR), corner)
            draw.text((corner[0], corner[1] - _TEXT_HEIGHT), text, fill="black")
        if plan.points_px is not None:
            corner = (_MARGIN + moment * tile_width, 2 * _TEXT_HEIGHT)
            _draw_points(draw, (plan.points_px[moment] - [left, top] + 0.5) * scale, plan.live[moment], corner, size)
    return sheet


def _draw_points(
    draw: Any, points: np.ndarray, live: np.ndarray, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    every = max(1, len(points) // _DRAWN_POINTS)
    for (x, y), is_live in zip(points[::every], live[::every]):
        if 0 <= x < size[0] and 0 <= y < size[1]:
            centre = (corner[0] + x, corner[1] + y)
            box = [centre[0] - 1, centre[1] - 1, centre[0] + 1, centre[1] + 1]
            draw.ellipse(box, fill=_LIVE if is_live else _LOST)
