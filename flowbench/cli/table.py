"""`flowbench table`: stored runs to a table that carries the command that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowbench.cli.parsing import parse_names
from flowbench.errors import BadValue
from flowbench.manifest import command_line


@click.command(
    "table", short_help="Print paper-style tables of runs.", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("runs", nargs=-1, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    default="generic",
    show_default=True,
    help="A paper's table (flowbench list layouts), package.module:OBJECT, or path/to/file.py:OBJECT.",
)
@click.option(
    "--published/--no-published",
    default=None,
    help="Show the layout's published rows below the runs.  [default: published]",
)
@click.option("--per-camera", is_flag=True, help="In a paper's table, a row per camera pose besides their mean.")
@click.option(
    "--by",
    help="In the generic table, comma-separated breakdowns: task, camera, task-camera, overall, chain, instruction.  "
    "[default: task, camera if several, overall]",
)
@click.option(
    "--metrics",
    help="In the generic table, comma-separated numbers that agents counted (replans, planning_s, ...), or all: their means.",
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
    "--merge",
    is_flag=True,
    help="Show runs that are parts of one evaluation (other tasks, cameras, seeds or initial states) as one.",
)
@click.option(
    "--allow-mixed",
    is_flag=True,
    help="Accept runs of different suites, protocols, horizons, simulator versions or renderers, under a note.",
)
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Accept runs that lack tasks of the layout; those cells, and means over them, stay empty.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file instead of printing.")
def table(runs: tuple[Path, ...], **options: Any) -> None:
    """Print the success rates of RUN folders, with n, errors and 95 % intervals.

    The generic table has a column per run. A layout has the rows and columns of a paper's table, with the paper's own
    numbers below those of the runs; without a RUN it shows the paper's numbers alone.

    \b
    Examples:
      flowbench table results/runs/toy-scripted-1a2b3c4d
      flowbench table r1 r2 --by task-camera,overall
      flowbench table r1 --layout avdc-metaworld --per-camera
      flowbench table spatial object goal long --layout libero --format latex --out results/tables/libero.tex
      flowbench table --layout visaflow-calvin
      flowbench table r1 --layout cameras
      flowbench table r1 --errors failure --format csv
      flowbench table avdc --metrics replans,planning_s,model_calls
      flowbench table states-0-4 states-5-9 --merge
    """
    # Imported here so that --help needs no pandas.
    from flowbench.atomic import write_text_atomically
    from flowbench.table_formats import FORMATS

    out = options["out"]
    if out is not None and out.is_dir():
        raise BadValue(f"--out {out} is a folder; give the name of a file.")
    made = _generic(runs, options) if options["layout"] == "generic" else _of_layout(runs, options)
    text = FORMATS[options["format_"]](made, command_line())
    if out is None:
        click.echo(text, nl=False)
        return
    write_text_atomically(out, text)
    click.echo(f"Wrote {out}", err=True)


def _generic(runs: tuple[Path, ...], options: dict[str, Any]) -> Any:
    from flowbench.tables import aggregate

    if not runs:
        raise click.UsageError("Missing argument 'RUN...'. Only a layout can be shown without a run: see --layout.")
    if options["published"]:
        raise BadValue("The generic table has no published rows. Choose a paper's table with --layout.")
    for name in ("per_camera", "allow_missing"):
        if options[name]:
            raise BadValue(f"--{name.replace('_', '-')} belongs to a paper's table; choose one with --layout.")
    by = parse_names(options["by"]) if options["by"] else None
    summaries = _read(runs, options["merge"])
    made = aggregate(summaries, by, errors=options["errors"], allow_mixed=options["allow_mixed"])
    if not options["metrics"]:
        return made
    from flowbench.metric_table import with_metrics

    return with_metrics(made, summaries, parse_names(options["metrics"]))


def _of_layout(runs: tuple[Path, ...], options: dict[str, Any]) -> Any:
    from flowbench.layouts import get_layout
    from flowbench.paper_table import TableOptions, paper_table

    layout = get_layout(options["layout"])
    if options["metrics"]:
        raise BadValue(f"--metrics belongs to the generic table; layout {layout.name} has its own columns.")
    if options["by"]:
        raise BadValue(f"--by belongs to the generic table; layout {layout.name} has its own columns.")
    if options["published"] and not layout.published:
        raise BadValue(f"Layout {layout.name} has no published rows; leave out --published.")
    table_options = TableOptions(
        published=options["published"] is not False,
        per_camera=options["per_camera"],
        errors=options["errors"],
        allow_mixed=options["allow_mixed"],
        allow_missing=options["allow_missing"],
    )
    return paper_table(layout, _read(runs, options["merge"]), table_options)


def _read(runs: tuple[Path, ...], merge: bool) -> list[Any]:
    from flowbench.tables import RunSummary

    return RunSummary.read_merged(runs) if merge else [RunSummary.read(folder) for folder in runs]
