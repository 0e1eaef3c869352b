"""`flowbench merge`: runs of parts of an evaluation become one run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("merge", short_help="Make one run of parts.", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder of the whole run.")
def merge(runs: tuple[Path, ...], out: Path) -> None:
    """Write the RUN folders, which are parts of one evaluation, as one run.

    Parts have the same agent, checkpoint, suite, rules and simulator, differ in one of tasks, cameras, seeds and initial
    states, and have no episode in common. The whole is a run like any other. flowbench table --merge shows parts as
    one without writing anything.

    \b
    Examples:
      flowbench eval --agent scripted --suite libero90 --init-states 0-4 --out a
      flowbench eval --agent scripted --suite libero90 --init-states 5-9 --out b
      flowbench merge a b --out ab
    """
    # Imported here so that --help needs no pandas.
    from flowbench.errors import BadValue
    from flowbench.merge import merge as merge_runs

    if len(runs) < 2:
        raise BadValue("A merge needs at least two runs: flowbench merge A B --out AB")
    manifest = merge_runs(runs, out)
    click.echo(f"Wrote {out}: {len(manifest.spec.episodes())} episodes of {len(runs)} runs.", err=True)
