"""The demonstrations a training learns from, as the command line names them.

A recipe asks for data sets here instead of opening files, so that splits, limits and label fractions mean the same in
every method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from flowbench.agents.training.recipe import Split
from flowbench.agents.training.windows import FrameCache
from flowbench.data.dataset import DemoDataset, Subset, Window
from flowbench.data.demonstration import DemoReader
from flowbench.data.readers import demo_files, open_demos
from flowbench.errors import BadValue, DataError
from flowbench.registry import get_suite, suite_names
from flowbench.suite import Suite


@dataclass(frozen=True)
class Sources:
    """Where the data comes from, and how much of it takes part.

    Attributes:
        paths: Files or folders of demonstrations; empty for a recipe that makes its own data.
        action_paths: Those of `paths` whose actions may be used; None for all.
        suite: The suite to train for; None for a recipe that is no agent.
        tasks: Names of the tasks that take part; empty for all of the data.
        limit_per_task: At most so many demonstrations of each task.
        label_fraction: Share of the demonstrations whose actions may be used; the others are videos.
        validation_fraction: Share of each task's demonstrations that is held out.
        seed: Of all draws.
        cache: Folder for decoded frames; None keeps none and decodes at every step.
    """

    paths: tuple[Path, ...]
    suite: Suite | None = None
    tasks: tuple[str, ...] = ()
    limit_per_task: int | None = None
    label_fraction: float = 1.0
    validation_fraction: float = 0.1
    seed: int = 0
    cache: Path | None = None
    action_paths: tuple[Path, ...] | None = None

    def open(
        self,
        keys: Iterable[str] | None = None,
        *,
        window: Window = Window(),  # noqa: B008 - frozen
        split: Split | None = None,
        labelled: bool = True,
        cameras: Mapping[str, str] | Literal["each"] | None = None,
    ) -> DemoDataset:
        """Open the demonstrations.

        Args:
            keys: What a sample holds, e.g. `("camera/rgb", "actions")`.
            window: Which steps belong to a sample.
            split: Training or held-out demonstrations; None for both.
            labelled: Only demonstrations whose actions may be used: files with actions (of `action_paths`), and of those
                `label_fraction`.
                Otherwise all of them, whose actions must then not be read.
            cameras: As `DemoDataset` takes it.

        Raises:
            DataError: If nothing remains, the data is of another suite, or it has no actions.
        """
        readers = [reader for reader in self.readers if not labelled or (self._lends(reader) and _has_actions(reader))]
        if not readers:
            given = self.paths if self.action_paths is None else self.action_paths
            names = ", ".join(map(str, given)) or "no --data"
            raise DataError(f"There are no actions to learn from in {names}. Collect without --action-free.")
        subset = Subset(
            tasks=self.tasks,
            split=split,
            validation_fraction=self.validation_fraction,
            fraction=self.label_fraction if labelled else 1.0,
            limit_per_task=self.limit_per_task,
            seed=self.seed,
        )
        return DemoDataset(readers, keys, window=window, subset=subset, cameras=cameras)

    def count(self, split: Split | None = None) -> int:
        """Return how many demonstrations take part, whether their actions may be used or not."""
        return len(self.open((), split=split, labelled=False).infos)

    @cached_property
    def readers(self) -> tuple[DemoReader, ...]:
        """A reader of every file.

        Raises:
            DataError: If there is no data, or it was recorded in another simulator than the suite's.
        """
        if not self.paths:
            raise DataError("There is no data to learn from. Give it with --data FILE[,FILE...] (flowbench collect).")
        readers = tuple(open_demos(file) for path in self.paths for file in demo_files(Path(path)))
        for reader in readers:
            for recorded in {info.suite for info in reader.demos if info.suite}:
                self._check_suite(reader, recorded)
        return readers

    @cached_property
    def file_sha256(self) -> dict[Path, str]:
        """Hash of each file's content by path; of a folder, the names and sizes of its files.

        Raises:
            DataError: If one is missing.
        """
        return {path: _sha256(path) for given in self.paths for path in demo_files(Path(given))}

    @property
    def sha256(self) -> str:
        """Hash of the data, whatever its files are called."""
        return _sha256_of(self.file_sha256.values())

    @property
    def action_sha256(self) -> str | None:
        """Hash of the data whose actions may be used; None where that is all."""
        if self.action_paths is None:
            return None
        return _sha256_of(digest for path, digest in self.file_sha256.items() if path in self._action_files)

    @cached_property
    def _action_files(self) -> frozenset[Path]:
        return frozenset(file for path in self.action_paths or () for file in demo_files(Path(path)))

    def _lends(self, reader: DemoReader) -> bool:
        return self.action_paths is None or reader.path in self._action_files

    @property
    def frame_cache(self) -> FrameCache | None:
        """Where decoded frames are kept; None if they are not."""
        return FrameCache(self.cache, self.file_sha256) if self.cache else None

    def _check_suite(self, reader: DemoReader, recorded: str) -> None:
        if self.suite is None or recorded not in suite_names():
            return
        if get_suite(recorded).family != self.suite.family:
            raise BadValue(
                f"{reader.path} was recorded in suite {recorded}, and the training is for {self.suite.name}: another "
                f"simulator with other actions. Name the suite of the data, e.g. --suite {recorded}."
            )


def _sha256_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _has_actions(reader: DemoReader) -> bool:
    return any("actions" in info.arrays for info in reader.demos)


def _sha256(path: Path) -> str:
    if not path.exists():
        raise DataError(f"There is nothing at {path}, which --data names: no such file or folder.")
    if path.is_dir():
        names = (
            f"{file.relative_to(path)} {file.stat().st_size}\n" for file in sorted(path.rglob("*")) if file.is_file()
        )
        return hashlib.sha256("".join(names).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
