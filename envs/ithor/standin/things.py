"""What rooms are made of: blocks, and the things that they form.

A thing is what AI2-THOR calls a sim object; its blocks give it a shape to draw, to bump into and to look at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

Shape = Literal["box", "cylinder", "sphere"]


class Block(NamedTuple):
    """One primitive, in the axes of its thing: x right, y up, z out of its front.

    Attributes:
        shape: A cylinder stands upright; its size is (diameter, height, diameter).
        center: (3,) metres from the thing's position.
        size: (3,) full extents in metres.
        material: A key of `flowbench.envs.ithor.standin.materials.MATERIALS`.
    """

    shape: Shape
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    material: str


class Bounds(NamedTuple):
    """An axis-aligned box: (3,) lowest and highest corner in metres."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Thing:
    """A sim object where it stands.

    Attributes:
        type: AI2-THOR's object type, e.g. `"Toaster"`.
        position: (3,) metres.
        yaw_deg: Clockwise seen from above; 0 faces +z.
        blocks: Its shape; at least one block.
        object_id: `Type|+xx.xx|+yy.yy|+zz.zz`.
        name: `Type_` and eight hexadecimal digits.
        receptacle: Whether other things can stand on or in it.
        pickupable: Whether an agent could carry it.
        parents: Ids of the receptacles that hold it.
        solid: Whether an agent bumps into it.
        structure: Whether it belongs to the building: drawn and named in segmentation, but no sim object.
    """

    type: str
    position: tuple[float, float, float]
    yaw_deg: float
    blocks: tuple[Block, ...]
    object_id: str
    name: str
    receptacle: bool = False
    pickupable: bool = False
    parents: tuple[str, ...] = ()
    solid: bool = True
    structure: bool = False

    @cached_property
    def centers(self) -> np.ndarray:
        """(B, 3) centres of the blocks in the room."""
        local = np.array([block.center for block in self.blocks])
        right, forward = directions(self.yaw_deg)
        return np.array(self.position) + local[:, :1] * right + local[:, 1:2] * [0, 1, 0] + local[:, 2:] * forward

    @cached_property
    def halves(self) -> np.ndarray:
        """(B, 3) half extents of the blocks, in the thing's own axes."""
        return np.array([block.size for block in self.blocks]) / 2

    @cached_property
    def bounds(self) -> Bounds:
        """The smallest axis-aligned box around it."""
        cosine, sine = abs(math.cos(math.radians(self.yaw_deg))), abs(math.sin(math.radians(self.yaw_deg)))
        turned = np.array([[cosine, 0, sine], [0, 1, 0], [sine, 0, cosine]])
        reach = self.halves @ turned.T
        return Bounds((self.centers - reach).min(axis=0), (self.centers + reach).max(axis=0))


def directions(yaw_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the (3,) right and forward directions of something that faces `yaw_deg`."""
    cosine, sine = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    if yaw_deg % 90 == 0:
        cosine, sine = round(cosine), round(sine)
    return np.array([cosine, 0.0, -sine]), np.array([sine, 0.0, cosine])


def object_id(type_: str, position: tuple[float, float, float]) -> str:
    """Return the id that AI2-THOR gives to an object of this type at this place."""
    return "|".join([type_, *(f"{value:+06.2f}" for value in position)])
