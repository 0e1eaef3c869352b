"""`flowbench compare`: is run B better than run A, and which of several may be the best?"""

from __future__ import annotations

from pathlib import Path

import click

from flowbench.cli.output import write_or_print
from flowbench.manifest import command_line


@click.command(
    "compare",
    short_help="Say which run is better.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("run_a", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("run_b", metavar="RUN_B", type=click.Path(path_type=Path))
@click.argument("more", nargs=-1, metavar="[RUN...]", type=click.Path(path_type=Path))
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Level of the tests and intervals.")
@click.option(
    "--difference",
    type=float,
    default=0.05,
    show_default=True,
    help="With two runs: difference of success rates that matters, and how many more episodes would find it.",
)
@click.option(
    "--errors",
    type=click.Choice(["exclude", "failure"]),
    default="exclude",
    show_default=True,
    help="Leave out error episodes, or count them as failures.",
)
@click.option("--allow-different", is_flag=True, help="Compare runs of different suites, protocols or horizons.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["md", "csv", "latex", "html", "json"]),
    default="md",
    show_default=True,
    help="json also holds every flipped episode of two runs.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file instead of printing.")
def compare(
    run_a: Path,
    run_b: Path,
    more: tuple[Path, ...],
    alpha: float,
    difference: float,
    errors: str,
    allow_different: bool,
    format_: str,
    out: Path | None,
) -> None:
    """Compare the success of RUN_B with that of RUN_A, paired where they ran the same scenarios.

    With further runs, compare every pair on the scenarios that all of them ran, and name the runs that cannot be told apart
    from the best.

    \b
    Examples:
      flowbench compare results/runs/bc results/runs/sof
      flowbench compare r1 r2 --difference 0.1 --format json --out r1-r2.json
      flowbench compare r1 r2 r3 r4
    """
    # Imported here so that --help needs neither pandas nor SciPy.
    from flowbench.compare import compare as compare_runs
    from flowbench.outcomes import RunOutcomes
    from flowbench.table_formats import FORMATS

    runs = [RunOutcomes.read(folder) for folder in (run_a, run_b, *more)]
    if more:
        from flowbench.ranking import rank

        ranking = rank(runs, errors=errors, allow_different=allow_different, alpha=alpha)
        write_or_print(FORMATS[format_](ranking, command_line()), out)
        return
    a, b = runs
    comparison = compare_runs(a, b, errors=errors, allow_different=allow_different, alpha=alpha, difference=difference)
    write_or_print(FORMATS[format_](comparison, command_line()), out)
