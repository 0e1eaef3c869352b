"""Samples of looks: what was seen, what is seen a few looks later, and what was done.

Clips of several kinds can be mixed: robots with all cameras and actions, robots without actions, and plain videos with one
camera and nothing else. What a clip lacks is zero, and marked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from flowbench.agents.training.images import ImageFit
from flowbench.agents.training.recipe import Batch, Split
from flowbench.agents.training.sources import Sources
from flowbench.agents.training.windows import WindowedDemos
from flowbench.agents.visa_flow.extract import CLIPS, MARK, SEMANTIC, extract
from flowbench.agents.visa_flow.looks import VIDEO_CAMERA, ClipSpec
from flowbench.agents.visa_flow.model import VisaFlowConfig
from flowbench.data.dataset import DemoDataset, Window
from flowbench.data.demonstration import DemoReader
from flowbench.data.layout import DATA
from flowbench.errors import BadValue, DataError

ACTION_KEYS = ("proprio", "action_chunk", "action_valid")


def with_clips(sources: Sources, config: VisaFlowConfig) -> Sources:
    """Return the sources with clips in place of demonstrations, which are made, once, in the folder of decoded frames.

    Raises:
        DataError: If there is no such folder.
        BadValue: If clips were made for other looks than the config's.
    """
    spec = ClipSpec(stride=config.stride, trace=config.trace, chunk=config.chunk)
    clips = {path: _clips_of(Path(path), sources, spec) for path in sources.paths}
    lent = sources.action_paths
    return replace(
        sources, paths=tuple(clips.values()), action_paths=None if lent is None else tuple(clips[path] for path in lent)
    )


def _clips_of(path: Path, sources: Sources, spec: ClipSpec) -> Path:
    file = path / CLIPS if (path / CLIPS).is_file() else path
    made = clip_spec(file)
    if made is not None:
        for name in ("stride", "trace"):
            if made[name] != getattr(spec, name):
                raise BadValue(
                    f"{file} was made with {name} {made[name]}, and the training is for {getattr(spec, name)}. Train with "
                    f"--set {name}={made[name]}, or make clips again: flowbench data visa FILE --{name} {getattr(spec, name)}"
                )
        if made["chunk"] < spec.chunk:
            raise BadValue(
                f"{file} keeps {made['chunk']} actions of every look, and the training is for chunks of {spec.chunk}. Train with "
                f"--set chunk={made['chunk']}, or make clips again: flowbench data visa FILE --chunk {spec.chunk}"
            )
        return file
    if sources.cache is None:
        raise DataError(
            f"{path} holds no semantic flow. Make it: flowbench data visa {path} --out DIR, and train on DIR."
        )
    sha256 = next(iter(replace(sources, paths=(path,)).file_sha256.values()))
    clips = sources.cache / f"visa-{sha256[:16]}-{spec.stride}-{spec.trace}-{spec.chunk}.h5"
    if not clips.is_file():
        extract(path, clips, spec)
    return clips


def clip_spec(path: Path) -> dict[str, Any] | None:
    """Return how a file of clips was made; None for any other file."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        text = file[DATA].attrs.get(MARK) if DATA in file else None
    return json.loads(text) if text else None


def robot_cameras(config: VisaFlowConfig, sources: Sources) -> tuple[str, ...]:
    """Return the cameras that the network looks through: the config's, or those of the suite that the data has.

    Raises:
        DataError: If the data has none of them.
    """
    if config.cameras:
        return config.cameras
    there = {camera for reader in sources.readers for info in reader.demos[:1] for camera in info.cameras}
    found = tuple(view for view in sources.suite.views if view in there)
    if not found:
        raise DataError(
            f"The data shows {', '.join(sorted(there)) or 'nothing'}, and suite {sources.suite.name} has "
            f"{', '.join(sources.suite.views)}. A plain video stands for one of them: flowbench data visa FILE --camera-as NAME"
        )
    return found


def open_looks(
    config: VisaFlowConfig, facts: Mapping[str, Any], sources: Sources, split: Split | None, *, labelled: bool
) -> Looks:
    """Open samples.

    Args:
        config: Which looks belong to one.
        facts: `cameras`, `instructions`, `state_size`, `action_labels`.
        sources: Of clips (see `with_clips`).
        split: Which demonstrations.
        labelled: Only those whose actions may be used. Otherwise actions and states are not even opened.

    Raises:
        DataError: If nothing remains.
    """
    groups: dict[tuple[str, ...], list[DemoReader]] = {}
    for reader in sources.readers:
        has = reader.demos[0].arrays if reader.demos else {}
        # A plain video stands for the first camera.
        cameras = tuple(name for name in facts["cameras"] if f"{name}/rgb" in has)
        cameras = cameras or ((VIDEO_CAMERA,) if f"{VIDEO_CAMERA}/rgb" in has else ())
        if cameras and (not labelled or lends_actions(sources, reader)):
            groups.setdefault(cameras, []).append(reader)
    parts = []
    for cameras, readers in groups.items():
        own = replace(sources, paths=tuple(reader.path for reader in readers))
        dataset = own.open(
            [*(f"{name}/{item}" for name in cameras for item in _items(config)), *(ACTION_KEYS if labelled else ())],
            window=_window(config, cameras),
            split=split,
            labelled=labelled,
        )
        parts.append(_Part(config, facts, own, dataset, cameras, labelled))
    if not parts:
        wanted = "actions and " if labelled else ""
        raise DataError(
            f"None of the clips has {wanted}a camera of {', '.join(facts['cameras'])}. Make some: flowbench data visa FILE"
        )
    return Looks(tuple(parts))


def lends_actions(sources: Sources, reader: DemoReader) -> bool:
    """Return whether a file of clips has actions, and they may be used."""
    has = reader.demos[0].arrays if reader.demos else {}
    return "action_chunk" in has and (sources.action_paths is None or reader.path in sources.action_paths)


def _items(config: VisaFlowConfig) -> tuple[str, ...]:
    return ("rgb", SEMANTIC) if config.future == "semantic" else ("rgb",)


def _window(config: VisaFlowConfig, cameras: tuple[str, ...]) -> Window:
    now = tuple(range(config.history))
    later = tuple(range(config.ahead, config.ahead + config.history))
    seen = tuple(range(config.history + (config.ahead if config.future == "rgb" else 0)))
    offsets: dict[str, tuple[int, ...]] = dict.fromkeys(ACTION_KEYS, now)
    for name in cameras:
        offsets |= {f"{name}/rgb": seen, f"{name}/{SEMANTIC}": later}
    return Window(offsets=offsets)


class _Part(WindowedDemos):
    """Clips that have the same cameras."""

    def __init__(
        self,
        config: VisaFlowConfig,
        facts: Mapping[str, Any],
        sources: Sources,
        dataset: DemoDataset,
        cameras: tuple[str, ...],
        labelled: bool,
    ) -> None:
        numbers = {sentence: number for number, sentence in enumerate(facts["instructions"])}
        sentence = np.array([numbers.get(info.instruction or "", 0) for info in dataset.infos])
        seen, later = ImageFit(tuple(config.image_size)), ImageFit(tuple(config.target_size))
        fits = {key: later if key.endswith(SEMANTIC) else seen for key in dataset.keys if "/" in key}
        super().__init__(dataset, fits, {"sentence": sentence}, sources.frame_cache)
        self._config, self._facts, self._cameras, self._labelled = config, facts, cameras, labelled

    def places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return demonstration and first look: one sample per look, moved forward to be full where the clip is long enough."""
        demos, looks = super().places(indices)
        return demos, np.minimum(looks, np.maximum(self._steps[demos] - self._config.history, 0))

    def batch(self, indices: np.ndarray) -> Batch:
        """Return what `VisaFlowNetwork.loss` takes."""
        config, facts = self._config, self._facts
        found = super().batch(indices)
        first = f"{self._cameras[0]}/rgb"
        names = ["sentence", *(ACTION_KEYS if self._labelled else ())]
        batch = {name: found[name] for name in names} | {
            "look_is_pad": found[f"{first}_is_pad"][:, : config.history],
            "has_state": torch.full((len(indices),), self._labelled),
            "has_camera": torch.zeros(len(indices), len(facts["cameras"]), dtype=torch.bool),
        }
        if not self._labelled:
            batch["proprio"] = torch.zeros(len(indices), config.history, facts["state_size"])
        for number, name in enumerate(facts["cameras"]):
            stored = self._cameras[0] if self._cameras == (VIDEO_CAMERA,) and number == 0 else name
            there = f"{stored}/rgb" in found
            batch["has_camera"][:, number] = there
            for item in _items(config):
                key = f"{stored}/{item}" if there else f"{self._cameras[0]}/{item}"
                batch[f"{name}/{item}"] = found[key] if there else torch.zeros_like(found[key])
        return batch


@dataclass(frozen=True)
class Looks:
    """Samples of one or several kinds of clips, one after the other."""

    parts: tuple[_Part, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def datasets(self) -> tuple[DemoDataset, ...]:
        """What the samples are."""
        return tuple(part.dataset for part in self.parts)

    @property
    def cached_bytes(self) -> int:
        """Bytes of mapped files."""
        return sum(part.cached_bytes for part in self.parts)

    def batch(self, indices: np.ndarray) -> Batch:
        """See `TrainingData.batch`; rows are in the order of the indices."""
        starts = np.cumsum([0, *map(len, self.parts)])
        owner = np.searchsorted(starts, indices, side="right") - 1
        found, order = [], []
        for number, part in enumerate(self.parts):
            rows = np.flatnonzero(owner == number)
            if len(rows):
                found.append(part.batch(indices[rows] - starts[number]))
                order.append(rows)
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return {name: torch.cat([batch[name] for batch in found])[back] for name in found[0]}
