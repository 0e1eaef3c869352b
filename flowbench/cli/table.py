"""`flowbench table`: stored runs to a table that carries the command that made it."""

from __future__ import annotations

from pathlib import Path

import click

from flowbench.cli.parsing import parse_names
from flowbench.errors import BadValue
from flowbench.manifest import command_line


@click.command("table", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--by",
    help="Comma-separated breakdowns: task, camera, task-camera, overall.  [default: task, camera if several, overall]",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["md", "csv", "latex", "html", "json"]),
    default="md",
    show_default=True,
    help="csv and json hold one unrounded score per line or object.",
)
@click.option(
    "--errors",
    type=click.Choice(["exclude", "failure"]),
    default="exclude",
    show_default=True,
    help="Leave error episodes out of n, or count them as failures (AVDC's published accounting).",
)
@click.option(
    "--allow-mixed", is_flag=True, help="Accept runs of different suites, protocols or horizons, under a note."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file instead of printing.")
def table(
    runs: tuple[Path, ...], by: str | None, format_: str, errors: str, allow_mixed: bool, out: Path | None
) -> None:
    """Print the success rates of one or more RUN folders side by side, with n, errors and 95 % Wilson intervals.

    \b
    Examples:
      flowbench table results/runs/toy-scripted-1a2b3c4d
      flowbench table r1 r2 --by task-camera,overall
      flowbench table r1 --format latex --out results/tables/r1.tex
      flowbench table r1 --errors failure --format csv
    """
    # Imported here so that --help needs no pandas.
    from flowbench.table_formats import FORMATS
    from flowbench.tables import RunSummary, aggregate

    if out is not None and out.is_dir():
        raise BadValue(f"--out {out} is a folder; give the name of a file.")
    summaries = [RunSummary.read(folder) for folder in runs]
    score_table = aggregate(summaries, parse_names(by) if by else None, errors=errors, allow_mixed=allow_mixed)
    text = FORMATS[format_](score_table, command_line())
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadValue(f"--out {out} cannot be written: {error.strerror or error}.") from error
    click.echo(f"Wrote {out}", err=True)
