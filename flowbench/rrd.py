"""Recordings for the Rerun viewer: image, depth, calibrated camera, actions, reward and success of an episode, step by step.

A video shows what happened; this shows where. Entities: `world/camera` (its pose and pinhole, at each step), below it `rgb`
and `depth`; `action/0` and so on; `reward`, `success`; `instruction`. The timeline is `step`. Open one with
`rerun FILE.rrd`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowbench.camera import CameraParams
from flowbench.errors import StoreError, missing_extra
from flowbench.recording import file_stem

if TYPE_CHECKING:
    from flowbench.recording import Recorder

PARTIAL_SUFFIX = ".partial.rrd"
JPEG_QUALITY = 90
#: Depth is kept in whole millimetres, in which 16 bits reach as far as any scene here.
MILLIMETRES = 1000.0


def check_rerun() -> None:
    """Check that recordings can be written.

    Raises:
        MissingExtra: With the command that installs the Rerun SDK.
    """
    try:
        import rerun  # noqa: F401
    except ImportError as error:
        raise missing_extra("--record-format rrd", "rerun", error) from error


def rrd_path(folder: Path, episode_id: str) -> Path:
    """Return where the recording of an episode lies in a run's folder."""
    return folder / "recordings" / f"{file_stem(episode_id)}.rrd"


def write_rrd(path: Path, recorder: Recorder, episode_id: str) -> None:
    """Write what a recorder collected.

    Args:
        path: Target; it appears only when complete.
        recorder: Has at least one frame, with depth and cameras.
        episode_id: Becomes the name of the recording.

    Raises:
        StoreError: If the file cannot be written; no part of it is left.
    """
    import rerun as rr

    temporary = path.with_suffix(PARTIAL_SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = rr.RecordingStream("flowbench", recording_id=episode_id)
        stream.save(temporary)
        _log(stream, recorder)
        stream.flush()
        # Only this writes the end of the file.
        stream.disconnect()
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"Recording {path} could not be written: {getattr(error, 'strerror', None) or error}. Stored episodes are kept; "
            "make room, or leave out --record-format rrd, and run the same command again."
        ) from error


def _log(stream, recorder: Recorder) -> None:
    import rerun as rr

    instruction = None
    for step, (image, seen) in enumerate(zip(recorder.frames, recorder.views)):
        stream.set_time("step", sequence=step)
        if seen.instruction != instruction:
            instruction = seen.instruction
            stream.log("instruction", rr.TextDocument(instruction))
        rgb, depth_mm, camera = unmirrored(image, seen.depth_mm, seen.camera)
        pose = camera.camera_to_world
        stream.log("world/camera", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        stream.log("world/camera", pinhole(camera))
        stream.log("world/camera/rgb", rr.Image(rgb).compress(jpeg_quality=JPEG_QUALITY))
        stream.log("world/camera/depth", rr.DepthImage(depth_mm, meter=MILLIMETRES))
        if step < len(recorder.steps):
            taken = recorder.steps[step]
            for index, value in enumerate(taken.action):
                stream.log(f"action/{index}", rr.Scalars(float(value)))
            stream.log("reward", rr.Scalars(taken.reward))
            stream.log("success", rr.Scalars(float(taken.success)))


def pinhole(camera: CameraParams):
    """Return Rerun's pinhole of a camera; there a pixel's centre lies at half, here at a whole number."""
    import rerun as rr

    k = camera.intrinsics
    return rr.Pinhole(
        focal_length=(k[0, 0], k[1, 1]),
        principal_point=(k[0, 2] + 0.5, k[1, 2] + 0.5),
        resolution=(camera.width, camera.height),
        camera_xyz=rr.ViewCoordinates.RDF,
    )


def unmirrored(rgb: np.ndarray, depth: np.ndarray, camera: CameraParams) -> tuple[np.ndarray, np.ndarray, CameraParams]:
    """Turn a mirrored image (a negative focal length) round with its camera: the viewer knows no such pinhole.

    Args:
        rgb: (H, W, 3) image.
        depth: (H, W) depth.
        camera: Their calibration.

    Returns:
        The same, with positive focal lengths.
    """
    k = camera.intrinsics.copy()
    for axis, size in ((0, camera.width), (1, camera.height)):
        if k[axis, axis] < 0:
            rgb, depth = np.flip(rgb, 1 - axis), np.flip(depth, 1 - axis)
            k[axis, axis], k[axis, 2] = -k[axis, axis], size - 1 - k[axis, 2]
    return rgb, depth, CameraParams(k, camera.camera_to_world, camera.width, camera.height)
