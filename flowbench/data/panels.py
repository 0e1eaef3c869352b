"""One episode as panels: what a camera saw at a step as RGB, depth, object ids or flow, coloured alike in all of them."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from flowbench.data.colours import colour_depth, colour_flow, colour_segmentation, depth_range_m
from flowbench.data.demonstration import DemoReader
from flowbench.errors import BadValue, DataError, unknown_name
from flowbench.flow.estimators import make_estimator

KINDS = ("rgb", "depth", "segmentation", "flow")
#: The array that each kind is made from.
_SOURCES = {"rgb": "rgb", "depth": "depth", "segmentation": "segmentation", "flow": "rgb"}
#: Ranges of colours are taken from this many frames, evenly spaced.
_SAMPLE = 12
#: This share of the flow of a moving episode is drawn in less than the full colour.
_FLOW_PERCENTILE = 99.5
_SHORTEST_FULL_FLOW_PX = 1.0


class Look(NamedTuple):
    """What of an episode is shown.

    Attributes:
        cameras: Names of its cameras.
        kinds: Subset of `KINDS`, in order.
        steps: Steps, ascending.
        flow_gap: Flow leads from a step to this many steps later.
    """

    cameras: tuple[str, ...]
    kinds: tuple[str, ...]
    steps: tuple[int, ...]
    flow_gap: int = 4


class Panels:
    """The panels of one episode."""

    def __init__(self, reader: DemoReader, demo: int, look: Look) -> None:
        """Check that everything is there; nothing is decoded yet.

        Raises:
            UnknownName: If the episode has no such camera.
            DataError: If a camera has none of the kinds asked for.
            MissingExtra: If flow is asked for and OpenCV is not installed.
        """
        self.reader, self.demo, self.look = reader, demo, look
        self.info = reader.demos[demo]
        for camera in look.cameras:
            if camera not in self.info.cameras:
                raise unknown_name("camera", camera, self.info.cameras, f"{reader.path}, {self.info.name}")
            if not self.kinds(camera):
                stored = ", ".join(key for key in self.info.arrays if key.startswith(f"{camera}/"))
                raise DataError(
                    f"{reader.path}, {self.info.name}: camera {camera} has nothing to show as {', '.join(look.kinds)}; it has "
                    f"{stored}."
                )
        wants_flow = any("flow" in self.kinds(camera) for camera in look.cameras)
        # What it says about a picture is an estimate, so pictures call it "DIS flow".
        self._flow = make_estimator("dis", upsample=1) if wants_flow else None
        # One frame is shown, and is the end of one flow and the start of another.
        self._frame = lru_cache(maxsize=4 * max(1, len(look.cameras)) * (look.flow_gap + 1))(self._read_frame)
        self._ranges = lru_cache(maxsize=None)(self._measure)

    def kinds(self, camera: str) -> tuple[str, ...]:
        """Return the kinds that can be shown of a camera."""
        return tuple(kind for kind in self.look.kinds if f"{camera}/{_SOURCES[kind]}" in self.info.arrays)

    def size(self, camera: str) -> tuple[int, int]:
        """Return (width, height) of a camera's images in pixels."""
        height, width = self.info.arrays[f"{camera}/{_SOURCES[self.kinds(camera)[0]]}"].shape[:2]
        return width, height

    def image(self, camera: str, kind: str, step: int) -> np.ndarray | None:
        """Return a uint8 (H, W, 3) picture; None for the flow of the last step, which leads nowhere."""
        if kind == "rgb":
            return self._frame(camera, "rgb", step)
        if kind == "segmentation":
            return colour_segmentation(self._frame(camera, kind, step))
        if kind == "depth":
            return colour_depth(self._frame(camera, kind, step), *self.depth_range_m(camera))
        flow_px = self._flow_from(camera, step)
        return None if flow_px is None else colour_flow(flow_px, self.full_flow_px(camera))

    def depth_range_m(self, camera: str) -> tuple[float, float]:
        """Return the metres of the brightest and the darkest colour of a camera's depth."""
        return self._ranges(camera, "depth")

    def full_flow_px(self, camera: str) -> float:
        """Return the length of flow that is drawn in full colour."""
        return self._ranges(camera, "flow")

    def objects(self, camera: str) -> dict[int, str]:
        """Return the names of the objects that a camera saw in the sampled frames, by id, the largest first."""
        return self._ranges(camera, "segmentation")

    @cached_property
    def _sample(self) -> tuple[int, ...]:
        steps = self.look.steps
        places = np.unique(np.linspace(0, len(steps) - 1, min(_SAMPLE, len(steps))).round().astype(int))
        return tuple(steps[place] for place in places)

    def _measure(self, camera: str, kind: str) -> object:
        if kind == "flow":
            flows = [self._flow_from(camera, step) for step in self._sample]
            lengths = [np.hypot(*np.moveaxis(flow_px, -1, 0)) for flow_px in flows if flow_px is not None]
            longest = max((float(np.percentile(length, _FLOW_PERCENTILE)) for length in lengths), default=0.0)
            return max(_SHORTEST_FULL_FLOW_PX, longest)
        frames = np.stack([self._frame(camera, kind, step) for step in self._sample])
        if kind == "depth":
            return depth_range_m(frames)
        names = self.info.segmentation_names
        numbers, areas = np.unique(frames, return_counts=True)
        largest_first = numbers[np.argsort(-areas, kind="stable")].tolist()
        return {number: names.get(number, f"object {number}") for number in largest_first if number}

    def _flow_from(self, camera: str, step: int) -> np.ndarray | None:
        later = min(step + self.look.flow_gap, self.info.steps - 1)
        if later == step:
            return None
        return self._flow(self._frame(camera, "rgb", step)[None], self._frame(camera, "rgb", later)[None])[0]

    def _read_frame(self, camera: str, modality: str, step: int) -> np.ndarray:
        return self.reader.read(self.demo, f"{camera}/{modality}", slice(step, step + 1))[0]


def choose_look(
    reader: DemoReader,
    demo: int,
    *,
    cameras: tuple[str, ...] | None = None,
    kinds: tuple[str, ...] | None = None,
    steps: tuple[int, ...] | None = None,
    moments: int | None = None,
    flow_gap: int = 4,
) -> Look:
    """Fill in what a user left open, and check the rest.

    Args:
        reader: The recording.
        demo: Index of the demonstration.
        cameras: Names; None for all that have images.
        kinds: Subset of `KINDS`; None for all.
        steps: Steps; None for `moments` evenly spaced ones.
        moments: How many; None for every step.
        flow_gap: Flow leads from a step to this many steps later.

    Raises:
        UnknownName: If there is no such kind.
        BadValue: If a step lies beyond the end.
        DataError: If the demonstration has no images.
    """
    info = reader.demos[demo]
    for kind in kinds or ():
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS)
    seen = tuple(
        camera for camera in info.cameras if any(f"{camera}/{source}" in info.arrays for source in _SOURCES.values())
    )
    if not seen:
        step = " Render them from its states: flowbench data render." if "states" in info.arrays else ""
        raise DataError(f"{reader.path}, {info.name} has no images.{step}")
    if steps is None:
        count = info.steps if moments is None else min(moments, info.steps)
        steps = tuple(np.unique(np.linspace(0, info.steps - 1, count).round().astype(int)).tolist())
    steps = tuple(sorted(set(steps)))
    if not steps or steps[-1] >= info.steps:
        raise BadValue(f"--steps names step {max(steps, default=0)}; {info.name} has steps 0 to {info.steps - 1}.")
    return Look(cameras or seen, kinds or KINDS, steps, flow_gap)
