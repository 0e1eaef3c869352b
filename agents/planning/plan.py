"""What a planner imagines, and the few calls it answers; learned, scripted and control planners look alike from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from flowbench.agent import Needs
from flowbench.camera import CameraParams
from flowbench.errors import ShapeError
from flowbench.flow.snapshot import Snapshot
from flowbench.observation import Observation
from flowbench.task import Task


class Window(NamedTuple):
    """The part of the observed image that a plan shows, in its pixels; a planner may imagine it at another size."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def of_camera(cls, camera: CameraParams) -> Window:
        """Return the whole image."""
        return cls(0, 0, camera.width, camera.height)

    @classmethod
    def centred(cls, camera: CameraParams, side: int) -> Window:
        """Return the square of `side` pixels in the middle (AVDC: 128 of 320x240, `T.CenterCrop`)."""
        return cls((camera.width - side) // 2, (camera.height - side) // 2, side, side)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the window in an image."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Plan:
    """What is going to happen, as a planner sees it: T moments from now on, before any action.

    One of `frames`, `flow_px` and `snapshots` is there at least.

    Attributes:
        instruction: What was asked.
        seed: The planner's randomness.
        window: The part of the observed image that the plan shows.
        frames: uint8 (T, h, w, 3); the first is what was observed. The size may differ from the window's.
        flow_px: float32 (T - 1, h, w, 2) pixels of these frames, from each moment to the next; for planners that imagine flow
            instead of pictures.
        snapshots: The T simulator states themselves, seen by the whole camera; privileged planners only.
        model_calls: Evaluations of a network.
        seconds: Wall time of making it; 0 where it came from a cache.
    """

    instruction: str
    seed: int
    window: Window
    frames: np.ndarray | None = None
    flow_px: np.ndarray | None = None
    snapshots: tuple[Snapshot, ...] | None = None
    model_calls: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        frames, flow_px = self.frames, self.flow_px
        if frames is None and flow_px is None and not self.snapshots:
            raise ShapeError("A plan holds neither frames nor flow nor snapshots; a planner must imagine one of them.")
        if frames is not None and (frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8):
            raise ShapeError(
                f"frames of a plan are {frames.dtype} {frames.shape}; expected uint8 (T, height, width, 3)."
            )
        if flow_px is not None and (flow_px.ndim != 4 or flow_px.shape[-1] != 2):
            raise ShapeError(f"flow_px of a plan has shape {flow_px.shape}; expected (T - 1, height, width, 2).")
        if self.length < 2:
            raise ShapeError(f"A plan has {self.length} moment; at least 2 are needed to move from one to the next.")

    @property
    def length(self) -> int:
        """Number of moments T, the present included."""
        if self.frames is not None:
            return len(self.frames)
        return len(self.flow_px) + 1 if self.flow_px is not None else len(self.snapshots or ())


@runtime_checkable
class Planner(Protocol):
    """Imagines what happens next.

    It is built from its registered name with the arguments of `--agent-args planner_args={...}`; a constructor that has
    parameters named `device` or `checkpoint` gets those of the command line.
    """

    #: What it wants to see; the agent that uses it asks for this besides its own needs.
    needs: Needs
    #: Everything besides image, instruction and seed that decides a plan (weights, settings), JSON values only: the key of the
    #: plan cache. Empty for planners whose plans must not be kept.
    identity: Mapping[str, str | int | float | bool | None]

    def reset(self, task: Task) -> None:
        """Prepare for one episode of a task."""
        ...

    def plan(self, observation: Observation, seed: int) -> Plan:
        """Imagine what happens from here on; the same observation and seed give the same plan."""
        ...
