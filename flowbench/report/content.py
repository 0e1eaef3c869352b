"""Everything that a report says, before it is drawn: one object that the page and the plots are functions of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowbench.errors import BadValue
from flowbench.report.cameras import CameraSweep, HeatMap, find_sweeps
from flowbench.report.gallery import ErrorGroup, Gallery, VideoChoice, collect_gallery, group_errors
from flowbench.report.lengths import Lengths, measure_lengths
from flowbench.report.media import Budget, Medium, check_picture, find_pictures
from flowbench.report.runs import ReportRun
from flowbench.report.scores import ScoreBoard
from flowbench.report.training_log import LearningCurves, read_training_logs
from flowbench.tables import ErrorAccounting


@dataclass(frozen=True)
class ReportOptions:
    """What goes into a report.

    Attributes:
        videos: Of which episodes.
        max_video_mb: Embed at most this many megabytes of videos, and as many of pictures.
        training_logs: CSV files.
        pictures: Folder of flow, plan or other pictures; None for none.
        errors: How error episodes count, as in tables.
        allow_mixed: Accept runs of different suites or rules.
    """

    videos: VideoChoice = "failures"
    max_video_mb: float = 20.0
    training_logs: tuple[Path, ...] = ()
    pictures: Path | None = None
    errors: ErrorAccounting = "exclude"
    allow_mixed: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture with its name below the folder that was given."""

    name: str
    medium: Medium


@dataclass(frozen=True)
class Report:
    """The content of a report.

    Attributes:
        runs: The runs.
        board: Their success rates.
        heat_maps: Task x camera pose, for runs with several poses.
        sweeps: Curves along one camera displacement.
        lengths: Episode lengths.
        gallery: Single episodes and their videos.
        errors: Reasons why episodes could not be carried out.
        curves: Learning curves.
        pictures: Flow, plan and other pictures.
    """

    runs: tuple[ReportRun, ...]
    board: ScoreBoard
    heat_maps: tuple[HeatMap, ...]
    sweeps: tuple[CameraSweep, ...]
    lengths: Lengths
    gallery: Gallery
    errors: tuple[ErrorGroup, ...]
    curves: tuple[LearningCurves, ...]
    pictures: tuple[Picture, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be shown, in sentences."""
        media = [*(clip.video for clip in self.gallery.clips), *(picture.medium for picture in self.pictures)]
        return tuple(medium.problem for medium in media if medium.problem)


def collect(folders: Sequence[Path], page_folder: Path, options: ReportOptions | None = None) -> Report:
    """Read runs and whatever else goes into their report.

    Args:
        folders: Result folders, shown side by side.
        page_folder: Where the page will lie; links are relative to it.
        options: What goes in.

    Raises:
        FlowBenchError: If a run, log or picture folder cannot be read, or runs are not comparable.
    """
    options = options or ReportOptions()
    if not folders:
        raise BadValue("A report needs at least one run. Give its folder: flowbench report results/runs/RUN")
    if options.max_video_mb < 0:
        raise BadValue(f"--max-video-mb is {options.max_video_mb:g}; give a number from 0.")
    curves = read_training_logs(options.training_logs)
    picture_paths = find_pictures(options.pictures) if options.pictures is not None else []
    runs = tuple(ReportRun.read(folder) for folder in folders)
    board = ScoreBoard.of([run.summary for run in runs], options.errors, options.allow_mixed)
    budget = Budget(options.max_video_mb)
    pictures = tuple(
        Picture(os.path.relpath(path, options.pictures), budget.embed(path, page_folder, check_picture))
        for path in picture_paths
    )
    return Report(
        runs=runs,
        board=board,
        heat_maps=board.heat_maps(),
        sweeps=find_sweeps(board.cameras, board.cameras),
        lengths=measure_lengths(_with_task_names(runs), list(board.tasks)),
        gallery=collect_gallery(runs, options.videos, options.max_video_mb, page_folder),
        errors=group_errors(runs),
        curves=curves,
        pictures=pictures,
    )


def _with_task_names(runs: Sequence[ReportRun]) -> list:
    """Return the episodes with tasks named as in the tables, which put the suite first where there are several."""
    suites = [run.summary.manifest.spec.suite for run in runs]
    if len(set(suites)) == 1:
        return [run.episodes for run in runs]
    return [run.episodes.assign(task=f"{suite}/" + run.episodes["task"]) for run, suite in zip(runs, suites)]
