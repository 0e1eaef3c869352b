"""Videos of episodes, for people who would rather look than read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np

from flowbench.errors import StoreError, missing_extra
from flowbench.observation import Observation

RecordMode = Literal["none", "failures", "all"]
#: Of a video that is being written.
PARTIAL_SUFFIX = ".partial.mp4"
RECORD_MODES: tuple[RecordMode, ...] = ("none", "failures", "all")


class Recorder:
    """Collects the episode camera's RGB frames of one episode.

    Recording reads every observation, so every step is rendered: expect an evaluation to take as long as rendering does.
    """

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []

    def add(self, observation: Observation) -> None:
        """Keep the RGB image of the episode's camera."""
        self.frames.append(observation.rgb())


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
    return folder / "videos" / (re.sub(r"[^\w.+@-]+", "_", episode_id) + ".mp4")


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
