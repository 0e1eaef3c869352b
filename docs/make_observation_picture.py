"""Draw docs/images/observations.png: RGB, depth and segmentation of one Meta-World and one LIBERO scene.

Run as `python docs/make_observation_picture.py [OUT.png]` with the extras metaworld and libero installed. Each simulator
gets a process of its own, and everything shown is an array that `flowbench.make` returned.
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flowbench.data.colours import colour_depth, colour_segmentation, depth_range_m

SIZE = (320, 240)
GAP_PX, LABEL_PX = 6, 22
FONT = ImageFont.load_default(size=13)


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


def depth_panel(depth_m: np.ndarray) -> tuple[np.ndarray, str]:
    """Colour metres, and say which."""
    near_m, far_m = depth_range_m(depth_m)
    label = f"depth: {near_m:.2f} m (bright) to {far_m:.2f} m (dark)"
    return colour_depth(depth_m, near_m, far_m), label


def segmentation_panel(segmentation: np.ndarray) -> tuple[np.ndarray, str]:
    """Colour objects, and count them."""
    return colour_segmentation(segmentation), f"segmentation: {len(np.unique(segmentation[segmentation > 0]))} objects"


def draw(scenes: list[tuple[Scene, Views]]) -> Image.Image:
    """Lay the images out, one scene per row, a label under each."""
    width, height = SIZE
    cell = (width + GAP_PX, height + LABEL_PX)
    picture = Image.new("RGB", (3 * cell[0] - GAP_PX, len(scenes) * cell[1]), "white")
    pen = ImageDraw.Draw(picture)
    for row, (scene, views) in enumerate(scenes):
        panels = [
            (views.rgb, f"{scene.suite}, camera {scene.camera}: RGB"),
            depth_panel(views.depth_m),
            segmentation_panel(views.segmentation),
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
