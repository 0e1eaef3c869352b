"""Follows points through dense flow, one link at a time, and says how far the way back misses the way there.

A chain of dense flow reads whatever is at a point's pixel now: once something passes in front, it follows that instead. The
forward-backward disagreement is what shows it without knowing the scene.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowbench.agents.geometry.sampling import sample_bilinear


class FlowChain(NamedTuple):
    """Dense flow along a plan of T moments, on the observed image.

    Attributes:
        forward_px: (T - 1, H, W, 2) pixels from each moment to the next; 0 outside `inside`.
        inside: bool (H, W) where flow is known; a plan of the middle of the image knows nothing about its rim.
        backward_px: (T - 1, H, W, 2) from each moment to the one before; None if it was not computed.
    """

    forward_px: np.ndarray
    inside: np.ndarray
    backward_px: np.ndarray | None = None


class Link(NamedTuple):
    """Where points go in one link of a chain.

    Attributes:
        pixels: (N, 2) where they land.
        disagreement_px: (N,) distance by which flowing back misses where they came from; 0 if the way back is not known.
        inside: bool (N,) whether flow was known where they were and where they landed.
    """

    pixels: np.ndarray
    disagreement_px: np.ndarray
    inside: np.ndarray


def follow(chain: FlowChain, link: int, pixels: np.ndarray) -> Link:
    """Carry (N, 2) points through one link, and back."""
    there = sample_bilinear(chain.forward_px[link], pixels)
    landing = pixels + there
    inside = known_at(chain.inside, pixels) & known_at(chain.inside, landing)
    if chain.backward_px is None:
        return Link(landing, np.zeros(len(pixels)), inside)
    back = sample_bilinear(chain.backward_px[link], landing)
    return Link(landing, np.linalg.norm(there + back, axis=1), inside)


def known_at(inside: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the bool (N,) of the (N, 2) positions all of whose four neighbours are inside a bool (H, W) mask."""
    height, width = inside.shape
    finite = np.all(np.isfinite(pixels), axis=1)
    corner = np.floor(np.where(finite[:, None], pixels, -1)).astype(int)
    within = finite & np.all((corner >= 0) & (corner < [width - 1, height - 1]), axis=1)
    left, top = np.where(within[:, None], corner, 0).T
    return within & inside[top, left] & inside[top, left + 1] & inside[top + 1, left] & inside[top + 1, left + 1]
