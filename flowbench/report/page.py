"""The report as one HTML file: a template, a style sheet and a script, with no address to load anything from.

Names, instructions and error texts come from users, plug-ins and simulators. The template escapes all of them, and the
page's own policy lets a browser run nothing but the script whose hash it holds, and load nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from flowbench import __version__
from flowbench.atomic import write_text_atomically
from flowbench.report import charts
from flowbench.report.content import Report
from flowbench.report.media import PICTURE_TYPES
from flowbench.tables import Score

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


def render(report: Report, command: str = "") -> str:
    """Return the report as an HTML page.

    Args:
        report: What it says.
        command: The command that made it, for its foot.
    """
    from markupsafe import Markup

    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            command=command,
            version=__version__,
            style=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=digest,
            title=_title(report),
            charts=charts,
        )
    )


def write_page(report: Report, path: Path, command: str = "") -> None:
    """Write the page; an existing file is replaced when the new one is complete.

    Raises:
        BadValue: If it cannot be written.
    """
    write_text_atomically(path, render(report, command))


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": _percent,
        "interval": _interval,
        "amount": _amount,
        "breakable": _breakable,
        "picture_type": lambda name: PICTURE_TYPES[Path(name).suffix.lower()],
        "spec_json": lambda manifest: json.dumps(manifest.spec.to_json(), indent=2, ensure_ascii=False),
        "spaced": lambda items: ", ".join(str(item) for item in items),
    }
    return environment


def _title(report: Report) -> str:
    agents = dict.fromkeys(column.agent for column in report.board.columns)
    suites = dict.fromkeys(column.suite for column in report.board.columns)
    return f"{', '.join(agents)} on {', '.join(suites)}"


def _percent(rate: float) -> str:
    """Return a rate in percent; a dash for one of nothing."""
    return "–" if math.isnan(rate) else f"{100 * rate:.1f}"


def _interval(score: Score) -> str:
    return "" if math.isnan(score.rate) else score.interval


def _breakable(name: str) -> Markup:
    """Let a long name break behind its underscores, as it does behind hyphens."""
    from markupsafe import Markup

    return Markup("_<wbr>").join(name.split("_"))


def _amount(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, e.g. `1 video`, `1,200 videos`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
