"""Whether this machine draws what the reference machine drew, before hours are spent on other pixels.

Renderers and simulator versions change images without a word (MuJoCo 3.3.3 darkens LIBERO's floors). A suite ships the
coarse colours of one known frame, its first task's first scenario from the default camera; drivers differ from them by
a fraction of a grey level, a changed material or light by several.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np

from flowbench.suite import Suite
from flowbench.task import Scenario

#: Columns and rows of the coarse image; they divide the usual image sizes evenly.
GRID = (8, 8)
#: Mean absolute difference, in grey levels of 255, from which on the pixels count as different.
TOLERANCE = 2.0


def coarse_colours(rgb: np.ndarray) -> np.ndarray:
    """Average a uint8 (H, W, 3) image over a grid of `GRID` cells; return float64 (rows, columns, 3)."""
    columns, rows = GRID
    bands = np.array_split(rgb.astype(np.float64), rows, axis=0)
    return np.array([[cell.mean(axis=(0, 1)) for cell in np.array_split(band, columns, axis=1)] for band in bands])


def first_scenario(suite: Suite) -> Scenario:
    """Return the scenario whose first frame is compared."""
    return Scenario(0, 0 if suite.init_states else None)


@cache
def _references(location: str) -> dict[str, list]:
    package, _, name = location.partition(":")
    return json.loads((resources.files(package) / name).read_text())


def deviation(suite: Suite, rgb: np.ndarray) -> float | None:
    """Return how far the known frame is from its reference.

    Args:
        suite: The suite.
        rgb: uint8 (H, W, 3) first frame of `first_scenario` of the first task, from the default camera, geometric, in the
            full render profile; its size may be any with the suite's aspect ratio.

    Returns:
        Mean absolute difference in grey levels; None if the suite ships no reference.
    """
    reference = _references(suite.fingerprints).get(suite.name) if suite.fingerprints else None
    if reference is None:
        return None
    return float(np.abs(coarse_colours(rgb) - np.array(reference)).mean())


def describe_deviation(suite: Suite, grey_levels: float) -> str:
    """Return one sentence about a deviation, with the next step if it is too large."""
    if grey_levels <= TOLERANCE:
        return f"pixels as expected ({grey_levels:.2f} grey levels from the reference)"
    return (
        f"the pixels of {suite.name} differ from the reference by {grey_levels:.1f} grey levels on average (up to {TOLERANCE} "
        "is normal); the simulator's or the renderer's version draws other images. Compare versions with flowbench doctor"
    )
