"""LeRobotDataset v3 folders, read through the `lerobot` package.

Layout (`lerobot/datasets` 0.4.4): `meta/info.json`, `meta/episodes/`, `meta/tasks.parquet`, `data/chunk-*/file-*.parquet`
and `videos/<key>/chunk-*/file-*.mp4`; many episodes share a file. The package knows the details and changes them from
release to release, so nothing of it is repeated here.

The format does not say whether images are upright or mirrored; recordings of LIBERO in circulation are either. They are
taken as they are unless the caller says otherwise. Depth videos are left out.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from flowbench.data.demonstration import ArraySpec, DemoInfo
from flowbench.data.readers.base import PerProcess, RowReader
from flowbench.errors import DataError, FlowBenchError, missing_extra
from flowbench.task import ImageView

#: Feature -> key of ours.
_KEYS = {"action": "actions", "observation.state": "proprio", "next.reward": "rewards", "next.done": "dones"}
#: Columns that LeRobot adds to count by.
_COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
#: Calibration has no key of LeRobot's own; written as `observation.camera.<camera>.<item>`, it is recognised.
_CALIBRATION = {"intrinsic_cv": (3, 3), "extrinsic_cv": (4, 4)}


class LeRobotV3(RowReader):
    """Episodes of a LeRobotDataset v3 on this machine.

    Cameras lose their prefix: `observation.images.front` is `front/rgb`. Features without a key of ours keep their names.
    A step is decoded with all its cameras at once, as the package does.
    """

    format = "lerobot-v3"

    def __init__(
        self, path: str | Path, *, flipped: bool = False, mirrored: bool = False, video_backend: str = "pyav"
    ) -> None:
        """Open a folder.

        Args:
            path: The folder that holds `meta/`.
            flipped: Whether images are stored bottom-up; they are returned upright.
            mirrored: Whether upright images are mirrored, as in the `policy` image view; declared, not changed.
            video_backend: LeRobot's decoder: `pyav` needs nothing else, `torchcodec` needs FFmpeg's libraries.

        Raises:
            DataError: If the folder is damaged, or of another version.
            MissingExtra: If `lerobot` is not installed.
        """
        self.path = Path(path)
        self.flipped = flipped
        self.image_view: ImageView = "policy" if mirrored else "geometric"
        _check_version(self.path)
        self._dataset = PerProcess(partial(_open, self.path, video_backend))
        self._items = PerProcess(partial(_cached, self._dataset))
        dataset = self._dataset.get()
        self._features: dict[str, str] = {}
        arrays: dict[str, ArraySpec] = {}
        for name, feature in dataset.meta.features.items():
            described = _describe(name, feature)
            if described:
                key, arrays[key] = described
                self._features[key] = name
        self._first: list[int] = []
        demos = []
        for episode in dataset.meta.episodes:
            first, end = int(episode["dataset_from_index"]), int(episode["dataset_to_index"])
            sentence = next(iter(episode["tasks"]), None)
            self._first.append(first)
            demos.append(DemoInfo(f"episode_{episode['episode_index']}", end - first, arrays, instruction=sentence))
        if not demos:
            raise DataError(f"{self.path} holds no demonstrations: it has no episodes.")
        self.demos = tuple(demos)

    def close(self) -> None:
        """Free the files; may be called twice, and a later `read` opens them again."""
        self._items.close()
        self._dataset.close()

    def _rows(self, demo: int, key: str, rows: range) -> np.ndarray:
        name, spec = self._features[key], self.demos[demo].arrays[key]
        steps = range(self._first[demo] + rows.start, self._first[demo] + rows.stop, rows.step)
        try:
            if key.endswith("/rgb"):
                item = self._items.get()
                images = np.stack([_uint8_image(item(step)[name]) for step in steps])
                return images[:, ::-1] if self.flipped else images
            column = self._dataset.get().hf_dataset.select_columns(name).with_format("numpy")
            values = np.asarray(column[steps.start : steps.stop : steps.step][name])
        except FlowBenchError:
            raise
        except Exception as error:  # the package's readers raise many kinds
            raise DataError(f"{name} of {self.demos[demo].name} in {self.path} cannot be read: {error}") from error
        return values.reshape(len(steps), *spec.shape)


def _check_version(path: Path) -> None:
    info = path / "meta" / "info.json"
    try:
        loaded = json.loads(info.read_text(encoding="utf-8"))
        version = str(loaded["codebase_version"])
    except FileNotFoundError:
        raise DataError(f"{path} is no LeRobotDataset: there is no {info}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{info} cannot be read as LeRobot's info.json: {error!r}. Download it again.") from error
    if not version.startswith("v3."):
        raise DataError(
            f"{path} is a LeRobotDataset {version}; v3 is read. Convert it with lerobot's own script "
            "(python -m lerobot.datasets.v30.convert_dataset_v21_to_v30)."
        )


def _open(path: Path, video_backend: str) -> Any:
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ImportError as error:
        raise missing_extra(f"{path} is a LeRobotDataset; reading it", "lerobot", error) from error
    # Without its data the package would go and ask the hub for it.
    for folder in ("data", "meta/episodes"):
        if not any((path / folder).glob("*/*.parquet")):
            raise DataError(f"{path} is not complete: there is no parquet file in {folder}/. Download it again.")
    try:
        return LeRobotDataset(f"local/{path.name}", root=path, video_backend=video_backend)
    except Exception as error:  # the package's readers raise many kinds
        raise DataError(f"{path} cannot be read as a LeRobotDataset v3: {error}. Download it again.") from error


def _cached(dataset: PerProcess) -> Any:
    """Return a function from step to item that remembers the last few: a window asks for each camera by itself."""
    return lru_cache(maxsize=32)(lambda step: dataset.get()[step])


def _describe(name: str, feature: dict[str, Any]) -> tuple[str, ArraySpec] | None:
    """Return the key and shape of a feature; None for what has no place in a demonstration."""
    shape, details = tuple(feature["shape"]), feature.get("info") or {}
    if feature["dtype"] in ("video", "image"):
        if details.get("is_depth_map") or details.get("video.is_depth_map") or len(shape) != 3:
            return None
        names = feature.get("names") or []
        channels_first = shape[2] != 3 if len(names) < 3 else str(names[0]).startswith("channel")
        height, width = shape[1:] if channels_first else shape[:2]
        camera = name.removeprefix("observation.").removeprefix("images.")
        return f"{camera}/rgb", ArraySpec((height, width, 3), "uint8")
    if name in _COUNTERS or np.dtype(object) == _dtype(feature["dtype"]):
        return None
    camera, _, item = name.removeprefix("observation.camera.").rpartition(".")
    if name.startswith("observation.camera.") and camera and item in _CALIBRATION:
        return f"{camera}/{item}", ArraySpec(_CALIBRATION[item], "float32")
    key = _KEYS.get(name, name)
    shape = () if key in ("rewards", "dones") and shape == (1,) else shape
    return key, ArraySpec(shape, "float32" if key == "proprio" else feature["dtype"])


def _dtype(name: str) -> np.dtype:
    try:
        dtype = np.dtype(name)
    except TypeError:
        return np.dtype(object)
    return dtype if dtype.kind in "biuf" else np.dtype(object)


def _uint8_image(image: Any) -> np.ndarray:
    """Turn a float (3, H, W) tensor in [0, 1] into uint8 (H, W, 3)."""
    return np.rint(np.asarray(image).transpose(1, 2, 0) * 255).astype(np.uint8)
