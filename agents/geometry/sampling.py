"""Reads images between pixels; pixel centres are at integers."""

from __future__ import annotations

import numpy as np


def sample_bilinear(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Read an image at fractional positions; positions outside it are moved to its border.

    Args:
        image: (H, W) or (H, W, C).
        pixels: (N, 2) column and row.

    Returns:
        float64 (N,) or (N, C).
    """
    height, width = image.shape[:2]
    columns = np.clip(np.nan_to_num(pixels[:, 0]), 0, width - 1)
    rows = np.clip(np.nan_to_num(pixels[:, 1]), 0, height - 1)
    left, top = (
        np.minimum(np.floor(value).astype(int), size - 2) for value, size in ((columns, width), (rows, height))
    )
    x, y = columns - left, rows - top
    if image.ndim == 3:
        x, y = x[:, None], y[:, None]
    upper = image[top, left] * (1 - x) + image[top, left + 1] * x
    lower = image[top + 1, left] * (1 - x) + image[top + 1, left + 1] * x
    return upper * (1 - y) + lower * y


def sample_nearest(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Read an image at the pixels nearest to (N, 2) positions; those outside it are moved to its border."""
    height, width = image.shape[:2]
    columns, rows = np.rint(np.nan_to_num(pixels)).astype(int).T
    return image[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
