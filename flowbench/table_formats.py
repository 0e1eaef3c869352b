"""The formats of a table: Markdown, CSV, LaTeX, HTML and JSON.

The first line of each is the command that made it, as a comment of that format, so that a number found in a paper draft
can be made again. Names come from users and plug-ins, and are escaped.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from flowbench.tables import Row, ScoreTable

_NOTHING = "-"


def _grid(table: ScoreTable) -> tuple[list[list[str]], list[list[str]]]:
    """Return per run its sub-headings, and per row its texts, for the formats that people read."""
    any_missing = any(score and score.missing for row in table.rows for score in row.scores)
    headings = ["n", "errors", *(["missing"] if any_missing else [])]
    lines = []
    for row in table.rows:
        line = [row.task, row.camera]
        for score in row.scores:
            if score is None:
                line += [_NOTHING] * (1 + len(headings))
            else:
                line += [score.text, str(score.n), str(score.errors)]
                line += [str(score.missing)] if any_missing else []
        lines.append(line)
    return [["success % [95 %]", *headings] for _ in table.columns], lines


def to_markdown(table: ScoreTable, command: str) -> str:
    """Render as a Markdown table with its notes as a list."""
    from tabulate import tabulate

    sub_headings, lines = _grid(table)
    header = ["task", "camera"]
    for column, (first, *others) in zip(table.columns, sub_headings):
        header += [f"{escape_markdown(column.label)}: {first}", *others]
    body = [[*map(escape_markdown, line[:2]), *line[2:]] for line in lines]
    alignment = ["left", "left", *["right"] * (len(header) - 2)]
    grid = tabulate(body, header, tablefmt="pipe", colalign=alignment, disable_numparse=True)
    notes = "\n".join(f"- {escape_markdown(note)}" for note in table.notes)
    return f"<!-- {_in_html_comment(command)} -->\n{escape_markdown(table.caption)}\n\n{grid}\n\n{notes}\n"


def to_csv(table: ScoreTable, command: str) -> str:
    """Render as CSV with one line per score and unrounded numbers; comment lines start with `#`."""
    buffer = io.StringIO()
    for line in (command, table.caption, *table.notes):
        buffer.write(f"# {_one_line(line)}\n")
    records = [_record(table, row, index) for row in table.rows for index in range(len(table.columns))]
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in record.items()} for record in records)
    return buffer.getvalue()


def to_json(table: ScoreTable, command: str) -> str:
    """Render as JSON with unrounded numbers; its first field is the command."""
    data = {
        "command": command,
        "schema_version": 1,
        "caption": table.caption,
        "errors_counted": table.errors,
        "runs": [asdict(column) for column in table.columns],
        "rows": [_record(table, row, index) for row in table.rows for index in range(len(table.columns))],
        "notes": list(table.notes),
    }
    # The first line holds the command here, too.
    return "{" + json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)[len("{\n  ") :] + "\n"


def to_latex(table: ScoreTable, command: str) -> str:
    """Render as a LaTeX tabular for the booktabs package, with its notes below."""
    sub_headings, lines = _grid(table)
    width = len(sub_headings[0])
    tops, rules, subs, start = ["", ""], [], ["task", "camera"], 3
    for column, headings in zip(table.columns, sub_headings):
        tops.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(column.label)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        subs += map(escape_latex, headings)
        start += width
    output = [
        f"% {_one_line(command)}",
        "% needs \\usepackage{booktabs}",
        f"% {_one_line(table.caption)}",
        rf"\begin{{tabular}}{{ll{('r' * width) * len(table.columns)}}}",
        r"\toprule",
        " & ".join(tops) + r" \\",
        "".join(rules),
        " & ".join(subs) + r" \\",
    ]
    previous = None
    for row, line in zip(table.rows, lines):
        if row.section != previous:
            output.append(r"\midrule")
        previous = row.section
        output.append(" & ".join(map(escape_latex, line)) + r" \\")
    output += [r"\bottomrule", r"\end{tabular}"]
    notes = " ".join(escape_latex(note) for note in (table.caption, *table.notes))
    output += [r"\par\smallskip", rf"{{\footnotesize {notes}\par}}"]
    return "\n".join(output) + "\n"


def to_html(table: ScoreTable, command: str) -> str:
    """Render as a small HTML page of its own."""
    sub_headings, lines = _grid(table)
    spans = "".join(
        f'<th colspan="{len(headings)}" scope="colgroup">{html.escape(column.label)}</th>'
        for column, headings in zip(table.columns, sub_headings)
    )
    subs = "".join(f'<th scope="col">{html.escape(text)}</th>' for headings in sub_headings for text in headings)
    body = []
    previous = None
    for row, line in zip(table.rows, lines):
        if row.section != previous:
            body.append("</tbody><tbody>" if body else "<tbody>")
        previous = row.section
        names = "".join(f'<th scope="row">{html.escape(text)}</th>' for text in line[:2])
        body.append(f"<tr>{names}{''.join(f'<td>{html.escape(text)}</td>' for text in line[2:])}</tr>")
    notes = "".join(f"<li>{html.escape(note)}</li>\n" for note in table.notes)
    return f"""<!-- {_in_html_comment(command)} -->
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{html.escape(table.caption)}</title>
<style>
body {{ font-family: sans-serif; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.2em 0.6em; text-align: right; }}
th[scope=row] {{ text-align: left; font-weight: normal; }}
tbody, thead {{ border-bottom: 1px solid; }}
</style>
</head>
<body>
<table>
<caption>{html.escape(table.caption)}</caption>
<thead>
<tr><th rowspan="2" scope="col">task</th><th rowspan="2" scope="col">camera</th>{spans}</tr>
<tr>{subs}</tr>
</thead>
{chr(10).join(body)}
</tbody>
</table>
<ul>
{notes}</ul>
</body>
</html>
"""


#: Format name on the command line -> renderer of (table, command).
FORMATS: dict[str, Callable[[ScoreTable, str], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "html": to_html,
    "json": to_json,
}


def _record(table: ScoreTable, row: Row, index: int) -> dict[str, Any]:
    """Return one score as flat, machine-readable fields; None stands for what does not exist."""
    column, score = table.columns[index], row.scores[index]
    empty = score is None or math.isnan(score.rate)
    return {
        "by": row.section,
        "task": row.task,
        "camera": row.camera,
        "run": column.name,
        "agent": column.agent,
        "privileged": column.privileged,
        "suite": column.suite,
        "protocol": column.protocol,
        "profile": column.profile,
        "success_rate": None if empty else score.rate,
        "success_rate_ci95_low": None if empty else score.low,
        "success_rate_ci95_high": None if empty else score.high,
        "n": score.n if score else None,
        "n_success": score.successes if score else None,
        "n_error": score.errors if score else None,
        "n_missing": score.missing if score else None,
    }


def escape_markdown(text: str) -> str:
    """Escape what Markdown would read as markup; underscores within words are plain in GitHub's dialect."""
    text = re.sub(r"([\\|*`<>\[\]])", r"\\\1", _one_line(text))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """Escape what LaTeX would read as a command; a leading bracket or star would be an argument of the row before."""
    escaped = "".join(_LATEX.get(character, character) for character in _one_line(text))
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(("[", "*")) else escaped


def _in_html_comment(text: str) -> str:
    """Keep a command from closing the comment that holds it."""
    return re.sub(r"--(!?)>", r"--\1&gt;", _one_line(text))


def _one_line(text: str) -> str:
    return re.sub(r"[\r\n]+", " ", text)
