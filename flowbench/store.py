"""The result folder: a manifest and one checked JSON line per episode, safe against `kill -9` at any moment.

A line is flushed to disk before the next episode is counted. Its last field is a checksum of the bytes before it, so a
line that was torn by a crash, damaged or edited by hand is told from one that was written. A torn last line is dropped;
anything else that does not check is refused by name, because a silently changed result is worse than none.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from flowbench.errors import StoreError
from flowbench.manifest import RunManifest
from flowbench.result import EpisodeResult

if TYPE_CHECKING:
    from flowbench.spec import EpisodeSpec, EvalSpec

Kept = TypeVar("Kept")

MANIFEST_NAME = "manifest.json"
EPISODES_NAME = "episodes.jsonl"
LOCK_NAME = ".lock"
_CHECKSUM = b',"crc":"'
_TAIL_LENGTH = len(_CHECKSUM) + len('01234567"}')
_ID_START = b'{"id":"'


@dataclass(frozen=True)
class Run:
    """A run as it lies on disk.

    Attributes:
        folder: Where it lies.
        manifest: What was run.
        results: Finished episodes, in the order in which they finished.
        torn: Whether the last line was cut off by a crash (it is not among the results).
    """

    folder: Path
    manifest: RunManifest
    results: tuple[EpisodeResult, ...]
    torn: bool = False

    def missing(self) -> list[EpisodeSpec]:
        """Return the episodes of the spec that have no result yet."""
        done = {result.id for result in self.results}
        return [episode for episode in self.manifest.spec.episodes() if episode.id not in done]


class Completed(NamedTuple):
    """What a folder already holds.

    Attributes:
        finished: Ids of the episodes that succeeded or failed.
        errors: Ids of the episodes whose last attempt was an error.
    """

    finished: set[str]
    errors: set[str]

    def done(self, *, retry_errors: bool) -> set[str]:
        """Return the ids that need no run any more; errors are among them unless they are to be tried again."""
        return self.finished if retry_errors else self.finished | self.errors


class ResultStore:
    """Appends episodes to one folder; at most one process at a time.

    Use it as a context manager::

        with ResultStore.open(Path("r1"), manifest) as store:
            store.append(result)
    """

    def __init__(self, folder: Path, manifest: RunManifest, completed: Completed) -> None:
        """Use `ResultStore.open` instead."""
        self.folder = folder
        self.manifest = manifest
        self.completed = completed
        self._lock: Any = None
        self._file: Any = None

    @classmethod
    def open(cls, folder: Path, manifest: RunManifest, *, resume: bool = True) -> ResultStore:
        """Start a folder, or continue one that holds the same spec.

        Args:
            folder: Made if it does not exist.
            manifest: Describes the run; an existing folder keeps its own.
            resume: Whether an existing run may be continued.

        Raises:
            StoreError: If the folder holds another spec or foreign files, is in use, or cannot be written.
        """
        from filelock import FileLock, Timeout

        folder = Path(folder)
        cls.check(folder, manifest.spec, resume=resume)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK_NAME, timeout=0)
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"{folder} is in use by another flowbench process. Wait for it, or choose another --out."
            ) from None
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror or error}. Choose another --out.") from error
        store = cls(folder, manifest, Completed(set(), set()))
        store._lock = lock
        try:
            store._start(resume)
        except BaseException:
            store.close()
            raise
        return store

    def _start(self, resume: bool) -> None:
        manifest_path = self.folder / MANIFEST_NAME
        if manifest_path.exists():
            # Again, now that nobody else can write here.
            self.check(self.folder, self.manifest.spec, resume=resume)
            self.manifest = read_manifest(self.folder)
            self.completed = _repair_and_scan(self.folder / EPISODES_NAME)
        else:
            _write_atomically(manifest_path, json.dumps(self.manifest.to_json(), indent=2) + "\n")
        try:
            self._file = (self.folder / EPISODES_NAME).open("ab", buffering=0)
        except OSError as error:
            raise StoreError(f"{self.folder / EPISODES_NAME} cannot be written: {error.strerror}.") from error

    @staticmethod
    def check(folder: Path, spec: EvalSpec, *, resume: bool = True) -> None:
        """Check that a folder is new, or holds this spec and may be continued; nothing is changed.

        Raises:
            StoreError: If it is neither.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder} is a file; --out needs a folder.")
        if not folder.is_dir():
            return
        if not (folder / MANIFEST_NAME).exists():
            if {path.name for path in folder.iterdir()} - {LOCK_NAME}:
                raise StoreError(f"{folder} is not empty and holds no FlowBench run. Choose a new folder with --out.")
            return
        existing = read_manifest(folder)
        if existing.spec.digest != spec.digest:
            changes = "; ".join(existing.spec.differences(spec))
            raise StoreError(
                f"{folder} holds another evaluation (there != asked: {changes}). Choose another --out, or repeat its own "
                f"command: {existing.command}"
            )
        if not resume:
            raise StoreError(
                f"{folder} already holds this evaluation. Resume it with --resume, or choose another --out."
            )

    @staticmethod
    def scan(folder: Path) -> Completed:
        """Return the ids that a folder holds, without changing it; nothing for a folder that does not exist."""
        return _scan(Path(folder) / EPISODES_NAME)[0]

    def append(self, result: EpisodeResult) -> None:
        """Write one finished episode through to the disk.

        Raises:
            StoreError: If it cannot be written; what was written before is intact.
        """
        size = self._file.seek(0, os.SEEK_END)
        try:
            line = encode_line(result)
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(size)
            raise StoreError(
                f"Episode {result.id} could not be written to {self.folder}: {error.strerror}. Everything before it is kept; "
                "make room and run the same command again."
            ) from error
        (self.completed.errors if result.status == "error" else self.completed.finished).add(result.id)

    def close(self) -> None:
        """Release the folder; may be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @staticmethod
    def read(folder: Path) -> Run:
        """Read a run, finished or not.

        Raises:
            StoreError: If the folder holds no run, or a line other than a torn last one does not check.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        rows, torn = read_rows(folder)
        return Run(folder, manifest, tuple(EpisodeResult(**row) for row in rows), torn)


def encode_line(result: EpisodeResult) -> bytes:
    """Return the line of a result, checksum and newline included."""
    fields = asdict(result)
    # Most results have neither, and a million lines are read.
    if result.chain is None:
        del fields["chain"]
    if not result.metrics:
        del fields["metrics"]
    return _line(json.dumps(fields, separators=(",", ":")).encode()[:-1])


def _line(body: bytes) -> bytes:
    return body + _CHECKSUM + b'%08x"}\n' % zlib.crc32(body)


def read_manifest(folder: Path) -> RunManifest:
    """Read a run's manifest.

    Raises:
        StoreError: If there is none or it does not check.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(
            f"{folder} holds no run: {MANIFEST_NAME} is missing. A run is made by flowbench eval --out."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not valid JSON ({error}).") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error
    return RunManifest.from_json(data)


def read_rows(folder: Path) -> tuple[list[dict[str, Any]], bool]:
    """Read the episodes of a run as plain dictionaries, one per id, and whether the last line was torn.

    A later attempt replaces an error of the same episode.

    Raises:
        StoreError: If a line other than a torn last one does not check, or an episode was finished twice.
    """

    def parse(body: bytes) -> tuple[str, bool, dict[str, Any]]:
        row = json.loads(body + b"}")
        return row["id"], row["status"] == "error", row

    return _read_latest(folder, parse)


def read_columns(folder: Path, names: tuple[str, ...]) -> tuple[list[tuple[str, ...]], bool]:
    """Read some text fields of each episode, as `read_rows` does, at a third of its time and memory.

    Args:
        folder: A result folder.
        names: Fields of `EpisodeResult` that always hold text; `scenario` is the scenario's key, the end of the id.
    """
    keys = [None if name == "scenario" else b',"%s":"' % name.encode() for name in names]
    texts: dict[bytes, str] = {}

    def parse(body: bytes) -> tuple[str, bool, tuple[str, ...]]:
        if b"\\" in body:
            row = json.loads(body + b"}")
            row["scenario"] = row["id"].rpartition("/")[2]
            return row["id"], row["status"] == "error", tuple(row[name] for name in names)
        # `encode_line` wrote this line, and without a backslash no text in it holds a quote.
        identifier = body[len(_ID_START) : body.index(b'"', len(_ID_START))]
        values = []
        for key in keys:
            if key is None:
                text = identifier[identifier.rindex(b"/") + 1 :]
            else:
                start = body.index(key) + len(key)
                text = body[start : body.index(b'"', start)]
            values.append(texts.get(text) or texts.setdefault(text, text.decode()))
        return identifier.decode(), b',"status":"error"' in body, tuple(values)

    return _read_latest(folder, parse)


def copy_episodes(folder: Path, target: BinaryIO) -> None:
    """Append a run's lines to an open file as they are; a torn last line is left out.

    Raises:
        StoreError: If another line does not check.
    """
    for _, body in _checked_lines(Path(folder) / EPISODES_NAME):
        if body is not None:
            target.write(_line(body))


def _read_latest(folder: Path, parse: Callable[[bytes], tuple[str, bool, Kept]]) -> tuple[list[Kept], bool]:
    """Read what `parse` makes of each line: its id, whether it is an error, and what to keep of it."""
    path = Path(folder) / EPISODES_NAME
    rows: dict[str, Kept] = {}
    errors: set[str] = set()
    torn = False
    for number, body in _checked_lines(path):
        if body is None:
            torn = True
            break
        identifier, is_error, kept = parse(body)
        if identifier in rows and identifier not in errors:
            raise StoreError(
                f"{path} line {number} repeats episode {identifier}, which had finished. Delete one of the two lines."
            )
        (errors.add if is_error else errors.discard)(identifier)
        rows[identifier] = kept
    return list(rows.values()), torn


def _checked_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield (line number, JSON body without its closing brace); the body is None for a torn last line."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            body = line[: -_TAIL_LENGTH - 1]
            if line.endswith(b'"}\n') and line == _line(body):
                yield number, body
            elif not line.endswith(b"\n"):
                yield number, None
            else:
                raise StoreError(
                    f"{path} line {number} was changed or damaged after it was written (its checksum does not match). Delete "
                    "that line, and the same eval command will run its episode again."
                )


def _repair_and_scan(path: Path) -> Completed:
    """Drop a torn last line, then collect the ids."""
    completed, good_bytes, torn = _scan(path)
    if torn:
        with path.open("rb+") as file:
            file.truncate(good_bytes)
    return completed


def _scan(path: Path) -> tuple[Completed, int, bool]:
    """Collect the ids without parsing a line's JSON; also the length of the sound part, and whether more follows."""
    finished: set[str] = set()
    errors: set[str] = set()
    good_bytes = 0
    for _, body in _checked_lines(path):
        if body is None:
            return Completed(finished, errors - finished), good_bytes, True
        good_bytes += len(body) + _TAIL_LENGTH + 1
        raw_id = body[len(_ID_START) : body.index(b'"', len(_ID_START))]
        identifier = json.loads(body + b"}")["id"] if b"\\" in raw_id else raw_id.decode()
        if b'"status":"error"' in body:
            errors.add(identifier)
        else:
            finished.add(identifier)
    return Completed(finished, errors - finished), good_bytes, False


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error
