"""A collection that is under way: one file per finished attempt, so that `kill -9` at any moment costs the running ones.

`<out>.parts/` holds `collection.json` (what is being collected), `<task>-<scenario>.h5` for every kept demonstration, and
`<task>-<scenario>.json` with the result of every attempt. Each file is renamed into place when it is whole; an attempt is
done when its result is there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowbench.data.collect_spec import CollectSpec
from flowbench.data.writer import WRITING_SUFFIX
from flowbench.errors import DataError, StoreError
from flowbench.result import EpisodeResult
from flowbench.spec import EpisodeSpec

SPEC_NAME = "collection.json"
LOCK_NAME = ".lock"


def parts_folder(out: Path) -> Path:
    """Return where the parts of a collection lie until it is complete."""
    return out.with_name(out.name + ".parts")


def demonstration_path(folder: Path, episode: EpisodeSpec) -> Path:
    """Return the file of one demonstration."""
    return folder / (_slug(episode) + ".h5")


class Parts:
    """The parts of one collection; at most one process at a time. Use it as a context manager."""

    def __init__(self, out: Path, spec: CollectSpec) -> None:
        """Name the folder; nothing is read or written yet."""
        self.folder = parts_folder(out)
        self._spec = spec
        self._lock: Any = None

    def __enter__(self) -> Parts:
        """Make the folder, or continue one that holds the same collection.

        Raises:
            DataError: If it holds another one, is in use, or cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK_NAME, timeout=0)
            lock.acquire()
            self._lock = lock
            self._claim()
        except Timeout:
            raise DataError(
                f"{self.folder} is in use by another flowbench process. Wait for it, or choose another --out."
            ) from None
        except OSError as error:
            self.__exit__()
            raise DataError(f"{self.folder} cannot be written: {error.strerror}. Choose another --out.") from error
        except DataError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _claim(self) -> None:
        path = self.folder / SPEC_NAME
        if not path.exists():
            if {entry.name for entry in self.folder.iterdir()} - {LOCK_NAME, SPEC_NAME + WRITING_SUFFIX}:
                raise DataError(f"{self.folder} holds something else than a collection. Choose another --out.")
            _write_json(path, self._spec.to_json())
            return
        try:
            stored = CollectSpec.from_json(json.loads(path.read_text()))
        except (ValueError, StoreError) as error:
            raise DataError(
                f"{path} cannot be read ({error}). Delete {self.folder}, or choose another --out."
            ) from error
        check_same(stored, self._spec, self.folder)
        for leftover in self.folder.glob(f"*{WRITING_SUFFIX}"):
            leftover.unlink()

    def results(self) -> dict[str, EpisodeResult]:
        """Return the results so far by scenario id; errors are left out, so that they are tried again."""
        results = {}
        for episode in self._spec.episodes():
            path = self._result_path(episode)
            if not path.exists():
                continue
            try:
                result = EpisodeResult(**json.loads(path.read_text()))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path} cannot be read ({error}). Delete it, and its episode is run again.") from error
            lost = self.keeps(result) and not demonstration_path(self.folder, episode).exists()
            if result.status != "error" and not lost:
                results[episode.scenario_id] = result
        return results

    def record(self, episode: EpisodeSpec, result: EpisodeResult) -> None:
        """Store the result of an attempt, whose demonstration is there already if it is kept.

        Raises:
            DataError: If it cannot be written.
        """
        try:
            _write_json(self._result_path(episode), asdict(result))
        except OSError as error:
            raise DataError(
                f"The result of {episode.scenario_id} could not be written to {self.folder}: {error.strerror}. "
                + what_is_kept(self.folder)
            ) from error

    def keeps(self, result: EpisodeResult) -> bool:
        """Return whether an attempt's demonstration is kept."""
        return result.status == "success" or (
            self._spec.keep_failures and result.status == "failure" and result.steps > 0
        )

    def remove(self) -> None:
        """Delete the folder once everything in it is in the final file."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _result_path(self, episode: EpisodeSpec) -> Path:
        return self.folder / (_slug(episode) + ".json")


def check_same(stored: CollectSpec, asked: CollectSpec, where: Path) -> None:
    """Check that what lies somewhere is what is asked for.

    Raises:
        DataError: With the fields that differ.
    """
    if stored.digest != asked.digest:
        raise DataError(
            f"{where} holds another collection (there != asked: {'; '.join(stored.differences(asked))}). Choose another --out, "
            "or delete it."
        )


def what_is_kept(folder: Path) -> str:
    """Return the sentence that says how to go on after a write has failed."""
    count = len(list(folder.glob("*.h5")))
    return f"The {count} demonstrations in {folder} are kept; make room, and run the same command again."


def _slug(episode: EpisodeSpec) -> str:
    return re.sub(r"[^\w.+-]+", "_", f"{episode.task}-{episode.scenario.key}")


def _write_json(path: Path, content: Any) -> None:
    temporary = path.with_name(path.name + WRITING_SUFFIX)
    try:
        with temporary.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
