"""The nearest demonstration as a plan: no model, no training, and the number that a video model has to beat.

The demonstration of the same instruction whose first picture is nearest to what is seen now is shown from its start, as if
it went on from here. At a replan the nearest picture of its middle would be another question; the first one is asked again.

Where actions are choices, plans are a few steps of a longer way, so the nearest picture of all is looked for and shown with what
follows it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.agent import Needs
from flowbench.agents.planning.oracle import moments_of
from flowbench.agents.planning.plan import Plan, Window
from flowbench.data.demonstration import DemoReader
from flowbench.data.readers import open_demos
from flowbench.errors import DataError, ShapeError
from flowbench.observation import Observation
from flowbench.task import Task

#: First pictures are compared at this height, so that a pixel's shift of an edge does not decide.
COMPARED_HEIGHT = 48


class RetrievalPlanner:
    """Shows the nearest demonstration of the instruction, seen by the episode's camera if it is recorded by that one."""

    needs = Needs(modalities=("rgb", "calibration"))

    def __init__(self, checkpoint: str, frames: int = 8) -> None:
        """Open the demonstrations.

        Args:
            checkpoint: File or folder of demonstrations (`flowbench collect`), in any format that `flowbench data` reads.
            frames: Number of moments T.

        Raises:
            DataError: If it holds none.
        """
        self._reader: DemoReader = open_demos(checkpoint)
        self._frames = frames
        self._reduced: dict[tuple[int, str], np.ndarray] = {}
        self.identity: Mapping[str, str | int] = {
            "planner": "retrieval",
            "frames": frames,
            "demonstrations": _fingerprint(Path(checkpoint)),
        }

    def reset(self, task: Task) -> None:
        """Find the demonstrations of the task, by instruction or by name.

        Raises:
            DataError: If there are none.
        """
        self._task = task
        self._found = [
            index
            for index, demo in enumerate(self._reader.demos)
            if demo.success is not False and (demo.instruction == task.instruction or demo.task == task.name)
        ]
        if not self._found:
            known = sorted({demo.instruction or demo.task or "?" for demo in self._reader.demos})
            raise DataError(
                f"{self._reader.path} holds no demonstration of {task.instruction!r}; it has {', '.join(known[:8])}. Collect "
                f"some: flowbench collect --suite {task.suite} --tasks {task.name} --out FILE"
            )

    def plan(self, observation: Observation, seed: int) -> Plan:
        """Show the nearest demonstration."""
        started = time.perf_counter()
        camera, image = observation.camera_params(), observation.rgb()
        candidates = [
            (index, name)
            for index in self._found
            for name in self._reader.demos[index].cameras
            if f"{name}/rgb" in self._reader.demos[index].arrays and name == observation.camera
        ]
        if not candidates:
            raise DataError(
                f"{self._reader.path} holds no demonstration of {observation.instruction!r} seen by camera "
                f"{observation.camera}. Collect with --cameras {observation.camera}, or evaluate another camera."
            )
        # Both pictures as the camera gives them: a mirrored recording is turned for an upright camera, and the reverse.
        self._flip = camera.mirrored != (self._reader.image_view == "policy")
        seen = _reduced(image[:, ::-1] if self._flip else image)
        index, name, start = self._nearest(candidates, seen)
        frames = self._read(index, name, start)
        if frames.shape[1:] != image.shape:
            raise ShapeError(
                f"Demonstrations of {self._reader.path} are {frames.shape[2]}x{frames.shape[1]}; the camera gives "
                f"{camera.width}x{camera.height}. Evaluate with --image-size {frames.shape[2]}x{frames.shape[1]}."
            )
        if self._flip:
            frames = np.ascontiguousarray(frames[:, :, ::-1])
        if not self._task.action_spec.choices:
            # What is seen now is the present, not the demonstration's first picture. Who walks is somewhere else than the
            # demonstration was, and from here to there nobody took a step.
            frames = np.concatenate([image[None], frames[1:]])
        return Plan(
            observation.instruction,
            seed,
            Window.of_camera(camera),
            frames=frames,
            seconds=time.perf_counter() - started,
        )

    def _nearest(self, candidates: list[tuple[int, str]], seen: np.ndarray) -> tuple[int, str, int]:
        """Return demonstration, camera and step of the picture nearest to a reduced one."""
        distances = [np.abs(self._pictures(key) - seen).mean(axis=(1, 2, 3)) for key in candidates]
        best = int(np.argmin([near.min() for near in distances]))
        return (*candidates[best], int(np.argmin(distances[best])))

    def _pictures(self, key: tuple[int, str]) -> np.ndarray:
        """Return the reduced pictures that a plan may begin with."""
        if key not in self._reduced:
            index, name = key
            count = self._reader.demos[index].steps if self._task.action_spec.choices else 1
            self._reduced[key] = np.stack(
                [_reduced(picture) for picture in self._reader.read(index, f"{name}/rgb", slice(0, count))]
            )
        return self._reduced[key]

    def _read(self, index: int, name: str, start: int) -> np.ndarray:
        chosen = moments_of(self._task, self._reader.demos[index].steps, self._frames, start)
        return np.concatenate([self._reader.read(index, f"{name}/rgb", slice(step, step + 1)) for step in chosen])


def _fingerprint(path: Path) -> str:
    """Return what changes when demonstrations do: names, sizes and times, because reading gigabytes takes minutes."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _reduced(image: np.ndarray) -> np.ndarray:
    """Return a small float32 copy of an image."""
    import cv2

    height, width = image.shape[:2]
    size = (max(1, round(width * COMPARED_HEIGHT / height)), COMPARED_HEIGHT)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
