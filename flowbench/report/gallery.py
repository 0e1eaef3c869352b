"""Which episodes are worth looking at: failures with their videos, chosen so that every task has its share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal

import pandas as pd

from flowbench.recording import video_path
from flowbench.report.media import Budget, Medium, check_mp4
from flowbench.report.runs import ReportRun

VideoChoice = Literal["failures", "all", "none"]
VIDEO_CHOICES: tuple[VideoChoice, ...] = ("failures", "all", "none")
#: More than anyone looks at; a page with thousands of players is slow.
_MOST_CLIPS = 200
#: Lines in the list of failed episodes.
_MOST_LISTED = 200
#: Ids shown for each error.
_MOST_EXAMPLES = 5


@dataclass(frozen=True)
class Episode:
    """An episode as the page names it.

    Attributes:
        run: Index of the run in the report.
        id: Its id.
        task: Its task.
        camera: Its camera pose.
        status: How it ended.
        steps: How many steps it took.
        error: What went wrong; None unless it is an error.
        folder: Folder of the run.
    """

    run: int
    id: str
    task: str
    camera: str
    status: str
    steps: int
    error: str | None
    folder: Path


@dataclass(frozen=True)
class Clip:
    """An episode with its video."""

    episode: Episode
    video: Medium


@dataclass(frozen=True)
class Gallery:
    """What the page shows of single episodes.

    Attributes:
        clips: With video; one of each run, task and camera pose, then a second of each, and so on.
        left_out: Number of videos beyond the most that are shown.
        failed: Failures and errors without a shown video, up to the most that are listed.
        not_shown: Number of all failures and errors without a shown video.
        failed_total: Number of all failures and errors.
        without_video: How many of those were not recorded.
    """

    clips: tuple[Clip, ...]
    left_out: int
    failed: tuple[Episode, ...]
    not_shown: int
    failed_total: int
    without_video: int

    @property
    def linked(self) -> int:
        """Number of sound videos that did not fit into the page."""
        return sum(clip.video.base64 is None and clip.video.problem is None for clip in self.clips)


@dataclass(frozen=True)
class ErrorGroup:
    """Episodes of one run that could not be carried out for the same reason.

    Attributes:
        run: Index of the run in the report.
        text: The first one's error.
        count: How many episodes.
        ids: The first few of them.
    """

    run: int
    text: str
    count: int
    ids: tuple[str, ...]


def collect_gallery(runs: Sequence[ReportRun], choice: VideoChoice, max_megabytes: float, page_folder: Path) -> Gallery:
    """Choose episodes and embed their videos until the budget is used up, in turn over runs, tasks and cameras."""
    candidates: list[Episode] = []
    failed: list[Episode] = []
    failed_total = without_video = 0
    for index, run in enumerate(runs):
        is_failed, has_video = run.episodes["status"] != "success", _has_video(run)
        failed_total += int(is_failed.sum())
        without_video += int((is_failed & ~has_video).sum())
        # A run may have a million failures; those that can get into the list are among the first.
        failed += _episodes(index, run, run.episodes[is_failed].head(_MOST_LISTED + _MOST_CLIPS))
        if choice != "none":
            candidates += _episodes(
                index, run, run.episodes[has_video & is_failed if choice == "failures" else has_video]
            )
    chosen = _in_turn(candidates)[:_MOST_CLIPS]
    budget = Budget(max_megabytes)
    clips = tuple(Clip(episode, budget.embed(_video(episode), page_folder, check_mp4)) for episode in chosen)
    shown = set(chosen)
    return Gallery(
        clips=clips,
        left_out=len(candidates) - len(chosen),
        failed=tuple(episode for episode in failed if episode not in shown)[:_MOST_LISTED],
        not_shown=failed_total - sum(episode.status != "success" for episode in chosen),
        failed_total=failed_total,
        without_video=without_video,
    )


def group_errors(runs: Sequence[ReportRun]) -> tuple[ErrorGroup, ...]:
    """Group errors whose texts agree but for their numbers (steps, addresses, process ids); the most frequent first."""
    groups: dict[tuple[int, str], list[Episode]] = {}
    for index, run in enumerate(runs):
        for episode in _episodes(index, run, run.episodes[run.episodes["status"] == "error"]):
            groups.setdefault((index, re.sub(r"\d+", "#", episode.error or "")), []).append(episode)
    found = [
        ErrorGroup(run, episodes[0].error or "", len(episodes), tuple(one.id for one in episodes[:_MOST_EXAMPLES]))
        for (run, _), episodes in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: (group.run, -group.count)))


def _episodes(index: int, run: ReportRun, rows: pd.DataFrame) -> list[Episode]:
    """Return the episodes of some rows of a run's frame."""
    return [
        Episode(
            run=index,
            id=row.id,
            task=row.task,
            camera=row.camera,
            status=row.status,
            steps=int(row.steps),
            error=row.error if isinstance(row.error, str) else None,
            folder=run.folder,
        )
        for row in rows.itertuples(index=False)
    ]


def _has_video(run: ReportRun) -> pd.Series:
    """Return for each episode of a run whether its video was recorded."""
    recorded = {path.name for path in (run.folder / "videos").glob("*.mp4")}
    if not recorded:
        return pd.Series(False, index=run.episodes.index)
    return run.episodes["id"].map(lambda identifier: video_path(run.folder, identifier).name in recorded).astype(bool)


def _video(episode: Episode) -> Path:
    return video_path(episode.folder, episode.id)


def _in_turn(episodes: Iterable[Episode]) -> list[Episode]:
    """Deal episodes from each (run, task, camera) in turn."""
    groups: dict[tuple[int, str, str], list[Episode]] = {}
    for episode in episodes:
        groups.setdefault((episode.run, episode.task, episode.camera), []).append(episode)
    return [episode for episode in chain.from_iterable(zip_longest(*groups.values())) if episode is not None]
