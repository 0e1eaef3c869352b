"""Dense flow along a plan, on the observed image: exact, estimated from its frames, or as the planner imagined it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from flowbench.agents.geometry.sampling import sample_bilinear
from flowbench.agents.geometry.tracking import FlowChain
from flowbench.agents.planning import Plan, Window
from flowbench.camera import CameraParams
from flowbench.errors import BadValue
from flowbench.flow.estimators import FramesFlow, LocalFlowEstimator, make_estimator
from flowbench.flow.exact import exact_flow

#: Read the states of a privileged plan instead of pictures.
EXACT = "exact"
#: Needs no flow at all: the pose of the object's body in those states.
EXACT_MOTION = "exact-motion"
#: About how wrong flow is in pixels of the frames, by estimator; of exact flow, what interpolating between pixels adds.
NOISE_PX = {EXACT: 0.05}
DEFAULT_NOISE_PX = 1.0
#: Points are moved by up to half a pixel, and read between pixels, possibly of frames that are smaller than the image.
NEAR_PX = 2
#: What AVDC's videos show of an image of (width, height): `T.CenterCrop((128, 128))` in Meta-World (`mypolicy.py`).
PUBLISHED_CROPS = {(320, 240): 128}


@dataclass(frozen=True)
class PlanFlow:
    """Where the flow of plans comes from.

    Attributes:
        name: `exact`, `exact-motion`, or the name of an estimator.
        crop_px: Side of the square in the middle of the image that plans are reduced to; None keeps what they show, and
            `published` looks the image's size up in `PUBLISHED_CROPS`.
        device: Where an estimator runs.
        checkpoint: Weights of an estimator; None takes its default.
        both_ways: Whether the way back is computed.
    """

    name: str
    crop_px: int | Literal["published"] | None = None
    device: str = "cpu"
    checkpoint: str | None = None
    both_ways: bool = True

    @property
    def privileged(self) -> bool:
        """Whether it reads simulator states."""
        return self.name in (EXACT, EXACT_MOTION)

    def load(self) -> FlowReader:
        """Build the estimator, if one is needed.

        Raises:
            FlowBenchError: As `make_estimator` does.
        """
        estimator = None
        if not self.privileged:
            estimator = make_estimator(self.name, device=self.device, checkpoint=self.checkpoint)
        return FlowReader(self, estimator)


class FlowReader:
    """Reads the flow of plans, as a `PlanFlow` says."""

    def __init__(self, settings: PlanFlow, estimator: Any) -> None:
        self.settings = settings
        self._estimator = estimator

    def window(self, plan: Plan, camera: CameraParams) -> Window:
        """Return the part of the image in which the flow of a plan is known."""
        side, shown = self.settings.crop_px, plan.window
        if side == "published":
            side = PUBLISHED_CROPS.get((camera.width, camera.height))
        if side is None or (shown.width <= side and shown.height <= side):
            return shown
        width, height = min(side, shown.width), min(side, shown.height)
        left, top = (camera.width - width) // 2, (camera.height - height) // 2
        return Window(left, top, width, height)

    def read(self, plan: Plan, camera: CameraParams, around: np.ndarray | None = None) -> FlowChain:
        """Return the flow of a plan on the image of `camera`.

        Args:
            plan: The plan.
            camera: That sees its first moment.
            around: bool (H, W), what is going to be followed. Where that saves time, flow is known only where it
                passes; None wants it everywhere.

        Raises:
            BadValue: If the plan does not hold what this flow is read from.
        """
        window = self.window(plan, camera)
        inside = np.zeros((camera.height, camera.width), bool)
        inside[window.slices] = True
        if plan.flow_px is not None:
            # The planner imagined flow; there is nothing to estimate, and no way back.
            return FlowChain(_paste(plan.flow_px, plan.window, camera) * inside[None, :, :, None], inside)
        if self.settings.name == EXACT:
            forward, backward = self._exact(plan, window)
        else:
            forward, backward = self._estimated(plan, window, around)
        pasted = [None if flow is None else _paste(flow, window, camera) for flow in (forward, backward)]
        return FlowChain(pasted[0], inside, pasted[1])

    def _exact(self, plan: Plan, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        if plan.snapshots is None:
            raise BadValue(
                "Exact flow is read from the states of a plan, and this planner imagines none. Use planner=oracle, or an "
                "estimator: flow=dis."
            )
        snapshots = [snapshot.crop(*window) for snapshot in plan.snapshots]
        links = list(zip(snapshots, snapshots[1:]))
        forward = np.stack([exact_flow(before, after).flow_px for before, after in links])
        if not self.settings.both_ways:
            return forward, None
        return forward, np.stack([exact_flow(after, before).flow_px for before, after in links])

    def _estimated(self, plan: Plan, window: Window, around: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        if plan.frames is None:
            raise BadValue(f"Flow {self.settings.name} is estimated from frames, and this planner imagines none.")
        frames = _frames_in(plan, window)
        if around is not None and isinstance(self._estimator, LocalFlowEstimator):
            height, width = frames.shape[1:3]
            rows, columns = np.nonzero(around[window.slices])
            scale = np.array([width / window.width, height / window.height])
            pixels = (np.stack([columns, rows], axis=1) + 0.5) * scale - 0.5
            return _followed(self._estimator.open(frames), frames.shape[:3], pixels, self.settings.both_ways)
        first, second = frames[:-1], frames[1:]
        if not self.settings.both_ways:
            return self._estimator(first, second), None
        # One batch: a network is asked once per plan.
        both = self._estimator(np.concatenate([first, second]), np.concatenate([second, first]))
        return both[: len(first)], both[len(first) :]


def _followed(
    flow_of: FramesFlow, shape: tuple[int, int, int], pixels: np.ndarray, both_ways: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the flow of (T, H, W) frames from each to the next, and back, where the (N, 2) pixels of the first pass.

    Args:
        flow_of: The flow between the frames.
        shape: (T, H, W) of the frames.
        pixels: (N, 2) columns and rows.
        both_ways: Whether the way back is wanted.
    """
    count, height, width = shape
    forward = np.zeros((count - 1, height, width, 2), np.float32)
    backward = np.zeros_like(forward) if both_ways else None
    if not len(pixels):
        return forward, backward
    for moment in range(count):
        # What starts in one frame starts in the same part of it, wherever it leads to.
        ends = [end for end in (moment + 1, moment - 1) if end < count and (end > moment or (both_ways and end >= 0))]
        if not ends:
            continue
        for end, flow_px in zip(ends, flow_of([moment] * len(ends), ends, _box_around(pixels, width, height))):
            if end > moment:
                forward[moment] = flow_px
            else:
                backward[end] = flow_px
        if moment + 1 < count:
            pixels = pixels + sample_bilinear(forward[moment], pixels)
    return forward, backward


def _box_around(pixels: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, width and height of what (N, 2) pixels and their neighbours cover of an image."""
    left, top = np.clip(np.floor(pixels.min(axis=0)).astype(int) - NEAR_PX, 0, [width - 1, height - 1])
    right, bottom = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + NEAR_PX + 1, [left + 1, top + 1], [width, height])
    return int(left), int(top), int(right - left), int(bottom - top)


def _frames_in(plan: Plan, window: Window) -> np.ndarray:
    """Return the part of a plan's frames that shows a window, in the frames' own resolution."""
    height, width = plan.frames.shape[1:3]
    scale_x, scale_y = width / plan.window.width, height / plan.window.height
    left, right = (
        (window.left - plan.window.left) * scale_x,
        (window.left + window.width - plan.window.left) * scale_x,
    )
    top, bottom = ((window.top - plan.window.top) * scale_y, (window.top + window.height - plan.window.top) * scale_y)
    return np.ascontiguousarray(plan.frames[:, round(top) : round(bottom), round(left) : round(right)])


def _paste(flow_px: np.ndarray, window: Window, camera: CameraParams) -> np.ndarray:
    """Return float32 (T - 1, H, W, 2) flow of the whole image from flow of a window at any resolution; 0 outside."""
    import cv2

    full = np.zeros((len(flow_px), camera.height, camera.width, 2), np.float32)
    rows, columns = window.slices
    height, width = flow_px.shape[1:3]
    scale = np.array([window.width / width, window.height / height], np.float32)
    for link, flow in enumerate(flow_px):
        if (height, width) != (window.height, window.width):
            flow = cv2.resize(flow.astype(np.float32), (window.width, window.height), interpolation=cv2.INTER_LINEAR)
        full[link, rows, columns] = flow * scale
    return full
