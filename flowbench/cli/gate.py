"""`flowbench baseline` and `flowbench gate`: keep what a run scored, and hold later runs against it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowbench.cli.output import write_or_print
from flowbench.errors import BadValue, FlowBenchError
from flowbench.manifest import command_line

if TYPE_CHECKING:
    from flowbench.baseline import Baseline
    from flowbench.gate import GateOptions, GateResult

#: Seconds between two looks at a run that is going on.
POLL_SECONDS = 5.0


@click.command(
    "baseline",
    short_help="Write what later runs are held against.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write, e.g. baseline.json.")
@click.option("--counts-only", is_flag=True, help="Leave out single outcomes; only rates can then be compared.")
def baseline(runs: tuple[Path, ...], out: Path, counts_only: bool) -> None:
    """Write the small file that flowbench gate compares later runs with, from finished RUNs of one agent.

    \b
    Example:
      flowbench baseline results/runs/toy-scripted --out results/baselines/toy-scripted.json
    """
    from flowbench.baseline import Baseline
    from flowbench.outcomes import RunOutcomes

    made = Baseline.of([RunOutcomes.read(folder) for folder in runs], outcomes=not counts_only)
    write_or_print(made.to_json(), out)


@click.command(
    "gate",
    short_help="Hold a run against a baseline, by exit code.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--baseline", "baseline_path", required=True, type=click.Path(path_type=Path), help="Made by flowbench baseline."
)
@click.option("--margin", type=float, default=0.05, show_default=True, help="Loss of success rate that is tolerated.")
@click.option(
    "--alpha", type=float, default=0.05, show_default=True, help="Chance of a false alarm, and of a false pass."
)
@click.option(
    "--exact", is_flag=True, help="Every outcome and number of steps must be the baseline's (deterministic agents)."
)
@click.option("--sequential", is_flag=True, help="Judge an unfinished run; may be asked again after every episode.")
@click.option("--follow", is_flag=True, help="With --sequential: wait for the verdict of a run that is going on.")
@click.option(
    "--patience",
    type=float,
    default=600.0,
    show_default=True,
    help="With --follow: give up after so many seconds without a new episode.",
)
@click.option("--unpaired", is_flag=True, help="Compare rates where the scenarios are not the baseline's.")
@click.option(
    "--errors",
    type=click.Choice(["exclude", "failure"]),
    default="exclude",
    show_default=True,
    help="Leave out error episodes, or count them as failures.",
)
@click.option("--max-errors", type=int, default=0, show_default=True, help="Error episodes that are accepted.")
@click.option("--allow-different", is_flag=True, help="Accept other rules, or a run of a part of the baseline.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the verdict to this file.")
def gate(
    runs: tuple[Path, ...],
    baseline_path: Path,
    margin: float,
    alpha: float,
    exact: bool,
    sequential: bool,
    follow: bool,
    patience: float,
    unpaired: bool,
    errors: str,
    max_errors: int,
    allow_different: bool,
    json_path: Path | None,
) -> int:
    """Hold RUN against a baseline and exit with the verdict; several RUNs of one agent count as one.

    \b
    Exit codes:
      0  held, or better
      1  regression (with --exact also: changed)
      2  wrong usage
      3  underpowered: too few episodes to tell
      4  not comparable: other suite, rules or scenarios, unfinished, or errors
    \b
    Examples:
      flowbench gate r1 --baseline results/baselines/toy-scripted.json
      flowbench gate r1 --baseline b.json --margin 0.1 --json verdict.json
      flowbench gate r1 --baseline b.json --sequential --follow
    """
    from flowbench.baseline import Baseline
    from flowbench.gate import GateOptions

    modes = [name for name, given in (("exact", exact), ("sequential", sequential), ("unpaired", unpaired)) if given]
    if len(modes) > 1:
        raise BadValue(f"--{modes[0]} and --{modes[1]} exclude each other.")
    if follow and not sequential:
        raise BadValue("--follow needs --sequential: only its verdict may be asked for again and again.")
    mode = modes[0] if modes else "paired"
    options = GateOptions(margin, alpha, mode, errors, max_errors, allow_different)
    held_against = Baseline.read(baseline_path)
    judged = _follow(runs, held_against, options, patience) if follow else _judge(runs, held_against, options)
    command = command_line()
    click.echo(judged.to_markdown(command), nl=False)
    if json_path is not None:
        write_or_print(judged.to_json(command), json_path)
    return judged.exit_code


def _judge(runs: tuple[Path, ...], baseline: Baseline, options: GateOptions) -> GateResult:
    from flowbench.gate import gate as judge
    from flowbench.outcomes import RunOutcomes

    return judge([RunOutcomes.read(folder) for folder in runs], baseline, options)


def _follow(runs: tuple[Path, ...], baseline: Baseline, options: GateOptions, patience: float) -> GateResult:
    """Judge again and again until there is a verdict, the run is finished, or nothing comes in any more."""
    size, since = -1, time.monotonic()
    while True:
        waited = time.monotonic() - since
        try:
            judged = _judge(runs, baseline, options)
        except FlowBenchError:
            # The run may not have begun yet.
            if waited > patience:
                raise
        else:
            if judged.verdict != "underpowered" or judged.finished or waited > patience:
                return judged
        now = sum(path.stat().st_size for folder in runs if (path := folder / "episodes.jsonl").exists())
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(min(POLL_SECONDS, max(patience, 0.01)))
