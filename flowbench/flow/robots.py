"""Which segmentation names are the robot: in a picture of manipulation it is nearly all that moves, and never the point."""

from __future__ import annotations

import re

import numpy as np

from flowbench.flow.snapshot import Snapshot

#: By simulator family: names of `segmentation_names` that belong to the robot. In Meta-World these are the parts that all
#: fifty models share, without the table.
_ROBOT_NAMES = {
    "metaworld": r"right_\w+(/.*)?|hand|head|leftpad|rightpad|torso|pedestal(_feet)?|controller_box"
    r"|site/(armsite|basesite|headsite|leftEndEffector|rightEndEffector)",
    "libero": r"robot|gripper",
    "calvin": r"robot|gripper",
    "toy": r"gripper",
}


def is_robot(name: str, family: str) -> bool:
    """Return whether a segmentation name is the robot's; never in a family whose robot is not known by name."""
    return re.fullmatch(_ROBOT_NAMES.get(family, r"(?!)"), name) is not None


def robot_mask(snapshot: Snapshot, family: str) -> np.ndarray:
    """Return the bool (H, W) mask of the robot; empty in a family whose robot is not known by name."""
    ids = [index for index, name in snapshot.segmentation_names.items() if is_robot(name, family)]
    return np.isin(snapshot.segmentation, ids)
