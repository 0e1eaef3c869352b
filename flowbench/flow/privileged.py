"""Exact flow under the name of an estimator, so that it can stand in the same list as the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowbench.errors import BadValue
from flowbench.flow.exact import exact_flow
from flowbench.flow.snapshot import Snapshot


class ExactFlow:
    """The flow itself. It is privileged: it takes snapshots of simulator states instead of images."""

    name = "exact"
    privileged = True

    def __call__(self, first: Sequence[Snapshot], second: Sequence[Snapshot]) -> np.ndarray:
        """Return the float32 (B, H, W, 2) flow in pixels; NaN where a point ends up behind the second camera.

        Raises:
            BadValue: If it is given images, from which no flow can be read exactly.
        """
        if not all(isinstance(item, Snapshot) for item in (*first, *second)):
            raise BadValue(
                "Flow exact is read off simulator states: give it snapshots (flowbench.flow.snapshot.take_snapshot). For images, "
                "choose an estimator such as dis or raft-small."
            )
        return np.stack([exact_flow(*pair).flow_px for pair in zip(first, second, strict=True)])
