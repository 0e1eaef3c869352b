"""Batches of windows at the speed of memory: vectors are held, frames are decoded once into mapped files.

`DemoDataset` decodes what a sample needs when it is asked for; a training asks for every frame hundreds of times, and a
small network then waits for gzip. Here a frame is decoded, cropped and resized once, and a batch is a copy out of mapped
memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from flowbench.agents.training.images import ImageFit
from flowbench.agents.training.recipe import Batch
from flowbench.data.dataset import PAD_SUFFIX, DemoDataset, Origin
from flowbench.errors import DataError


@dataclass(frozen=True)
class FrameCache:
    """Decoded frames on disk, one `.npy` file per demonstration, camera and image size.

    Attributes:
        folder: Where they lie; safe to delete, and to share between trainings.
        files: SHA-256 of every data file by path; a cached frame belongs to a content, not to a name.
    """

    folder: Path
    files: Mapping[Path, str] = field(repr=False)

    def path(self, origin: Origin, key: str, fit: ImageFit) -> Path:
        """Return the file of one demonstration's frames."""
        source = self.files[origin.reader.path][:16]
        stored = origin.keys[key].replace("/", "_")
        return (
            self.folder / source / f"{origin.reader.demos[origin.demo].name}-{stored}-{fit.name}.npy".replace("/", "_")
        )


class WindowedDemos:
    """The samples of a `DemoDataset`, a batch at a time.

    A batch holds every key of the data set (B, N, ...), images as uint8 (B, N, h, w, 3), other numbers as float32;
    `"<key>_is_pad"` bool (B, N); and every one of `labels` (B, ...).

    Attributes:
        dataset: What the samples are; its own way of reading them is not used.
    """

    def __init__(
        self,
        dataset: DemoDataset,
        fits: Mapping[str, ImageFit],
        labels: Mapping[str, np.ndarray] | None = None,
        cache: FrameCache | None = None,
    ) -> None:
        """Decode what is not decoded yet.

        Args:
            dataset: The samples.
            fits: Size in which the images of every image key are wanted.
            labels: Arrays with one row per demonstration (`dataset.infos`), e.g. the number of its camera.
            cache: Where decoded frames are kept; None decodes them at every batch.

        Raises:
            DataError: If the frames do not fit on the disk.
        """
        self.dataset = dataset
        self._fits = dict(fits)
        self._labels = {name: torch.from_numpy(np.ascontiguousarray(rows)) for name, rows in (labels or {}).items()}
        self._cache = cache
        self._steps = np.array([info.steps for info in dataset.infos])
        self._first_row = np.concatenate([[0], np.cumsum(self._steps)[:-1]])
        self._vectors = {key: self._read_vectors(key) for key in dataset.keys if key not in self._fits}
        self._frames = {key: self._open_frames(key) for key in self._fits} if cache else {}
        dataset.close()

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: np.ndarray) -> Batch:
        """See `TrainingData.batch`."""
        demos, steps = self.places(indices)
        batch: Batch = {}
        for key in self.dataset.keys:
            wanted = self.wanted(key, demos, steps)
            inside = np.clip(wanted, 0, self._steps[demos, None] - 1)
            batch[key + PAD_SUFFIX] = torch.from_numpy(wanted != inside)
            if key in self._fits:
                batch[key] = torch.from_numpy(self._images(key, demos, inside))
            else:
                batch[key] = self._vectors[key][torch.from_numpy(self._first_row[demos, None] + inside)]
        chosen = torch.from_numpy(demos)
        return batch | {name: rows[chosen] for name, rows in self._labels.items()}

    def places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the demonstration (B,) and the step t (B,) of samples; a subclass may count samples in another way."""
        demos, steps = self.dataset.places[indices].T
        return demos, steps

    def wanted(self, key: str, demos: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the steps (B, N) of a key in samples; those beyond an end of the demonstration repeat it."""
        return steps[:, None] + self.dataset.window.offsets_of(key)

    def _images(self, key: str, demos: np.ndarray, inside: np.ndarray) -> np.ndarray:
        width, height = self._fits[key].size
        images = np.empty((*inside.shape, height, width, 3), np.uint8)
        for row, (demo, steps) in enumerate(zip(demos, inside, strict=True)):
            if key in self._frames:
                images[row] = self._frames[key][demo][steps]
            else:
                images[row] = self._decode(key, demo, steps)
        return images

    def _decode(self, key: str, demo: int, steps: np.ndarray) -> np.ndarray:
        origin = self.dataset.origins[demo]
        rows = [origin.reader.read(origin.demo, origin.keys[key], slice(int(t), int(t) + 1)) for t in steps]
        return self._fits[key](np.concatenate(rows))

    def _read_vectors(self, key: str) -> torch.Tensor:
        parts = [
            origin.reader.read(origin.demo, origin.keys[key], slice(None)).astype(np.float32)
            for origin in self.dataset.origins
        ]
        return torch.from_numpy(np.concatenate(parts))

    def _open_frames(self, key: str) -> list[np.ndarray]:
        fit = self._fits[key]
        paths = [self._cache.path(origin, key, fit) for origin in self.dataset.origins]
        missing = [
            (path, origin) for path, origin in zip(paths, self.dataset.origins, strict=True) if not path.exists()
        ]
        interval_s = 0.2 if sys.stderr.isatty() else 30.0
        bar = tqdm(
            missing, f"decoding {key}", unit="demo", disable=len(missing) < 2, leave=False, mininterval=interval_s
        )
        for path, origin in bar:
            self._write(path, fit(origin.reader.read(origin.demo, origin.keys[key], slice(None))))
        return [np.load(path, mmap_mode="r") for path in paths]

    def _write(self, path: Path, frames: np.ndarray) -> None:
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.save(file, frames)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DataError(
                f"Decoded frames cannot be kept in {self._cache.folder}: {error.strerror or error}. Name a larger disk with "
                "--cache FOLDER, or decode at every step with --cache none."
            ) from error

    @property
    def cached_bytes(self) -> int:
        """Bytes of the mapped files."""
        return sum(frames.nbytes for each in self._frames.values() for frames in each)
