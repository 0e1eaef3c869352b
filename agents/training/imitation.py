"""What policies take from demonstrations: views, sentences and statistics; windows of frames and of the actions that follow.

Shared by every recipe whose config is an `ObservationConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowbench.agents.nets.observation import ObservationConfig, ObservationNetwork
from flowbench.agents.training.checkpoint import suite_facts
from flowbench.agents.training.images import ImageFit
from flowbench.agents.training.recipe import Recipe, Split
from flowbench.agents.training.sources import Sources
from flowbench.agents.training.windows import WindowedDemos
from flowbench.camera import CameraPose
from flowbench.data.dataset import DemoDataset, Window
from flowbench.errors import BadValue

#: Components that hardly ever change are not blown up by normalising them.
MIN_STD = 0.01


class ImitationRecipe(Recipe):
    """A recipe that predicts actions from what was seen; `build` makes an `ObservationNetwork`."""

    def facts(self, config: ObservationConfig, sources: Sources) -> dict[str, Any]:
        """Return views, sentences and statistics of the training split."""
        facts = suite_facts(sources)
        dataset = open_windows(config, sources, "train")
        facts |= image_facts(dataset, sources, config.camera)
        facts["actions"] = vector_statistics(dataset, "actions", facts["action_low"], facts["action_high"])
        if config.proprio:
            facts["proprio"] = vector_statistics(dataset, "proprio")
        dataset.close()
        return facts

    def data(
        self, config: ObservationConfig, facts: Mapping[str, Any], sources: Sources, split: Split, stage: str
    ) -> WindowedDemos:
        """Open the samples: the last frames, and the actions from there on."""
        dataset = open_windows(config, sources, split)
        fit = ImageFit(tuple(config.image_size), tuple(config.crop) or None)
        images = {key: fit for key in dataset.keys if key.endswith("/rgb")}
        return WindowedDemos(dataset, images, demo_labels(dataset, facts, config.camera), sources.frame_cache)

    def prepare(
        self, model: ObservationNetwork, config: ObservationConfig, facts: Mapping[str, Any], stage: str
    ) -> None:
        """Load published image weights and embed the sentences, if the config names any."""
        for encoder in model.encoders:
            encoder.load_pretrained()
        model.text.prepare()


def open_windows(config: ObservationConfig, sources: Sources, split: Split) -> DemoDataset:
    """Open windows of frames, of the current state of the robot, and of the actions that follow."""
    keys = ["camera/rgb", *(f"{camera}/rgb" for camera in config.extra_cameras), "actions"]
    if config.proprio:
        keys.append("proprio")
    past = tuple(range(-(config.history - 1) * config.frame_step, 1, config.frame_step))
    window = Window(
        horizon=config.chunk, offsets={key: past for key in keys if key.endswith("/rgb")} | {"proprio": (0,)}
    )
    if not config.camera and config.extra_cameras:
        raise BadValue(
            f"With extra cameras ({', '.join(config.extra_cameras)}) the first camera must be named: --set camera=NAME."
        )
    cameras = {config.camera: "camera"} if config.camera else "each"
    return sources.open(keys, window=window, split=split, cameras=cameras)


def image_facts(dataset: DemoDataset, sources: Sources, camera: str = "") -> dict[str, Any]:
    """Return what an agent must know to see what the data shows, and the sentences.

    Args:
        dataset: With images.
        sources: Where it comes from.
        camera: The camera of every demonstration; "" with `cameras="each"`.

    Raises:
        BadValue: If the images have several sizes.
    """
    views = [_view(origin.camera or camera) for origin in dataset.origins]
    sizes = {
        (name, spec.shape[1::-1]) for name, spec in dataset.specs.items() if name.endswith("/rgb")
    }  # (width, height)
    if len({size for _, size in sizes}) > 1:
        raise BadValue(
            f"The cameras were recorded in several sizes ({', '.join(f'{n} {w}x{h}' for n, (w, h) in sorted(sizes))}); an "
            "agent asks for one size. Record them alike."
        )
    return {
        "cameras": [view for view in sources.suite.views if view in views],
        "image_size": list(next(iter(sizes))[1]),
        "image_view": dataset.readers[0].image_view,
        "instructions": sorted({info.instruction or "" for info in dataset.infos}),
    }


def demo_labels(dataset: DemoDataset, facts: Mapping[str, Any], camera: str = "") -> dict[str, np.ndarray]:
    """Return the number of the sentence and of the camera of every demonstration, as `facts` has them."""
    numbers = {sentence: number for number, sentence in enumerate(facts["instructions"])}
    return {
        # A sentence that only the held-out demonstrations have stands for no trained one; the first will do.
        "sentence": np.array([numbers.get(info.instruction or "", 0) for info in dataset.infos]),
        "camera": np.array([facts["cameras"].index(_view(origin.camera or camera)) for origin in dataset.origins]),
    }


def _view(camera: str) -> str:
    """Return the named view of a camera pose: a displaced camera has the identity of its base."""
    return CameraPose.parse(camera).view


def vector_statistics(
    dataset: DemoDataset, key: str, low: list[float] | None = None, high: list[float] | None = None
) -> dict[str, list[float]]:
    """Return mean, standard deviation and range of a vector over the data, clipped to bounds first."""
    rows = np.concatenate([o.reader.read(o.demo, o.keys[key], slice(None)) for o in dataset.origins]).astype(np.float64)
    if low is not None:
        rows = np.clip(rows, low, high)
    spread = np.maximum(rows.std(0), MIN_STD)
    statistics = {"mean": rows.mean(0), "std": spread, "min": rows.min(0), "max": rows.max(0)}
    return {name: values.tolist() for name, values in statistics.items()}
