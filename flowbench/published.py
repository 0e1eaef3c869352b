"""Published rows: numbers copied from papers, each with where it was printed and where it was read.

They are data files and not code, so that a number can be checked by someone who reads no Python. A value is text, as
printed: `78.00` keeps its zeros, and nothing is computed from it. What is not published stays empty. The reader is strict,
because a damaged or unattributed number in a table is worse than none; `docs/tables.md` says how a row is written.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from flowbench.errors import DataError
from flowbench.layouts import Column

SCHEMA_VERSION = 1
#: The one tag a row may have: it was printed. Numbers that were derived, assumed or measured otherwise have no place here.
PUBLISHED = "P"
#: Mark after a method whose numbers were read in a copy.
COPY_MARK = "†"

#: `direct`: read in a text about the very paper that printed it. `copy`: read in a leaderboard or another paper that repeats it.
Confidence = Literal["direct", "copy"]
CONFIDENCES: tuple[Confidence, ...] = ("direct", "copy")
#: Largest value that can be printed, by unit.
_LARGEST = {"percent": 100, "fraction": 1, "tasks": 5}


@dataclass(frozen=True)
class Source:
    """Where a number was printed, and where it was read.

    Attributes:
        paper: Title or common name.
        table: Which table or text of it.
        read_in: What was read.
        arxiv: arXiv number; may be empty.
    """

    paper: str
    table: str
    read_in: str
    arxiv: str = ""

    @property
    def text(self) -> str:
        """The source as a footnote."""
        number = f", arXiv {self.arxiv}" if self.arxiv else ""
        return f"{self.paper}{number}, {self.table}; read in {self.read_in}"


@dataclass(frozen=True)
class PublishedRow:
    """One method's published numbers from one source.

    Attributes:
        method: Name of the method, as printed.
        values: Column key -> number as printed; columns that are not published are absent.
        source: Where it was printed and read.
        tag: `P`, published.
        confidence: `direct` or `copy`.
        setting: What distinguishes it, such as the training data; may be empty.
        protocol: How it was measured, as far as it is known; may be empty.
        n: Number of episodes, as far as it is known; may be empty.
        unit: `percent`, or `fraction` where the paper prints 0.69 for 69 %.
        approximate: Whether the source says `about`.
        group: Heading below which it stands.
    """

    method: str
    values: Mapping[str, str]
    source: Source
    tag: str
    confidence: Confidence
    setting: str = ""
    protocol: str = ""
    n: str = ""
    unit: Literal["percent", "fraction"] = "percent"
    approximate: bool = False
    group: str = ""

    def text(self, column: Column) -> str:
        """Return the number for a column as it is shown; empty if it is not published."""
        printed = self.values.get(column.key)
        if printed is None:
            return ""
        if column.unit == "percent" and self.unit == "fraction":
            printed = f"{Decimal(printed).scaleb(2):f}"
        return f"about {printed}" if self.approximate else printed


def load_published(resource: str, columns: Sequence[Column]) -> tuple[PublishedRow, ...]:
    """Read and check a file of published rows.

    Args:
        resource: `package:path/file.toml`, or the path of a file.
        columns: The columns that its values may name.

    Raises:
        DataError: If it cannot be read, or a row is incomplete, unknown or impossible.
    """
    reader = _Reader(resource, {column.key: column for column in columns})
    data = reader.read()
    version = data.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise reader.damaged(f"its schema_version is {version!r}; this FlowBench reads {SCHEMA_VERSION}")
    sources = {key: reader.source(key, entry) for key, entry in reader.table(data, "sources").items()}
    defaults = reader.table(data, "defaults") if "defaults" in data else {}
    entries = data.pop("rows", None)
    if not isinstance(entries, list) or not entries:
        raise reader.damaged("it has no [[rows]]")
    if data:
        raise reader.damaged(f"it has unknown entries {', '.join(map(repr, data))}")
    rows = tuple(reader.row(number, {**defaults, **entry}, sources) for number, entry in enumerate(entries, start=1))
    seen: set[tuple[str, str, Source]] = set()
    for row in rows:
        key = (row.method, row.setting, row.source)
        if key in seen:
            raise reader.damaged(f"it has two rows of {row.method!r} ({row.setting}) from the same source")
        seen.add(key)
    return rows


class _Reader:
    """Reads one file; every error names it and says what to do."""

    def __init__(self, resource: str, columns: Mapping[str, Column]) -> None:
        self.resource, self.columns = resource, columns

    def damaged(self, what: str) -> DataError:
        return DataError(
            f"The published rows in {self.resource} are damaged: {what}. Correct the file (docs/tables.md says how a row is "
            "written) or install FlowBench again; --no-published leaves them out."
        )

    def read(self) -> dict[str, Any]:
        package, separator, path = self.resource.partition(":")
        try:
            # A path of one letter before the colon is a Windows drive.
            place = files(package).joinpath(path) if separator and len(package) > 1 else Path(self.resource)
            return tomllib.loads(place.read_text(encoding="utf-8"))
        except (OSError, ModuleNotFoundError) as error:
            raise self.damaged(f"it cannot be read ({error})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise self.damaged(f"it is not valid TOML ({error})") from error

    def table(self, data: dict[str, Any], name: str) -> dict[str, Any]:
        found = data.pop(name, None)
        if not isinstance(found, dict):
            raise self.damaged(f"it has no [{name}]")
        return found

    def source(self, key: str, entry: Any) -> Source:
        texts = self.texts(f"source {key!r}", entry, Source, required=("paper", "table", "read_in"))
        return Source(**texts)

    def row(self, number: int, entry: dict[str, Any], sources: Mapping[str, Source]) -> PublishedRow:
        where = f"row {number} ({entry.get('method', 'without a method')})"
        values, approximate = entry.pop("values", None), entry.pop("approximate", False)
        texts = self.texts(where, entry, PublishedRow, required=("method", "source", "tag", "confidence"))
        if texts["tag"] != PUBLISHED:
            raise self.damaged(
                f"{where} has tag {texts['tag']!r}; only published numbers, tag {PUBLISHED!r}, are shown"
            )
        if texts["source"] not in sources:
            raise self.damaged(f"{where} names source {texts['source']!r}; there are {', '.join(sources) or 'none'}")
        if texts["confidence"] not in CONFIDENCES:
            raise self.damaged(f"{where} has confidence {texts['confidence']!r}; allowed: {', '.join(CONFIDENCES)}")
        if texts.get("unit", "percent") not in ("percent", "fraction"):
            raise self.damaged(f"{where} has unit {texts['unit']!r}; allowed: percent, fraction")
        if not isinstance(approximate, bool):
            raise self.damaged(f"{where} has approximate = {approximate!r}; write true or false")
        if not isinstance(values, dict) or not values:
            raise self.damaged(f"{where} has no values")
        for key, value in values.items():
            self.check_value(where, key, value, texts.get("unit", "percent"))
        texts["source"] = sources[texts["source"]]
        return PublishedRow(values=values, approximate=approximate, **texts)

    def check_value(self, where: str, key: str, value: Any, row_unit: str) -> None:
        if key not in self.columns:
            raise self.damaged(f"{where} has a value for {key!r}; the columns are {', '.join(self.columns)}")
        column_unit = self.columns[key].unit
        largest = _LARGEST[row_unit if column_unit == "percent" else column_unit]
        if not isinstance(value, str) or not re.fullmatch(r"\d+(\.\d+)?", value) or Decimal(value) > largest:
            raise self.damaged(
                f'{where} has {key} = {value!r}; write the number as printed, in quotes, from "0" to "{largest}"'
            )

    def texts(self, where: str, entry: Any, kind: type, required: Sequence[str]) -> dict[str, Any]:
        """Check that an entry has the required fields, no unknown ones, and only texts."""
        if not isinstance(entry, dict):
            raise self.damaged(f"{where} is no table")
        known = {field.name for field in fields(kind)}
        for name in required:
            if not entry.get(name):
                raise self.damaged(f"{where} has no {name}")
        for name, value in entry.items():
            if name not in known:
                raise self.damaged(f"{where} has an unknown field {name!r}; known: {', '.join(sorted(known))}")
            if not isinstance(value, str):
                raise self.damaged(f"{where} has {name} = {value!r}; write it in quotes")
        return dict(entry)
