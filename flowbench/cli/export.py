"""`flowbench export`: a run for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from flowbench.errors import BadValue

#: Where exports go unless --out says otherwise; git ignores it with the runs.
DEFAULT_EXPORTS = Path("results") / "runs" / "exports"


@click.command(
    "export", short_help="Write a run for other programs.", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["lm-eval-json", "csv", "parquet", "wandb"]),
    required=True,
    help="lm-eval-json: rates, as lm-evaluation-harness writes them; csv, parquet: one row per episode; wandb: both.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write. For lm-eval-json, a .json file, or a folder that also gets the samples of each task; for wandb, the "
    f"folder of its files.  [default: in {DEFAULT_EXPORTS}]",
)
@click.option("--project", default="flowbench", show_default=True, help="Project in Weights & Biases.")
def export(run: Path, format_: str, out: Path | None, project: str) -> None:
    """Write the finished episodes of a RUN folder for other programs.

    A file is replaced in one step, so that a reader never sees half of it. Parquet and Weights & Biases need extras:
    pip install 'flowbench[parquet,wandb]'.

    \b
    Examples:
      flowbench export r1 --format csv --out r1.csv
      flowbench export r1 --format parquet --out r1.parquet
      flowbench export r1 --format lm-eval-json --out results_r1.json
      flowbench export r1 --format lm-eval-json --out r1-lm-eval
      WANDB_MODE=offline flowbench export r1 --format wandb --project my-paper
    """
    # Imported here so that --help needs no pandas.
    from flowbench.export import FILE_FORMATS, log_to_wandb
    from flowbench.store import ResultStore

    stored = ResultStore.read(run)
    if not stored.results:
        raise BadValue(
            f"{run} holds a run without a finished episode. Go on with it by its own command: {stored.manifest.command}"
        )
    name = run.resolve().name
    if format_ == "wandb":
        click.echo(f"Logged to {log_to_wandb(stored, project, out or DEFAULT_EXPORTS)}", err=True)
        return
    write, extension = FILE_FORMATS[format_]
    for path in write(stored, out or DEFAULT_EXPORTS / f"{name}{extension}"):
        click.echo(f"Wrote {path}", err=True)
    if missing := len(stored.missing()):
        click.echo(f"Warning: {run} is not finished: {missing} episodes have no result yet.", err=True)
