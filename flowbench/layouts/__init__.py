"""Table layouts as data: which columns a paper's table has, and which episodes fill each.

A layout is a frozen object with no code of its own, so that a paper's table is added in a few lines: ours are in this
package, other people's come from the entry point group `flowbench.layouts`, from `package.module:OBJECT` or from
`path/to/file.py:OBJECT`. `docs/tables.md` shows one from beginning to end.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal

from flowbench.errors import BadValue, FlowBenchError, unknown_name
from flowbench.suite import load_object

LAYOUT_GROUP = "flowbench.layouts"
#: Name of the table that needs no layout: one column per run, one row per task and camera.
GENERIC = "generic"

Unit = Literal["percent", "tasks"]


@dataclass(frozen=True)
class Column:
    """One column of a paper's table.

    Attributes:
        key: Name in files of published rows and in JSON and CSV.
        heading: Name as the paper prints it, or nearly.
        suites: Suites whose episodes are averaged; empty for all suites of the layout.
        tasks: Tasks that are averaged; empty for all tasks of these suites.
        unit: `percent` for a success rate, `tasks` for a mean number of solved tasks.
        measured: Whether a run can fill it; otherwise only published numbers do.
        chain: The row of a table of chains that it shows, e.g. `3 in a row`; empty for a success rate.
    """

    key: str
    heading: str
    suites: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    unit: Unit = "percent"
    measured: bool = True
    chain: str = ""


@dataclass(frozen=True)
class Layout:
    """A paper's table.

    Attributes:
        name: Name on the command line.
        caption: First sentence of the caption.
        columns: The columns in order; or `tasks` or `cameras` for one column per task or camera pose of the runs, with
            their average as the last.
        rows: What a row is: a method, or, with one block per method, a task.
        suites: Suites that a run may have; empty for any.
        protocols: Protocols that the paper's numbers stand for; a run under another is mixed. Empty for any.
        cameras: Camera poses that the paper averages over; other ones are noted. Empty if it does not say.
        published: Resource `package:path/file.toml`, or path of a file, with the published rows; empty for none.
        methods_across: Whether the paper prints methods as columns.
        notes: What a reader of this layout has to know.
    """

    name: str
    caption: str
    columns: tuple[Column, ...] | Literal["tasks", "cameras"]
    rows: Literal["methods", "tasks"] = "methods"
    suites: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    published: str = ""
    methods_across: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns = self.columns
        if isinstance(columns, str) and columns not in ("tasks", "cameras"):
            raise BadValue(f"Layout {self.name} has columns {columns!r}; give a tuple of Column, 'tasks' or 'cameras'.")
        if not isinstance(columns, str):
            keys = [column.key for column in columns]
            if not keys or len(set(keys)) < len(keys):
                raise BadValue(f"Layout {self.name} needs columns with different keys; it has {keys}.")
        if self.rows == "tasks" and (columns != "cameras" or self.published or self.methods_across):
            raise BadValue(
                f"Layout {self.name} has tasks as rows; then its columns are 'cameras', without published rows."
            )

    @property
    def fillable(self) -> bool:
        """Whether any run can be shown."""
        return isinstance(self.columns, str) or any(column.measured for column in self.columns)


#: The last column of a layout whose other columns come from the runs.
AVERAGE = Column("average", "Average")


def layout_names() -> list[str]:
    """Return the names of every installed layout, `generic` first."""
    return [GENERIC, *sorted(_entries())]


def get_layout(name: str) -> Layout:
    """Return a layout by name, `package.module:OBJECT` or `path/to/file.py:OBJECT`.

    Raises:
        UnknownName: With the nearest name.
        BadValue: If what was named is no layout, or cannot be imported.
    """
    entries = _entries()
    path, _, attribute = name.partition(":")
    try:
        if name in entries:
            found = entries[name].load()
        elif path.endswith(".py") and attribute:
            found = _from_file(Path(path), attribute)
        elif attribute:
            found = load_object(name)
        else:
            step = (
                "A layout of your own is given as package.module:OBJECT or path/to/file.py:OBJECT; see docs/tables.md."
            )
            raise unknown_name("layout", name, [GENERIC, *entries], next_step=step)
    except (ImportError, SyntaxError, ValueError, OSError) as error:
        raise BadValue(f"Layout {name!r} could not be imported: {error}.") from error
    if not isinstance(found, Layout):
        raise BadValue(f"Layout {name!r} is a {type(found).__name__}; expected a flowbench.layouts.Layout.")
    return found


def _entries() -> dict[str, EntryPoint]:
    entries = {entry.name: entry for entry in entry_points(group=LAYOUT_GROUP)}
    if not entries:
        raise FlowBenchError("FlowBench's layouts are not installed: no entry points found. Run: pip install -e .")
    return entries


def _from_file(path: Path, attribute: str) -> object:
    if not path.is_file():
        raise BadValue(f"Layout file {str(path)!r} does not exist.")
    spec = importlib.util.spec_from_file_location(f"flowbench_layout_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        raise BadValue(f"Layout file {str(path)!r} defines no {attribute!r}.")
    return getattr(module, attribute)
