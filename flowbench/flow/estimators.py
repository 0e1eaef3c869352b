"""Optical flow from images, by name: classical, learned, from other packages, or exact for comparison.

An estimator is anything that takes two batches of images to the flow between them; a new one is a class registered under
the entry-point group `flowbench.flow`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from flowbench.errors import BadValue, MissingExtra, ShapeError, missing_extra, unknown_name

FLOW_GROUP = "flowbench.flow"


@runtime_checkable
class FlowEstimator(Protocol):
    """Estimates the flow between images.

    Attributes:
        name: What tables call it; differs between settings that give different flow.

    An estimator that has weights also has their hash, `weights_sha256`: they may change under a name.
    """

    name: str

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the float32 (B, H, W, 2) flow in pixels, right and down, that takes each first image to its second.

        Args:
            first: uint8 (B, H, W, 3).
            second: uint8 (B, H, W, 3).
        """
        ...


class FramesFlow(Protocol):
    """The flow between some frames, as far as it is asked for."""

    def __call__(self, first: Sequence[int], second: Sequence[int], box: tuple[int, int, int, int]) -> np.ndarray:
        """Return the float32 (B, H, W, 2) flow in pixels; it is right inside the box only.

        Args:
            first: Indices of the frames that flow starts in.
            second: Indices of those it leads to, as many.
            box: Left, top, width and height in pixels.
        """
        ...


@runtime_checkable
class LocalFlowEstimator(FlowEstimator, Protocol):
    """An estimator for which flow of a part of an image costs less than flow of all of it."""

    def open(self, frames: np.ndarray) -> FramesFlow:
        """Return the flow between any of some uint8 (N, H, W, 3) frames."""
        ...


def estimator_names() -> list[str]:
    """Return the names of every installed estimator, without importing one."""
    from flowbench.registry import entries_of

    return list(entries_of(FLOW_GROUP))


def estimator_summaries() -> dict[str, str]:
    """Return what each estimator is, in a sentence, or what it still needs; by name."""
    summaries = {}
    for name in estimator_names():
        try:
            summaries[name] = (inspect.getdoc(_factory(name)) or "").split("\n")[0]
        except MissingExtra as error:
            summaries[name] = str(error)
    return summaries


def make_estimator(name: str, *, device: str = "cpu", checkpoint: str | None = None, **options: Any) -> FlowEstimator:
    """Build an estimator.

    Args:
        name: A registered name, e.g. `"dis"` or `"raft-small"`; see `estimator_names`.
        device: Where a network runs: `"cpu"`, `"cuda"`, `"cuda:1"`.
        checkpoint: Weights of a network: a local path, or a name that the estimator knows; None takes its default.
        **options: The estimator's own, e.g. `upsample=4`.

    Raises:
        UnknownName: With the nearest name of an estimator or option.
        BadValue: If a checkpoint is given to an estimator that has no weights.
        MissingExtra: If what the estimator needs is not installed.

    Example:
        >>> import numpy as np
        >>> from flowbench.flow.estimators import make_estimator
        >>> frames = np.zeros((1, 64, 64, 3), np.uint8)
        >>> make_estimator("dis")(frames, frames).shape
        (1, 64, 64, 2)
    """
    factory = _factory(name)
    parameters = inspect.signature(factory).parameters
    for option in options:
        if option not in parameters:
            raise unknown_name("option", option, set(parameters) - {"device", "checkpoint"}, f"Flow estimator {name}")
    if checkpoint is not None:
        if "checkpoint" not in parameters:
            raise BadValue(f"Flow estimator {name} has no weights, but checkpoint {checkpoint} was given.")
        options["checkpoint"] = checkpoint
    if "device" in parameters:
        options["device"] = device
    return factory(**options)


def _factory(name: str) -> Callable[..., FlowEstimator]:
    from flowbench.registry import entries_of

    entries = entries_of(FLOW_GROUP)
    if name not in entries:
        raise unknown_name("flow estimator", name, entries, next_step="List them: flowbench list flow")
    try:
        return entries[name].load()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flowbench"):
            raise
        raise missing_extra(f"Flow estimator {name}", "agents", error) from error


def check_frames(first: np.ndarray, second: np.ndarray) -> None:
    """Check what an estimator was given.

    Raises:
        ShapeError: If the images are not two uint8 (B, H, W, 3) of one shape.
    """
    for which, frames in (("first", first), ("second", second)):
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ShapeError(f"{which} is {frames.dtype} {frames.shape}; expected uint8 (B, H, W, 3).")
    if first.shape != second.shape:
        raise ShapeError(f"first has shape {first.shape} and second {second.shape}; they must be the same.")
