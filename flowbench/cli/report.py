"""`flowbench report`: stored runs to one page that can be mailed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowbench.manifest import command_line


@click.command(
    "report", short_help="Make one HTML page about runs.", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="Page; replaced if there."
)
@click.option(
    "--videos",
    type=click.Choice(["failures", "all", "none"]),
    default="failures",
    show_default=True,
    help="Show recorded videos of these episodes (flowbench eval --record).",
)
@click.option(
    "--max-video-mb",
    type=float,
    default=20.0,
    show_default=True,
    help="Embed at most this much of videos, and as much of pictures; the rest is linked.",
)
@click.option(
    "--training-log",
    "training_logs",
    multiple=True,
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="Draw the columns of this file over its column step; may be repeated.",
)
@click.option("--pictures", type=click.Path(path_type=Path), help="Show the pictures in this folder.")
@click.option(
    "--plots", type=click.Path(path_type=Path), help="Also draw the charts into this folder, as PNG and SVG for papers."
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
def report(runs: tuple[Path, ...], **options: Any) -> None:
    """Write one HTML page about one or more RUN folders; it needs no network and no other file.

    It shows success by task and camera pose with 95 % intervals, videos of failures, episode lengths, errors, and what was
    run with what.

    \b
    Examples:
      flowbench report results/runs/toy-scripted-1a2b3c4d
      flowbench report r1 r2 --out r1-r2.html --plots figures
      flowbench report r1 --training-log logs/sof.csv --pictures flows --max-video-mb 50
    """
    # Imported here so that --help needs no pandas.
    from flowbench.report import ReportOptions, collect, write_page

    out: Path = options["out"]
    report_options = ReportOptions(
        videos=options["videos"],
        max_video_mb=options["max_video_mb"],
        training_logs=options["training_logs"],
        pictures=options["pictures"],
        errors=options["errors"],
        allow_mixed=options["allow_mixed"],
    )
    if options["plots"] is not None:
        from flowbench.figures import check_matplotlib

        check_matplotlib("--plots")
    content = collect(runs, out.parent, report_options)
    write_page(content, out, command_line())
    for problem in content.problems:
        click.echo(f"Warning: {problem}", err=True)
    click.echo(f"Wrote {out} ({out.stat().st_size / 1e6:.1f} MB)", err=True)
    if options["plots"] is not None:
        from flowbench.report.plots import save_plots

        written = save_plots(content, options["plots"])
        click.echo(f"Wrote {len(written)} plots to {options['plots']}", err=True)
