"""Recordings of episodes, for people who would rather look than read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from flowbench.errors import BadValue, StoreError, missing_extra, unknown_name
from flowbench.observation import Observation

if TYPE_CHECKING:
    from flowbench.camera import CameraParams

RecordMode = Literal["none", "failures", "all", "plans"]
RecordFormat = Literal["mp4", "rrd"]
#: Of a video that is being written.
PARTIAL_SUFFIX = ".partial.mp4"
RECORD_MODES: tuple[RecordMode, ...] = ("none", "failures", "all", "plans")
RECORD_FORMATS: tuple[RecordFormat, ...] = ("mp4", "rrd")
#: What recording makes the episode's camera render, whatever the agent looks at.
RECORDED_MODALITIES: dict[RecordFormat, tuple[str, ...]] = {"mp4": ("rgb",), "rrd": ("rgb", "depth")}


class View(NamedTuple):
    """What a frame of a video does not hold.

    Attributes:
        depth_mm: uint16 (H, W) depth in millimetres; 0 where nothing was hit.
        camera: Calibration of the frame.
        instruction: What the agent was asked for.
    """

    depth_mm: np.ndarray
    camera: CameraParams
    instruction: str


class Step(NamedTuple):
    """What followed a frame.

    Attributes:
        action: (A,) the action.
        reward: The simulator's reward.
        success: Whether the task counted as solved after it.
    """

    action: np.ndarray
    reward: float
    success: bool


class Recorder:
    """Collects what the episode's camera shows, and, if `views` are wanted, what Rerun's viewer shows besides.

    Recording reads every observation, so every step is rendered: expect an evaluation to take as long as rendering does.
    """

    def __init__(self, *, views: bool = False) -> None:
        self.wants_views = views
        self.frames: list[np.ndarray] = []
        self.views: list[View] = []
        self.steps: list[Step] = []

    def add(self, observation: Observation) -> None:
        """Keep the RGB image of the episode's camera."""
        if self.wants_views:
            depth_mm = np.clip(np.rint(1000 * observation.depth_m()), 0, np.iinfo(np.uint16).max).astype(np.uint16)
            self.views.append(View(depth_mm, observation.camera_params(), observation.instruction))
        self.frames.append(observation.rgb())

    def add_step(self, action: np.ndarray, reward: float, success: bool) -> None:
        """Keep what followed the last frame."""
        if self.wants_views:
            self.steps.append(Step(np.array(action, dtype=np.float64), float(reward), bool(success)))

    def write(self, folder: Path, episode_id: str, formats: Sequence[RecordFormat]) -> None:
        """Write the episode into a run's folder; nothing if not even the first frame was there.

        Raises:
            StoreError: If a file cannot be written.
        """
        if not self.frames:
            return
        if "mp4" in formats:
            write_video(video_path(folder, episode_id), self.frames)
        if "rrd" in formats:
            from flowbench.rrd import rrd_path, write_rrd

            write_rrd(rrd_path(folder, episode_id), self, episode_id)


def check_formats(formats: Sequence[str]) -> None:
    """Check that recordings of these formats can be written.

    Raises:
        UnknownName: With the nearest format.
        BadValue: If there is none.
        MissingExtra: With the command that installs what writes one.
    """
    from flowbench.rrd import check_rerun

    if not formats:
        raise BadValue(f"--record-format is empty; give one or more of {', '.join(RECORD_FORMATS)}.")
    for name in formats:
        if name not in RECORD_FORMATS:
            raise unknown_name("record format", name, RECORD_FORMATS)
        {"mp4": check_encoder, "rrd": check_rerun}[name]()


def check_encoder() -> None:
    """Check that videos can be written.

    Raises:
        MissingExtra: With the command that installs the encoder.
    """
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise missing_extra("--record", "video", error) from error


def video_path(folder: Path, episode_id: str) -> Path:
    """Return where the video of an episode lies in a run's folder."""
    return folder / "videos" / f"{file_stem(episode_id)}.mp4"


def file_stem(episode_id: str) -> str:
    """Return an episode's id as the name of a file, without an ending."""
    return re.sub(r"[^\w.+@-]+", "_", episode_id)


def write_video(path: Path, frames: list[np.ndarray], fps: int = 20) -> None:
    """Write RGB frames as H.264 that browsers play.

    Args:
        path: Target; it appears only when complete.
        frames: uint8 (H, W, 3) images of one size.
        fps: Frames per second.

    Raises:
        StoreError: If the video cannot be written; no part of it is left.
    """
    try:
        encode_video(path, frames, fps)
    except OSError as error:
        with suppress(OSError):
            path.with_suffix(PARTIAL_SUFFIX).unlink(missing_ok=True)
        raise StoreError(
            f"Video {path} could not be written: {error.strerror or error}. Stored episodes are kept; make room, or leave out "
            "--record, and run the same command again."
        ) from error


def encode_video(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    """Write RGB frames as H.264; see `write_video`.

    Raises:
        OSError: If the video cannot be written; `path` with `PARTIAL_SUFFIX` may be left.
    """
    import imageio_ffmpeg

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    temporary = path.with_suffix(PARTIAL_SUFFIX)
    # yuv420p needs even sides; the encoder pads odd ones by one pixel.
    writer = imageio_ffmpeg.write_frames(
        str(temporary),
        (width, height),
        fps=fps,
        codec="libx264",
        quality=7,
        macro_block_size=2,
        ffmpeg_log_level="error",
    )
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
    temporary.replace(path)
