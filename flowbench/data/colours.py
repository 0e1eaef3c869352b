"""Depth, object ids and optical flow as colours that a person can read, with NumPy alone.

Ranges are arguments: frames of one sheet or video must share them, or the same colour means two things.
"""

from __future__ import annotations

import colorsys

import numpy as np

#: Viridis (matplotlib, CC0) at ten places, dark to bright: it stays ordered in grey and for colour-blind readers.
VIRIDIS = np.array(
    [
        [68, 1, 84],
        [72, 40, 120],
        [62, 74, 137],
        [49, 104, 142],
        [38, 130, 142],
        [31, 158, 137],
        [53, 183, 121],
        [109, 205, 89],
        [180, 222, 44],
        [253, 231, 37],
    ]
)
#: The colour wheel of the Middlebury flow benchmark (Baker et al., ICCV 2007): red, yellow, green, cyan, blue and magenta
#: at these fractions of 55, unevenly because the eye tells hues apart unevenly.
_WHEEL_PLACES = np.array([0, 15, 21, 25, 36, 49, 55]) / 55
_WHEEL_COLOURS = 255 * np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]])
#: Of background.
_DARK_GREY = 40


def depth_range_m(depths_m: np.ndarray) -> tuple[float, float]:
    """Return the nearest and farthest metres worth a colour of their own, over any number of images.

    The room behind a table would take all the colours, so the farthest tenth is left out.
    """
    hit = depths_m[depths_m > 0]
    if not hit.size:
        return 0.0, 1.0
    near_m, far_m = (float(value) for value in np.percentile(hit, [0.5, 90]))
    return near_m, max(far_m, near_m + 1e-3)


def colour_depth(depth_m: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Colour (H, W) metres from near (bright) to far (dark) as uint8 (H, W, 3); what hit nothing is black."""
    place = np.clip((far_m - depth_m) / (far_m - near_m), 0, 1) * (len(VIRIDIS) - 1)
    channels = [np.interp(place, np.arange(len(VIRIDIS)), VIRIDIS[:, channel]) for channel in range(3)]
    return (np.stack(channels, axis=-1) * (depth_m > 0)[..., None]).astype(np.uint8)


def object_colour(number: int) -> tuple[int, int, int]:
    """Return the colour of an object id, the same in every image; 0 is background."""
    if number == 0:
        return (_DARK_GREY,) * 3
    # Steps of the golden ratio keep neighbouring ids apart on the colour circle.
    hue, value = number * 0.618034 % 1, (0.98, 0.72)[number % 2]
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.62, value))


def colour_segmentation(segmentation: np.ndarray) -> np.ndarray:
    """Colour (H, W) object ids as uint8 (H, W, 3)."""
    numbers, places = np.unique(segmentation, return_inverse=True)
    colours = np.array([object_colour(int(number)) for number in numbers], dtype=np.uint8)
    return colours[places.reshape(segmentation.shape)]


def colour_flow(flow_px: np.ndarray, full_px: float) -> np.ndarray:
    """Colour (H, W, 2) flow as uint8 (H, W, 3): hue is direction, and white is standing still.

    Args:
        flow_px: Pixels to the right and down. NaN is black.
        full_px: Length in pixels that is drawn in the full colour; longer flow is, too.
    """
    known = np.isfinite(flow_px).all(axis=-1)
    right, down = np.moveaxis(np.where(known[..., None], flow_px, 0), -1, 0)
    # Red is right, and hues go on through yellow (down), cyan (left) and blue (up).
    place = np.arctan2(down, right) / (2 * np.pi) % 1
    hues = np.stack([np.interp(place, _WHEEL_PLACES, _WHEEL_COLOURS[:, channel]) for channel in range(3)], axis=-1)
    strength = np.clip(np.hypot(right, down) / full_px, 0, 1)[..., None]
    return ((255 - strength * (255 - hues)) * known[..., None]).astype(np.uint8)


def flow_wheel(size_px: int) -> np.ndarray:
    """Return the legend of `colour_flow`: uint8 (size, size, 3), every direction from the middle outwards, on white."""
    centred = (np.arange(size_px) - (size_px - 1) / 2) / (size_px / 2)
    right, down = np.meshgrid(centred, centred)
    wheel = colour_flow(np.stack([right, down], axis=-1), 1.0)
    wheel[np.hypot(right, down) > 1] = 255
    return wheel
