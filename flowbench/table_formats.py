"""The formats of a table: Markdown, CSV, LaTeX, HTML and JSON.

The first line of each is the command that made it, as a comment of that format, so that a number found in a paper draft
can be made again. Names come from users and plug-ins, and are escaped. Numbers copied from papers are in italics.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable

from flowbench.sheet import Sheet, SheetCell, Table


def to_markdown(table: Table, command: str) -> str:
    """Render as a Markdown table with its notes as a list."""
    from tabulate import tabulate

    sheet = table.sheet
    header = [*sheet.labels, *_flat_headings(sheet)]
    body = []
    for group in sheet.groups:
        if group.heading:
            body.append([f"**{escape_markdown(group.heading)}**", *[""] * (len(header) - 1)])
        body += [[*map(escape_markdown, line.labels), *map(_markdown_cell, line.cells)] for line in group.lines]
    alignment = [*["left"] * len(sheet.labels), *["right"] * len(sheet.headings)]
    grid = tabulate(body, header, tablefmt="pipe", colalign=alignment, disable_numparse=True)
    notes = "\n".join(f"- {escape_markdown(note)}" for note in sheet.notes)
    return f"<!-- {_in_html_comment(command)} -->\n{escape_markdown(sheet.caption)}\n\n{grid}\n\n{notes}\n"


def to_csv(table: Table, command: str) -> str:
    """Render as CSV with one line per score and unrounded numbers; comment lines start with `#`."""
    sheet = table.sheet
    buffer = io.StringIO()
    for line in (command, sheet.caption, *sheet.notes):
        buffer.write(f"# {_one_line(line)}\n")
    writer = csv.DictWriter(buffer, list(sheet.records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in record.items()} for record in sheet.records)
    return buffer.getvalue()


def to_json(table: Table, command: str) -> str:
    """Render as JSON with unrounded numbers; its first field is the command."""
    sheet = table.sheet
    data = {
        "command": command,
        "schema_version": 1,
        "caption": sheet.caption,
        **sheet.facts,
        "rows": list(sheet.records),
        "notes": list(sheet.notes),
    }
    # The first line holds the command here, too.
    return "{" + json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)[len("{\n  ") :] + "\n"


def to_latex(table: Table, command: str) -> str:
    """Render as a LaTeX tabular for the booktabs package, shrunk to the line if it is wider, with its notes below."""
    sheet = table.sheet
    labels, width = len(sheet.labels), len(sheet.labels) + len(sheet.headings)
    output = [
        f"% {_one_line(command)}",
        "% needs \\usepackage{booktabs,graphicx}",
        f"% {_one_line(sheet.caption)}",
        # A paper's thirteen columns are twice as wide as a page.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * labels}{'r' * len(sheet.headings)}}}",
        r"\toprule",
    ]
    if sheet.spans:
        tops, rules, start = [""] * labels, [], labels + 1
        for span in sheet.spans:
            tops.append(rf"\multicolumn{{{span.width}}}{{c}}{{{escape_latex(span.text)}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + span.width - 1}}}" if span.text else "")
            start += span.width
        output += [" & ".join(tops) + r" \\", "".join(rules)]
    output.append(" & ".join(map(escape_latex, (*sheet.labels, *sheet.headings))) + r" \\")
    for group in sheet.groups:
        output.append(r"\midrule")
        if group.heading:
            output.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape_latex(group.heading)}}}}} \\")
        for line in group.lines:
            output.append(" & ".join([*map(escape_latex, line.labels), *map(_latex_cell, line.cells)]) + r" \\")
    output += [r"\bottomrule", r"\end{tabular}}"]
    notes = " ".join(escape_latex(note) for note in (sheet.caption, *sheet.notes))
    output += [r"\par\smallskip", rf"{{\footnotesize\sloppy {notes}\par}}"]
    return "\n".join(output) + "\n"


def to_html(table: Table, command: str) -> str:
    """Render as a small HTML page of its own."""
    sheet = table.sheet
    tall = ' rowspan="2"' if sheet.spans else ""
    stubs = "".join(f'<th{tall} scope="col">{html.escape(text)}</th>' for text in sheet.labels)
    subs = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in sheet.headings)
    spans = "".join(
        f'<th colspan="{span.width}" scope="colgroup">{html.escape(span.text)}</th>' for span in sheet.spans
    )
    head = f"<tr>{stubs}{spans}</tr>\n<tr>{subs}</tr>" if sheet.spans else f"<tr>{stubs}{subs}</tr>"
    width = len(sheet.labels) + len(sheet.headings)
    bodies = []
    for group in sheet.groups:
        rows = []
        if group.heading:
            rows.append(f'<tr><th class="group" colspan="{width}">{html.escape(group.heading)}</th></tr>')
        for line in group.lines:
            names = "".join(f'<th scope="row">{html.escape(text)}</th>' for text in line.labels)
            rows.append(f"<tr>{names}{''.join(map(_html_cell, line.cells))}</tr>")
        bodies.append("<tbody>\n" + "\n".join(rows) + "\n</tbody>")
    notes = "".join(f"<li>{html.escape(note)}</li>\n" for note in sheet.notes)
    return f"""<!-- {_in_html_comment(command)} -->
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{html.escape(sheet.caption)}</title>
<style>
body {{ font-family: sans-serif; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.2em 0.6em; text-align: right; }}
th[scope=row], th.group {{ text-align: left; font-weight: normal; }}
th.group, td.published {{ font-style: italic; }}
tbody, thead {{ border-bottom: 1px solid; }}
</style>
</head>
<body>
<table>
<caption>{html.escape(sheet.caption)}</caption>
<thead>
{head}
</thead>
{chr(10).join(bodies)}
</table>
<ul>
{notes}</ul>
</body>
</html>
"""


#: Format name on the command line -> renderer of (table, command).
FORMATS: dict[str, Callable[[Table, str], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "html": to_html,
    "json": to_json,
}


def _flat_headings(sheet: Sheet) -> list[str]:
    """Put each spanning heading before the first heading below it, or before all of them; escaped for Markdown."""
    # Brackets stay as they are in a heading: `success % [95 %]` is no link.
    headings = [re.sub(r"([\\|*`<>])", r"\\\1", _one_line(text)) for text in sheet.headings]
    start = 0
    for span in sheet.spans:
        for index in range(start, start + (span.width if span.repeat else 1)):
            headings[index] = f"{escape_markdown(span.text)}: {headings[index]}" if span.text else headings[index]
        start += span.width
    return headings


def _markdown_cell(cell: SheetCell) -> str:
    text = " ".join(cell.parts)
    if not cell.published:
        return text
    return f"*{escape_markdown(text)}*" if text else ""


def _latex_cell(cell: SheetCell) -> str:
    parts = [escape_latex(part) for part in cell.parts]
    if len(parts) > 1:
        first, *others = parts
        return rf"\shortstack[r]{{{first}" + "".join(rf"\\{{\scriptsize {part}}}" for part in others) + "}"
    text = "".join(parts)
    return rf"\textit{{{text}}}" if cell.published and text else text


def _html_cell(cell: SheetCell) -> str:
    kind = ' class="published"' if cell.published else ""
    return f"<td{kind}>{'<br>'.join(map(html.escape, cell.parts))}</td>"


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
    "†": r"\textdagger{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """Escape what LaTeX would read as a command; a leading bracket or star would be an argument of the row before."""
    # Two hyphens would be joined to a dash.
    escaped = "".join(_LATEX.get(character, character) for character in _one_line(text)).replace("--", "-{}-")
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(("[", "*")) else escaped


def _in_html_comment(text: str) -> str:
    """Keep a command from closing the comment that holds it."""
    return re.sub(r"--(!?)>", r"--\1&gt;", _one_line(text))


def _one_line(text: str) -> str:
    return re.sub(r"[\r\n]+", " ", text)
