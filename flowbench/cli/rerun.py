"""`flowbench rerun`: a run once more, and where it came out differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowbench.cli.eval import DEFAULT_RUNS

#: Some episode came out differently.
DIFFERS = 1


@click.command(
    "rerun",
    short_help="Run again and say what comes out differently.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--limit", type=int, help="Run at most N of its episodes again, spread over the tasks.")
@click.option(
    "--out", type=click.Path(path_type=Path), help=f"Folder of the rerun.  [default: {DEFAULT_RUNS}/RUN-rerun]"
)
@click.option(
    "--checkpoint", help="Where the checkpoint lies now, if it was moved; its content is checked all the same."
)
@click.option(
    "--allow-changed", is_flag=True, help="Go on with a checkpoint or agent file that is not the one the run used."
)
@click.option("--device", help="Device given to the agent.  [default: the run's]")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes; 0 runs in this one.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.pass_context
def rerun(ctx: click.Context, run: Path, **options: Any) -> None:
    """Run the evaluation of RUN, a folder or its manifest.json, again, and print each episode that came out differently.

    What has changed since then (checkpoint, package versions, renderer, source) is said as warnings. An interrupted rerun
    goes on where it stopped when the same command is run again.

    \b
    Exit codes: 0 every episode has the same status, steps and reward, 1 some differ, 2 wrong usage.

    \b
    Examples:
      flowbench rerun results/metaworld11-avdc-scripted --limit 22
      flowbench rerun r1/manifest.json --out r1-again --workers 2
      flowbench rerun r1 --checkpoint moved/model.pt --device cuda:0
    """
    # Imported here so that --help needs no numpy.
    from flowbench.evaluate import EvalOptions, evaluate
    from flowbench.rerun import check_folder, compare_outcomes, environment_differences, plan_rerun

    plan = plan_rerun(
        run,
        limit=options["limit"],
        checkpoint=options["checkpoint"],
        allow_changed=options["allow_changed"],
    )
    original = plan.original
    out = options["out"] or DEFAULT_RUNS / f"{original.folder.resolve().name}-rerun"
    check_folder(plan, out)
    for warning in plan.warnings:
        click.echo(f"Warning: {warning}", err=True)
    eval_options = EvalOptions(
        workers=options["workers"],
        device=options["device"] or original.manifest.device,
        progress=not options["quiet"],
    )
    again = evaluate(plan.spec, out, eval_options)
    for warning in environment_differences(original.manifest, again.manifest):
        click.echo(f"Warning: {warning}", err=True)
    report = compare_outcomes(original.results, again.results)
    for difference in report.differences:
        click.echo(difference.text)
    same = report.compared - len(report.differences)
    click.echo(f"{same} of {report.compared} episodes came out as in {original.folder}; the rerun lies in {out}.")
    if report.only_again:
        click.echo(
            f"{len(report.only_again)} episodes have no result in {original.folder}, such as {report.only_again[0]}."
        )
    if not report.identical:
        ctx.exit(DIFFERS)
