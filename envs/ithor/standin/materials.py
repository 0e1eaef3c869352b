"""What surfaces look like: a colour and a pattern each, drawn from the scene's name.

Everything is patterned, because optical flow has nothing to hold on to on a plain colour.
"""

from __future__ import annotations

import colorsys
from functools import cache
from typing import NamedTuple

import numpy as np

from flowbench.seeding import derive_rng


class Material(NamedTuple):
    """One kind of surface.

    Attributes:
        rgb: Mean colour, 0 to 255.
        pattern: A key of `_PATTERNS`.
        contrast: Standard deviation of the pattern in grey levels.
        varies: Whether its colour is another one in every room.
    """

    rgb: tuple[int, int, int]
    pattern: str = "cloud"
    contrast: float = 10.0
    varies: bool = False


MATERIALS: dict[str, Material] = {
    "wall": Material((212, 204, 190), "cloud", 12, varies=True),
    "floor": Material((150, 124, 96), "planks", 24, varies=True),
    "ceiling": Material((226, 226, 222), "cloud", 6),
    "wood": Material((156, 110, 66), "grain", 16, varies=True),
    "darkwood": Material((104, 70, 46), "grain", 12, varies=True),
    "cabinet": Material((208, 198, 178), "grain", 8, varies=True),
    "front": Material((188, 176, 154), "grain", 12),
    "stone": Material((118, 114, 110), "speckle", 22, varies=True),
    "white": Material((232, 232, 228), "cloud", 5),
    "metal": Material((166, 168, 172), "grain", 10),
    "steel": Material((188, 190, 194), "grain", 9),
    "dark": Material((46, 46, 50), "cloud", 7),
    "glass": Material((60, 70, 78), "cloud", 12),
    "mirror": Material((172, 196, 206), "patches", 18),
    "screen": Material((28, 34, 48), "patches", 14),
    "sky": Material((150, 190, 230), "cloud", 22),
    "art": Material((128, 100, 140), "patches", 60, varies=True),
    "poster": Material((204, 190, 160), "patches", 50, varies=True),
    "fabric": Material((96, 112, 146), "weave", 14, varies=True),
    "leather": Material((142, 88, 72), "cloud", 14, varies=True),
    "bedding": Material((214, 210, 200), "weave", 8),
    "blanket": Material((120, 130, 90), "checks", 24, varies=True),
    "pillow": Material((222, 206, 180), "weave", 12, varies=True),
    "towel": Material((180, 120, 110), "checks", 16, varies=True),
    "shade": Material((238, 226, 196), "weave", 7),
    "paper": Material((240, 238, 230), "cloud", 5),
    "wicker": Material((176, 142, 96), "checks", 26),
    "cardboard": Material((178, 138, 92), "grain", 10),
    "brick": Material((160, 90, 66), "cloud", 16),
    "pottery": Material((190, 160, 140), "cloud", 14, varies=True),
    "leaf": Material((66, 124, 58), "speckle", 32),
    "bread": Material((198, 150, 86), "speckle", 14),
    "red": Material((186, 48, 42), "cloud", 10),
    "orange": Material((222, 116, 40), "cloud", 10),
    "yellow": Material((226, 200, 70), "speckle", 12),
    "green": Material((64, 130, 84), "cloud", 12),
    "blue": Material((58, 92, 160), "cloud", 12),
    "pink": Material((228, 164, 188), "cloud", 10),
}

#: Side of a texture in pixels; those of large flat surfaces are larger and repeat.
SMALL_PX, LARGE_PX = 48, 192
#: Materials of floor, walls and ceiling.
LARGE = ("wall", "floor", "ceiling")


def paint(name: str, scene: str, faces: int) -> np.ndarray:
    """Return a texture of a material in a scene.

    Args:
        name: A key of `MATERIALS`.
        scene: The room; some colours depend on it.
        faces: Number of square pictures, one above the other.

    Returns:
        uint8 (faces * side, side, 3).
    """
    material, side = MATERIALS[name], LARGE_PX if name in LARGE else SMALL_PX
    rng = derive_rng(f"ithor-standin/{scene}", f"colour of {name}")
    color = np.array(_varied(material.rgb, rng) if material.varies else material.rgb, dtype=np.float64)
    # Pictures are colourful; everything else varies in brightness alone.
    tint = rng.uniform(-1.2, 1.2, (faces, 1, 1, 3)) if material.pattern == "patches" else np.ones((1, 1, 1, 3))
    pattern = _pattern(material.pattern, side)[None, :, :, None]
    if material.pattern == "patches":
        pattern = np.roll(pattern, int(rng.integers(side)), axis=1)
    picture = color + material.contrast * tint * pattern
    return np.broadcast_to(np.clip(picture, 4, 251), (faces, side, side, 3)).reshape(-1, side, 3).astype(np.uint8)


def _varied(rgb: tuple[int, int, int], rng: np.random.Generator) -> tuple[float, ...]:
    hue, lightness, saturation = colorsys.rgb_to_hls(*(value / 255 for value in rgb))
    hue += float(rng.uniform(-0.04, 0.04))
    lightness = float(np.clip(lightness + rng.uniform(-0.08, 0.08), 0.15, 0.9))
    saturation = float(np.clip(saturation * rng.uniform(0.7, 1.25), 0, 0.8))
    return tuple(255 * value for value in colorsys.hls_to_rgb(hue % 1, lightness, saturation))


@cache
def _pattern(name: str, side: int) -> np.ndarray:
    """Return a (side, side) pattern with mean 0 and standard deviation 1 that repeats seamlessly."""
    rng = derive_rng("ithor-standin", f"pattern {name} {side}")
    rows, columns = np.mgrid[:side, :side] / side
    if name == "grain":
        picture = _noise(rng, side, (3, 24)) + 0.5 * _noise(rng, side, (6, 48))
    elif name == "planks":
        board = np.floor(columns * 8).astype(int)
        picture = rng.standard_normal(8)[board] + 0.6 * _noise(rng, side, (6, 48))
        picture -= 2.5 * ((columns * 8) % 1 < 0.06)
    elif name == "speckle":
        picture = _noise(rng, side, (16, 16)) + _noise(rng, side, (side // 2, side // 2))
    elif name == "weave":
        picture = np.sin(2 * np.pi * 12 * rows) * np.sin(2 * np.pi * 12 * columns) + _noise(rng, side, (5, 5))
    elif name == "checks":
        picture = (
            np.sign(np.sin(2 * np.pi * 3 * rows))
            + np.sign(np.sin(2 * np.pi * 3 * columns))
            + 0.5 * _noise(rng, side, (8, 8))
        )
    elif name == "patches":
        picture = (
            np.sign(_noise(rng, side, (4, 4))) + np.sign(_noise(rng, side, (7, 7))) + 0.3 * _noise(rng, side, (12, 12))
        )
    else:
        picture = sum(_noise(rng, side, (count, count)) for count in (4, 8, 16, 32))
    return (picture - picture.mean()) / picture.std()


def _noise(rng: np.random.Generator, side: int, cells: tuple[int, int]) -> np.ndarray:
    """Return smooth (side, side) noise with so many cells down and across, which repeats."""
    grid = rng.standard_normal(cells)
    picture = grid
    for axis, count in enumerate(cells):
        at = np.arange(side) * count / side
        low, weight = np.floor(at).astype(int), at % 1
        weight = np.expand_dims(weight * weight * (3 - 2 * weight), 1 - axis)
        picture = np.take(picture, low, axis) * (1 - weight) + np.take(picture, (low + 1) % count, axis) * weight
    return picture
