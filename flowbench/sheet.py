"""A table as people see it, between what was counted and how it is written.

Every kind of table (per run, per paper layout) becomes a `Sheet`, and every format reads nothing else; a new kind gets all
formats, and a new format gets all kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Shown where a run has no such number.
NOTHING = "-"


@dataclass(frozen=True)
class SheetCell:
    """One cell.

    Attributes:
        parts: Its texts; formats that can put them below each other do.
        published: Whether it was copied from a paper; such cells are set apart in every format.
    """

    parts: tuple[str, ...]
    published: bool = False


@dataclass(frozen=True)
class Span:
    """A heading above several columns.

    Attributes:
        text: The heading; may be empty.
        width: Number of columns below it.
        repeat: Whether formats without spanning headings repeat it at each of its columns, not only at the first.
    """

    text: str
    width: int
    repeat: bool = False


@dataclass(frozen=True)
class Line:
    """One line: its leading labels and its cells."""

    labels: tuple[str, ...]
    cells: tuple[SheetCell, ...]


@dataclass(frozen=True)
class Group:
    """Lines that belong together, under a heading that may be empty."""

    heading: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Sheet:
    """A table, ready to be written.

    Attributes:
        caption: What the numbers are.
        labels: Headings of the leading columns.
        spans: Headings above the others; empty for none.
        headings: Headings of the other columns.
        groups: The lines.
        notes: What a reader has to know.
        records: The same numbers unrounded and flat, for programs; all with the same keys.
        facts: What else a program wants to know, for JSON.
    """

    caption: str
    labels: tuple[str, ...]
    spans: tuple[Span, ...]
    headings: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sheet(self) -> Sheet:
        """Itself: a sheet is a `Table` that needs no counting."""
        return self


class Table(Protocol):
    """Anything that can be written as a table."""

    @property
    def sheet(self) -> Sheet:
        """The table as people see it."""
        ...
