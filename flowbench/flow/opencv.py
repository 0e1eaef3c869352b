"""Classical optical flow from OpenCV: no weights, no GPU; the baseline that a network has to beat.

Both methods match patches of several pixels, and the objects of a robot scene are a few pixels wide, so small images are
enlarged first; that is the `upsample` of each estimator, and part of its name in tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowbench.errors import BadValue, missing_extra
from flowbench.flow.estimators import check_frames

#: DIS matches patches of 8 x 8 pixels over a pyramid; smaller images than this are enlarged in any case.
_SMALLEST_SIDE_PX = 64
#: Enlarging by 4 halves DIS's error on 128 x 128 pictures of Meta-World against 1 (and costs 16 times as much).
DEFAULT_UPSAMPLE = 4.0


class _OpenCvFlow:
    """Enlarge both grey images, estimate, shrink the flow."""

    def __init__(self, name: str, upsample: float) -> None:
        if not 1 <= upsample <= 16:
            raise BadValue(f"upsample is {upsample}; expected 1 (the image as it is) to 16.")
        self.name = name if upsample == DEFAULT_UPSAMPLE else f"{name}-{upsample:g}x"
        self._upsample = upsample
        self._cv2 = _opencv(name)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """See `FlowEstimator`."""
        check_frames(first, second)
        flow_px = np.empty((*first.shape[:3], 2), np.float32)
        for index, pair in enumerate(zip(first, second, strict=True)):
            flow_px[index] = self._estimate_pair(*pair)
        return flow_px

    def _estimate_pair(self, first: np.ndarray, second: np.ndarray, start_px: np.ndarray | None = None) -> np.ndarray:
        """Return the (H, W, 2) flow of a pair; DIS can start from another's."""
        height, width = first.shape[:2]
        scale = max(self._upsample, _SMALLEST_SIDE_PX / min(height, width))
        size = (round(width * scale), round(height * scale))
        stretch = np.array(size, np.float32) / (width, height)
        grey = []
        for image in (first, second):
            image = self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY)
            grey.append(image if scale == 1 else self._cv2.resize(image, size, interpolation=self._cv2.INTER_CUBIC))
        if start_px is not None:
            start_px = self._cv2.resize(start_px.astype(np.float32), size) * stretch
        flow_px = self._calculate(*grey, start_px)
        if size == (width, height):
            return flow_px
        return self._cv2.resize(flow_px, (width, height), interpolation=self._cv2.INTER_AREA) / stretch

    def _calculate(self, first: np.ndarray, second: np.ndarray, start_px: np.ndarray | None) -> np.ndarray:
        raise NotImplementedError


class Dis(_OpenCvFlow):
    """Dense Inverse Search (Kroeger et al., ECCV 2016), preset `medium`."""

    def __init__(self, upsample: float = DEFAULT_UPSAMPLE) -> None:
        """Build it.

        Args:
            upsample: How much the images are enlarged first; 1 leaves them as they are.

        Raises:
            MissingExtra: If OpenCV is not installed.
        """
        super().__init__("dis", upsample)
        self._method: Any = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def _calculate(self, first: np.ndarray, second: np.ndarray, start_px: np.ndarray | None) -> np.ndarray:
        return self._method.calc(first, second, start_px)


class DisRefinement(Dis):
    """Moves another estimator's flow to where patches agree best, by a few pixels and only where something moves.

    A network knows what moves and roughly where to, and its flow ends at the edges of things; patches with some texture say
    where exactly.
    """

    #: What the network says moves less stands still, and stays so: patches at its edges move with what passes by.
    _STILL_PX = 0.3

    def __init__(self, within_px: float) -> None:
        """Build it.

        Args:
            within_px: Farther from where it started a patch has found something else, and the network's flow stays.

        Raises:
            MissingExtra: If OpenCV is not installed.
        """
        super().__init__(upsample=2.0)
        self._within_px = within_px
        # Up to the finest scale: the preset leaves it out, for speed.
        self._method.setFinestScale(0)

    def refine(self, first: np.ndarray, second: np.ndarray, flow_px: np.ndarray) -> np.ndarray:
        """Return the float32 (B, H, W, 2) flow, refined.

        Args:
            first: uint8 (B, H, W, 3).
            second: uint8 (B, H, W, 3).
            flow_px: (B, H, W, 2), the network's.
        """
        moves = np.linalg.norm(flow_px, axis=-1) > self._STILL_PX
        found = flow_px.copy()
        for index in np.flatnonzero(moves.any(axis=(1, 2))):
            found[index] = self._estimate_pair(first[index], second[index], flow_px[index])
        near = np.linalg.norm(found - flow_px, axis=-1) < self._within_px
        return np.where((moves & near)[..., None], found, flow_px).astype(np.float32)


class Farneback(_OpenCvFlow):
    """Polynomial expansion (Farneback, SCIA 2003)."""

    #: pyramid scale, levels, window, iterations, neighbourhood, its standard deviation, flags; OpenCV's tutorial values
    #: with a window of 21 pixels, which bridges the plain surfaces of robot scenes better than 15.
    _PARAMETERS = (0.5, 5, 21, 5, 7, 1.5, 0)

    def __init__(self, upsample: float = DEFAULT_UPSAMPLE) -> None:
        """Build it.

        Args:
            upsample: How much the images are enlarged first; 1 leaves them as they are.

        Raises:
            MissingExtra: If OpenCV is not installed.
        """
        super().__init__("farneback", upsample)

    def _calculate(self, first: np.ndarray, second: np.ndarray, start_px: np.ndarray | None) -> np.ndarray:
        return self._cv2.calcOpticalFlowFarneback(first, second, None, *self._PARAMETERS)


def _opencv(name: str) -> Any:
    try:
        import cv2
    except ImportError as error:  # Also raised when a system library that OpenCV needs is missing.
        raise missing_extra(f"Flow estimator {name}", "data", error) from error
    return cv2
