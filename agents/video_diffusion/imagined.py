"""How good imagined clips are: beside the true future of held-out videos, and against imagining that nothing happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowbench.agents.training.checkpoint import Checkpoint
from flowbench.agents.training.recipe import Split
from flowbench.agents.training.sources import Sources
from flowbench.agents.video_diffusion.clips import VIDEO, spacing_of
from flowbench.agents.video_diffusion.planner import VideoDiffusionPlanner, to_uint8
from flowbench.agents.video_diffusion.recipe import open_videos
from flowbench.data.colours import colour_flow
from flowbench.data.dataset import DemoDataset
from flowbench.data.picture_rows import PictureRow
from flowbench.errors import BadValue
from flowbench.flow.estimators import make_estimator
from flowbench.registry import get_suite
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell, Span

#: A pixel moves where one of its channels leaves the first frame by more than this, of 255; imagined flow, by this in pixels.
MOVED, MOVED_PX = 25, 0.5


@dataclass(frozen=True)
class ImaginedClip:
    """One imagined clip and what really happened.

    Attributes:
        task: Of the video.
        camera: Of the video.
        start: Step of the first frame.
        frames: uint8 (T + 1, h, w, 3) what happened, the first frame included.
        imagined: uint8 (T, h, w, 3) frames after the first, or float32 (T, h, w, 2) flow in pixels.
        flow_px: float32 (T, h, w, 2) estimated flow of what happened; None where frames are imagined.
    """

    task: str
    camera: str
    start: int
    frames: np.ndarray
    imagined: np.ndarray
    flow_px: np.ndarray | None = None

    def numbers(self) -> dict[str, float]:
        """Return sums over pixels that pool over clips: squared errors, and absolute ones where something moves.

        Of frames in units of 255; of flow the end-point error in pixels. `still` is for imagining that nothing happens.
        """
        if self.flow_px is None:
            truth = self.frames[1:].astype(np.float32)
            first = self.frames[:1].astype(np.float32)
            told, still = np.abs(self.imagined - truth), np.abs(first - truth)
            moving = still.max(axis=-1) > MOVED
            told, still = told.mean(axis=-1), still.mean(axis=-1)
            squares = [float(((part - truth) ** 2).mean(axis=-1).sum()) for part in (self.imagined, first)]
        else:
            told = np.linalg.norm(self.imagined - self.flow_px, axis=-1)
            still = np.linalg.norm(self.flow_px, axis=-1)
            moving = still > MOVED_PX
            squares = [float((part**2).sum()) for part in (told, still)]
        return {
            "pixels": float(told.size),
            "moving": float(moving.sum()),
            "squares": squares[0],
            "squares_still": squares[1],
            "moving_error": float(told[moving].sum()),
            "moving_error_still": float(still[moving].sum()),
        }


def imagine_clips(
    planner: VideoDiffusionPlanner,
    paths: Sequence[Path],
    *,
    split: Split = "validation",
    tasks: Sequence[str] = (),
    per_task: int = 1,
    start: float = 0.0,
    seed: int = 0,
) -> Iterator[ImaginedClip]:
    """Imagine clips of videos that the network has not seen.

    Args:
        planner: What imagines.
        paths: Demonstrations; with those of the training, `split` means what it meant there.
        split: Which of them.
        tasks: Names; empty for all.
        per_task: Videos of each task, of every camera in turn.
        start: Where in a video clips begin, as a share of its length.
        seed: The planner's.

    Raises:
        FlowBenchError: If the data does not fit the checkpoint.
    """
    if not 0 <= start < 1:
        raise BadValue(f"start is {start}; it is a share of a video's length, at least 0 and below 1.")
    config = planner.config
    dataset = open_videos(_sources(planner.checkpoint, paths), split)
    flow = make_estimator(config.flow) if config.content == "flow" else None
    spacing = spacing_of(planner.checkpoint.facts)
    for number in _chosen(dataset, tasks, per_task):
        info, origin = dataset.infos[number], dataset.origins[number]
        first = np.array([int(start * info.steps)])
        steps = spacing(first, np.array([info.steps - 1]), config.frames)[0]
        recorded = [
            origin.reader.read(origin.demo, origin.keys[VIDEO], slice(step, step + 1)) for step in steps.tolist()
        ]
        frames = config.fit(np.concatenate(recorded))
        imagined = planner.imagine(frames[0], info.instruction or "", seed)
        yield ImaginedClip(
            info.task or info.instruction or "",
            origin.camera,
            int(first[0]),
            frames,
            imagined if flow else to_uint8(imagined),
            flow(frames[:-1], frames[1:]) if flow else None,
        )


def picture_rows(clip: ImaginedClip) -> list[PictureRow]:
    """Return two rows: the first frame and what was imagined, above what happened."""
    title = f"{clip.task}, {clip.camera}, from step {clip.start}"
    if clip.flow_px is None:
        return [(f"{title}: imagined", [clip.frames[0], *clip.imagined]), ("what happened", list(clip.frames))]
    full_px = max(1.0, float(np.percentile(np.linalg.norm(clip.flow_px, axis=-1), 99.5)))
    told, true = ([colour_flow(flow, full_px) for flow in flows] for flows in (clip.imagined, clip.flow_px))
    first = clip.frames[0]
    return [
        (f"{title}: imagined flow, full colour at {full_px:.1f} px", [first, *told]),
        ("flow of what happened", [first, *true]),
    ]


def imagined_sheet(clips: Sequence[ImaginedClip], title: str) -> Sheet:
    """Return a table of the errors by task and over all."""
    of_flow = bool(clips) and clips[0].flow_px is not None
    names = list(dict.fromkeys(clip.task for clip in clips))
    rows = [(name, [clip for clip in clips if clip.task == name]) for name in names] + [("overall", list(clips))]
    lines, records = [], []
    for name, own in rows:
        parts = [clip.numbers() for clip in own]
        total = {key: sum(part[key] for part in parts) for key in parts[0]}
        errors = [_ratio(total[key], total["moving"]) for key in ("moving_error", "moving_error_still")]
        squares = [_ratio(total[key], total["pixels"]) for key in ("squares", "squares_still")]
        overall = [_rms(value) if of_flow else _psnr(value) for value in squares]
        cells = [NOTHING if value is None else f"{value:.2f}" for value in (*overall, *errors)]
        lines.append(Line((name,), (SheetCell((str(len(own)),)), *(SheetCell((cell,)) for cell in cells))))
        keys = ("overall", "overall_still", "moving", "moving_still")
        records.append({"task": name, "clips": len(own), **dict(zip(keys, (*overall, *errors), strict=True))})
    measure = "RMS end-point error, px" if of_flow else "PSNR, dB"
    error = "end-point error where something moves, px" if of_flow else "error where something moves, of 255"
    return Sheet(
        caption=title,
        labels=("task",),
        spans=(Span("", 1), Span(measure, 2), Span(error, 2)),
        headings=("clips", "imagined", "nothing moves", "imagined", "nothing moves"),
        groups=(Group("", tuple(lines)),),
        notes=(
            "The truth is the flow that the estimator of the training finds."
            if of_flow
            else f"Something moves where a channel differs from the first frame by more than {MOVED} of 255.",
            "A stochastic model imagines one of many futures; another speed than the video's counts as an error.",
        ),
        records=tuple(records),
    )


def _sources(checkpoint: Checkpoint, paths: Sequence[Path]) -> Sources:
    """Return the sources of the training, so that what was held out is held out."""
    training = checkpoint.training
    return Sources(
        tuple(paths),
        get_suite(checkpoint.facts["suite"]),
        tasks=tuple(training.get("tasks", ())),
        limit_per_task=training.get("limit_per_task"),
        validation_fraction=training.get("validation_fraction", 0.1),
        seed=training.get("seed", 0),
    )


def _chosen(dataset: DemoDataset, tasks: Sequence[str], per_task: int) -> list[int]:
    """Return videos of each task, those of successive tasks beginning with successive cameras."""
    by_task: dict[str, list[int]] = {}
    for number, info in enumerate(dataset.infos):
        name = info.task or info.instruction or ""
        if not tasks or name in tasks:
            by_task.setdefault(name, []).append(number)
    chosen = []
    for turn, numbers in enumerate(by_task.values()):
        chosen += [numbers[(turn + index) % len(numbers)] for index in range(min(per_task, len(numbers)))]
    return chosen


def _ratio(total: float, count: float) -> float | None:
    return total / count if count else None


def _psnr(square: float | None) -> float | None:
    return None if not square else float(10 * np.log10(255**2 / square))


def _rms(square: float | None) -> float | None:
    return None if square is None else float(np.sqrt(square))
