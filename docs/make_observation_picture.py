"""Draw docs/images/observations.png: RGB, depth and segmentation of one Meta-World and one LIBERO scene.

Run as `python docs/make_observation_picture.py [OUT.png]` with the extras metaworld and libero installed. Each simulator
gets a process of its own, and everything shown is an array that `flowbench.make` returned.
"""

from __future__ import annotations

import colorsys
import multiprocessing
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = (320, 240)
GAP_PX, LABEL_PX = 6, 22
FONT = ImageFont.load_default(size=13)
#: Near is bright and far is dark: viridis (matplotlib, CC0) at ten places, dark to bright.
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


class Scene(NamedTuple):
    """What to show, and the seed of its initial state."""

    suite: str
    task: str
    camera: str
    seed: int


SCENES = (
    Scene("metaworld11", "door-open", "corner", 0),
    Scene("libero10", "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it", "agentview", 0),
)


class Views(NamedTuple):
    """The arrays of one observation, and the names of its objects."""

    rgb: np.ndarray
    depth_m: np.ndarray
    segmentation: np.ndarray
    names: dict[int, str]


def observe(scene: Scene) -> Views:
    """Make the first observation of a scene."""
    import flowbench

    env = flowbench.make(
        scene.suite, scene.task, cameras=scene.camera, modalities=("rgb", "depth", "segmentation"), image_size=SIZE
    )
    observation, info = env.reset(seed=scene.seed)
    arrays = (observation[f"{scene.camera}/{name}"] for name in ("rgb", "depth", "segmentation"))
    views = Views(*arrays, info["segmentation_names"])
    env.close()
    return views


def colour_depth(depth_m: np.ndarray) -> tuple[np.ndarray, str]:
    """Colour metres from near (bright) to far (dark), and say which; nothing hit is black."""
    hit = depth_m > 0
    # The room behind the table would take all the colours.
    near_m, far_m = np.percentile(depth_m[hit], [1, 90])
    place = np.clip((far_m - depth_m) / (far_m - near_m), 0, 1) * (len(VIRIDIS) - 1)
    channels = [np.interp(place, np.arange(len(VIRIDIS)), VIRIDIS[:, channel]) for channel in range(3)]
    image = np.stack(channels, axis=-1) * hit[..., None]
    return image.astype(np.uint8), f"depth: {near_m:.2f} m (bright) to {far_m:.2f} m (dark)"


def colour_segmentation(segmentation: np.ndarray) -> tuple[np.ndarray, str]:
    """Give every object a hue of its own; background is dark grey."""
    image = np.full((*segmentation.shape, 3), 40, dtype=np.uint8)
    objects = [number for number in np.unique(segmentation) if number]
    for index, number in enumerate(objects):
        # Steps of the golden ratio keep neighbours in the list apart on the colour circle.
        hue, value = index * 0.618034 % 1, 0.95 - 0.25 * (index % 2)
        image[segmentation == number] = np.array(colorsys.hsv_to_rgb(hue, 0.65, value)) * 255
    return image, f"segmentation: {len(objects)} objects"


def draw(scenes: list[tuple[Scene, Views]]) -> Image.Image:
    """Lay the images out, one scene per row, a label under each."""
    width, height = SIZE
    cell = (width + GAP_PX, height + LABEL_PX)
    picture = Image.new("RGB", (3 * cell[0] - GAP_PX, len(scenes) * cell[1]), "white")
    pen = ImageDraw.Draw(picture)
    for row, (scene, views) in enumerate(scenes):
        panels = [
            (views.rgb, f"{scene.suite}, camera {scene.camera}: RGB"),
            colour_depth(views.depth_m),
            colour_segmentation(views.segmentation),
        ]
        for column, (image, label) in enumerate(panels):
            corner = (column * cell[0], row * cell[1])
            picture.paste(Image.fromarray(image), corner)
            pen.text((corner[0] + 2, corner[1] + height + 2), label, fill="black", font=FONT)
    return picture


def main() -> None:
    """Write the picture."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "images" / "observations.png")
    with multiprocessing.get_context("spawn").Pool(len(SCENES), maxtasksperchild=1) as pool:
        views = pool.map(observe, SCENES, chunksize=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(list(zip(SCENES, views))).save(out, optimize=True)
    print(f"Wrote {out}")


if __name__ == "__main__":
    main()
