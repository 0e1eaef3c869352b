"""How a recorded or rendered frame becomes what a network sees, the same in training and in an episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from flowbench.camera import CameraParams
from flowbench.errors import ShapeError


@dataclass(frozen=True)
class ImageFit:
    """A centre crop, then a resize.

    Attributes:
        size: (width, height) in pixels of the result.
        crop: (width, height) in pixels that is cut out of the middle first; None keeps the whole frame.
    """

    size: tuple[int, int]
    crop: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("size", "crop"):
            value = getattr(self, name)
            if value is not None and (len(value) != 2 or min(value) < 1):
                raise ShapeError(f"{name} of an image is {value}; expected (width, height) in pixels, e.g. (128, 128).")

    @property
    def name(self) -> str:
        """Short text for file names, e.g. `128x128-of-240x240`."""
        crop = f"-of-{self.crop[0]}x{self.crop[1]}" if self.crop else ""
        return f"{self.size[0]}x{self.size[1]}{crop}"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Return uint8 (..., h, w, 3) of uint8 frames (..., H, W, 3); bilinear with anti-aliasing.

        Raises:
            ShapeError: If a crop is larger than the frame.
        """
        left, top, width, height = self._box(frames.shape[-2], frames.shape[-3])
        frames = frames[..., top : top + height, left : left + width, :]
        if (width, height) == self.size:
            return np.ascontiguousarray(frames)
        flat = torch.from_numpy(np.ascontiguousarray(frames)).reshape(-1, height, width, 3).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(flat, self.size[::-1], mode="bilinear", antialias=True)
        return resized.permute(0, 2, 3, 1).reshape(*frames.shape[:-3], *self.size[::-1], 3).contiguous().numpy()

    def camera(self, camera: CameraParams) -> CameraParams:
        """Return the calibration of the fitted image of a camera."""
        return camera.crop(*self._box(camera.width, camera.height)).resize(*self.size)

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, width and height of what is cut out of a frame."""
        if self.crop is None:
            return 0, 0, width, height
        if self.crop[0] > width or self.crop[1] > height:
            raise ShapeError(
                f"A crop of {self.crop[0]}x{self.crop[1]} does not fit into a frame of {width}x{height}. Choose a smaller one, "
                "or none to keep the whole frame."
            )
        return (width - self.crop[0]) // 2, (height - self.crop[1]) // 2, *self.crop
