"""`flowbench diagnose ladder`: which part of a method loses what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowbench.errors import BadValue, unknown_name
from flowbench.manifest import command_line


@click.command(
    "ladder",
    short_help="Say what each part of a method loses.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--agent", default="avdc", show_default=True, help="An agent that has a ladder.")
@click.option("--suite", required=True, help="A name (flowbench list suites).")
@click.option(
    "--backend", help="What the suite runs on, where it can run on several (ithor12: unity, standin, recorded)."
)
@click.option("--tasks", help="Comma-separated tasks of the suite.  [default: all]")
@click.option("--cameras", help="Comma-separated camera poses.  [default: the suite's own]")
@click.option("--seeds", help="Scenario seeds, e.g. 0-4.")
@click.option("--init-states", help="Indices of stored initial states (LIBERO), e.g. 0-9.")
@click.option("--episodes", type=int, help="Scenarios per task and camera: the first N seeds or initial states.")
@click.option("--protocol", help="Rule set of the suite (flowbench list protocols SUITE).")
@click.option("--max-steps", type=int, help="Horizon instead of the protocol's.")
@click.option("--flow", default="dis", show_default=True, help="The flow estimator that is held responsible.")
@click.option("--flow-checkpoint", help="Weights of the flow estimator.")
@click.option("--planner", help="The planner that is held responsible; without one its rung is left out.")
@click.option("--checkpoint", help="Weights, or demonstrations, of the planner.")
@click.option("--rules", default="paper,robust", show_default=True, help="Flow-to-action rules to try.")
@click.option("--rungs", help="Comma-separated names of rungs to run; the table shows those that are complete.")
@click.option("--device", default="cpu", show_default=True, help="Device given to the agent.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes; 0 runs in this one.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the ladder; a rung is a run in it."
)
@click.option("--resume/--no-resume", default=True, show_default=True, help="Continue rungs that the folder holds.")
@click.option("--retry-errors", is_flag=True, help="Run episodes again whose last attempt was an error.")
@click.option(
    "--errors",
    type=click.Choice(["failure", "exclude"]),
    default="failure",
    show_default=True,
    help="Count error episodes as failures (AVDC's published accounting), or leave them out.",
)
@click.option("--dry-run", is_flag=True, help="Print the rungs and how many episodes each is; run nothing.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def ladder(**options: Any) -> None:
    """Run one method with every part perfect, then take the truth away part by part, and say what each step costs.

    The rungs of avdc, for each of its two rules: true object motion, exact flow of a perfect plan, estimated flow of a perfect
    plan, the imagined plan (with --planner), and a plan in one random direction; and the zero action for all (in navigation
    random actions, and the end at once). Each is an ordinary run in a folder of --out, so an interrupted ladder goes on where
    it stopped when the same command is run again. Writes ladder.md, ladder.json and ladder.png there.

    \b
    Examples:
      flowbench diagnose ladder --suite metaworld11 --cameras corner,corner2,corner3 --seeds 0-24 --workers 2 --out ladder
      flowbench diagnose ladder --suite metaworld11 --tasks door-open,hammer --episodes 5 --flow raft-small --out l1
      flowbench diagnose ladder --suite metaworld11 --planner retrieval --checkpoint demos.h5 --out l2
      flowbench diagnose ladder --suite libero-object --episodes 10 --rules robust --out l3
      flowbench diagnose ladder --suite ithor12 --backend standin --out l4
      flowbench diagnose ladder --suite metaworld11 --out l5 --dry-run
    """
    # Imported here so that --help needs no pandas.
    from flowbench.cli.eval import build_spec, eval_
    from flowbench.cli.parsing import parse_names
    from flowbench.evaluate import EvalOptions, check_options
    from flowbench.ladder import attribute, run_ladder
    from flowbench.rungs import rungs_of

    # What this command does not offer is as in `flowbench eval`; its agent is replaced in each rung.
    with eval_.make_context("eval", ["--agent", "zero", "--suite", options["suite"]]) as context:
        spec = build_spec({**context.params, **options, "agent": "zero", "checkpoint": None})
    rungs = rungs_of(
        options["agent"],
        flow=options["flow"],
        flow_checkpoint=options["flow_checkpoint"],
        planner=options["planner"],
        checkpoint=options["checkpoint"],
        rules=parse_names(options["rules"]),
        suite=spec.suite,
    )
    chosen = _chosen(rungs, options["rungs"])
    eval_options = EvalOptions(
        workers=options["workers"],
        device=options["device"],
        resume=options["resume"],
        retry_errors=options["retry_errors"],
        progress=not options["quiet"],
    )
    check_options(spec, eval_options)
    if options["dry_run"]:
        for rung in chosen:
            arguments = ", ".join(f"{name}={value}" for name, value in rung.arguments.items())
            click.echo(f"{rung.name}: {rung.says} ({rung.agent}{': ' if arguments else ''}{arguments})")
        click.echo(f"{len(chosen)} rungs of {len(spec.episodes())} episodes each.")
        return
    out: Path = options["out"]
    if out.is_file():
        raise BadValue(f"--out {out} is a file; a ladder needs a folder.")
    run_ladder(chosen, spec, out, eval_options)
    complete = [rung for rung in rungs if (out / rung.name / "episodes.jsonl").is_file()]
    report = attribute(options["agent"], complete, [out / rung.name for rung in complete], errors=options["errors"])
    _write(report, out)


def _chosen(rungs: tuple[Any, ...], names: str | None) -> list[Any]:
    from flowbench.cli.parsing import parse_names

    by_name = {rung.name: rung for rung in rungs}
    for name in parse_names(names or ""):
        if name not in by_name:
            raise unknown_name("rung", name, by_name, "This ladder")
    return [by_name[name] for name in parse_names(names)] if names else list(rungs)


def _write(report: Any, out: Path) -> None:
    from flowbench.atomic import write_text_atomically
    from flowbench.errors import MissingExtra
    from flowbench.ladder_picture import draw_ladder
    from flowbench.table_formats import to_json, to_markdown

    command = command_line()
    text = to_markdown(report, command)
    click.echo(text, nl=False)
    by_task = to_markdown(report.by_task, command).partition("\n")[2]
    write_text_atomically(out / "ladder.md", f"{text}\n{by_task.rstrip()}\n")
    write_text_atomically(out / "ladder.json", to_json(report, command))
    written = ["ladder.md", "ladder.json"]
    try:
        draw_ladder(report, out / "ladder.png")
        written.append("ladder.png")
    except MissingExtra as error:
        click.echo(f"No picture: {error}", err=True)
    click.echo(f"Wrote {', '.join(written)} to {out}", err=True)
