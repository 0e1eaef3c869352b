"""Optical flow between two frames by DIS, for looking at demonstrations without a network or a GPU.

Dense Inverse Search (Kroeger et al., ECCV 2016) in OpenCV's implementation. It estimates: what it says about a picture is
not ground truth, so pictures call it "DIS flow".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowbench.errors import missing_extra

#: OpenCV's DIS matches 8 x 8 patches over a pyramid; smaller images are enlarged for it.
_SMALLEST_SIDE_PX = 64


class DisFlow:
    """An estimator, built once and used for many pairs of frames."""

    def __init__(self) -> None:
        """Build it.

        Raises:
            MissingExtra: If OpenCV is not installed.
        """
        try:
            import cv2
        except ImportError as error:  # Also raised when a system library that OpenCV needs is missing.
            raise missing_extra("DIS flow (--kinds flow)", "data", error) from error
        self._cv2: Any = cv2
        self._estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the float32 (H, W, 2) flow in pixels, right and down, that takes the first frame to the second.

        Args:
            first: uint8 (H, W, 3).
            second: uint8 (H, W, 3).
        """
        height, width = first.shape[:2]
        scale = max(1.0, _SMALLEST_SIDE_PX / min(height, width))
        size = (round(width * scale), round(height * scale))
        frames = [
            self._cv2.resize(self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY), size) for image in (first, second)
        ]
        flow_px = self._estimator.calc(*frames, None)
        if scale > 1:
            flow_px = self._cv2.resize(flow_px, (width, height), interpolation=self._cv2.INTER_AREA) / scale
        return flow_px.astype(np.float32)
