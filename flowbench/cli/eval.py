"""`flowbench eval`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowbench.camera import CameraPose, expand_sweep
from flowbench.cli.parsing import agent_spec, describe_checkpoint, parse_indices, parse_names, parse_size
from flowbench.errors import BadValue
from flowbench.recording import RECORD_MODES
from flowbench.registry import suite_on
from flowbench.spec import EvalSpec
from flowbench.suite import Suite

#: Where runs go unless --out says otherwise; git ignores it.
DEFAULT_RUNS = Path("results") / "runs"

#: More error episodes than --max-errors.
TOO_MANY_ERRORS = 5


@click.command(
    "eval", short_help="Evaluate an agent on a suite.", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--agent", required=True, help="A name (flowbench list agents), package.module:Class, or path/to/file.py:Class."
)
@click.option("--suite", required=True, help="A name (flowbench list suites).")
@click.option(
    "--backend", help="What the suite runs on, where it can run on several (ithor12: unity, standin, recorded)."
)
@click.option("--tasks", help="Comma-separated tasks of the suite.  [default: all]")
@click.option("--cameras", help="Comma-separated camera poses, e.g. corner,corner2+yaw15.  [default: the suite's own]")
@click.option(
    "--camera-sweep",
    help="Displace every camera, e.g. az=-20:20:10 (start:stop:step); offsets: flowbench list cameras SUITE.",
)
@click.option("--seeds", help="Scenario seeds, e.g. 0-4 or 0,3,10-12.")
@click.option("--init-states", help="Indices of stored initial states (LIBERO), e.g. 0-9.")
@click.option("--episodes", type=int, help="Scenarios per task and camera: the first N seeds or initial states.")
@click.option("--protocol", help="Rule set of the suite (flowbench list protocols SUITE).")
@click.option("--max-steps", type=int, help="Horizon instead of the protocol's.")
@click.option("--limit", type=int, help="At most N episodes, spread over the tasks.")
@click.option("--image-size", help="WIDTHxHEIGHT instead of the agent's or the suite's, e.g. 320x240.")
@click.option(
    "--image-view", type=click.Choice(["geometric", "policy"]), help="Image orientation instead of the protocol's."
)
@click.option(
    "--render-profile",
    type=click.Choice(["full", "fast"]),
    default="full",
    show_default=True,
    help="fast leaves out shadows, reflections and anti-aliasing; not for published numbers.",
)
@click.option("--clip-actions", is_flag=True, help="Clip out-of-range actions instead of counting an error; recorded.")
@click.option("--checkpoint", help="Checkpoint given to the agent.")
@click.option("--agent-args", default="", help="Constructor arguments, key=value,key=value.")
@click.option("--device", default="cpu", show_default=True, help="Device given to the agent.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes; 0 runs in this one, for debugging.")
@click.option("--executor", type=click.Choice(["local"]), default="local", show_default=True, help="Where workers run.")
@click.option(
    "--out", type=click.Path(path_type=Path), help=f"Result folder.  [default: {DEFAULT_RUNS}/SUITE-AGENT-HASH]"
)
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Continue a folder that holds the same evaluation."
)
@click.option("--retry-errors", is_flag=True, help="Run episodes again whose last attempt was an error.")
@click.option(
    "--record",
    type=click.Choice(RECORD_MODES),
    default="none",
    show_default=True,
    help="Store recordings of these episodes, or what the agent planned beside what happened; every step is then rendered.",
)
@click.option(
    "--record-format",
    default="mp4",
    show_default=True,
    help="Comma-separated: mp4 videos; rrd, with depth, camera and actions, for the Rerun viewer.",
)
@click.option(
    "--max-errors", type=int, default=0, show_default=True, help="Exit with 5 if more episodes than this are errors."
)
@click.option(
    "--episode-timeout", type=float, default=3600.0, show_default=True, help="Seconds until an episode counts as hung."
)
@click.option("--dry-run", is_flag=True, help="Preflight of every task only: nothing is stored.")
@click.option("--quiet", is_flag=True, help="No progress bar and no table.")
@click.pass_context
def eval_(ctx: click.Context, **options: Any) -> None:
    """Evaluate an agent on a suite and print its table.

    An interrupted evaluation goes on where it stopped when the same command is run again.

    \b
    Examples:
      flowbench eval --agent scripted --suite toy
      flowbench eval --agent scripted --suite metaworld11 --seeds 0-4 --cameras corner,corner2,corner3 --workers 2 --out r1
      flowbench eval --agent random --suite libero10 --episodes 2
      flowbench eval --agent my_agent.py:MyAgent --suite metaworld11 --tasks door-open --camera-sweep az=-20:20:10
      flowbench eval --agent scripted --suite metaworld11 --protocol avdc --dry-run
      flowbench eval --agent my_agent.py:MyAgent --suite toy --record failures --record-format mp4,rrd
      flowbench eval --agent scripted --suite ithor12 --backend standin --workers 2
    """
    # Imported here so that --help needs no pandas.
    from flowbench.evaluate import EvalOptions, check_options, count_errors, evaluate, run_preflight

    spec = build_spec(options)
    if not options["quiet"] and (description := describe_checkpoint(spec.agent)):
        click.echo(description, err=True)
    eval_options = EvalOptions(
        workers=options["workers"],
        device=options["device"],
        resume=options["resume"],
        retry_errors=options["retry_errors"],
        record=options["record"],
        record_formats=parse_names(options["record_format"]),
        episode_timeout_s=options["episode_timeout"] or None,
        progress=not options["quiet"],
    )
    check_options(spec, eval_options)
    if options["dry_run"]:
        report = run_preflight(spec, eval_options, thorough=True)
        _print_preflight(spec, report)
        return
    folder = options["out"] or DEFAULT_RUNS / f"{spec.suite}-{_slug(spec.agent.name)}-{spec.digest[:8]}"
    run = evaluate(spec, folder, eval_options)
    if not options["quiet"]:
        from flowbench.tables import print_summary

        print_summary(run)
    errors = count_errors(run.results)
    if errors:
        click.echo(
            f"{errors} episodes could not be carried out; see {folder / 'errors.log'}. Run them again with --retry-errors.",
            err=True,
        )
    if errors > options["max_errors"]:
        ctx.exit(TOO_MANY_ERRORS)


def build_spec(options: dict[str, Any]) -> EvalSpec:
    """Turn options into an evaluation.

    Raises:
        FlowBenchError: For a name or number that does not exist.
    """
    agent = agent_spec(options)
    suite = suite_on(options["suite"], options["backend"])
    rules = suite.rules(options["protocol"])
    cameras = tuple(CameraPose.parse(text) for text in parse_names(options["cameras"] or suite.default_view))
    if options["camera_sweep"]:
        cameras = expand_sweep(cameras, options["camera_sweep"])
    seeds, init_states = _scenarios(suite, options, rules.episodes)
    return EvalSpec(
        suite=suite.name,
        protocol=rules.name,
        agent=agent,
        tasks=parse_names(options["tasks"]) if options["tasks"] else tuple(task.name for task in suite.tasks),
        cameras=tuple(str(camera) for camera in cameras),
        seeds=seeds,
        init_states=init_states,
        limit=options["limit"],
        max_steps=options["max_steps"],
        image_size=parse_size(options["image_size"]) if options["image_size"] else None,
        image_view=options["image_view"],
        profile=options["render_profile"],
        clip_actions=options["clip_actions"],
        suite_version=suite.version,
    )


def _scenarios(suite: Suite, options: dict[str, Any], default: int) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the seeds and the initial states that the options ask for."""
    seeds, states, episodes = options["seeds"], options["init_states"], options["episodes"]
    if episodes is not None and episodes < 1:
        raise BadValue(f"--episodes is {episodes}; give a whole number from 1.")
    if suite.init_states is None:
        if states:
            raise BadValue(f"Suite {suite.name} stores no initial states; choose scenarios with --seeds or --episodes.")
        if seeds and episodes:
            raise BadValue("--episodes N stands for --seeds 0-(N-1) in this suite; give one of the two.")
        return parse_indices(seeds, "--seeds") if seeds else tuple(range(episodes or default)), None
    if states and episodes:
        raise BadValue("--episodes N stands for --init-states 0-(N-1) in this suite; give one of the two.")
    if episodes is not None and episodes > suite.init_states:
        raise BadValue(
            f"--episodes is {episodes}; suite {suite.name} stores {suite.init_states} initial states per task. More episodes "
            "come from more --seeds."
        )
    chosen = (
        parse_indices(states, "--init-states") if states else tuple(range(min(episodes or default, suite.init_states)))
    )
    return parse_indices(seeds, "--seeds") if seeds else (0,), chosen


def _slug(agent: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in agent.rsplit("/", 1)[-1]).strip("-")


def _print_preflight(spec: EvalSpec, report: Any) -> None:
    episodes = spec.episodes()
    click.echo(
        f"{spec.suite}, protocol {spec.protocol} (horizon {spec.rules.horizon}), agent {spec.agent.name}: ", nl=False
    )
    click.echo(
        f"{len(episodes)} episodes of {len(spec.tasks)} tasks x {len(spec.cameras)} cameras x {len(spec.scenarios)} scenarios."
    )
    click.echo(f"First episode: {episodes[0].id}")
    for camera, description in report.cameras.items():
        click.echo(f"Camera {camera}: {description}.")
    if not report.cameras:
        click.echo("The agent looks at no image; nothing is rendered.")
    if report.pixels:
        click.echo(f"Known frame: {report.pixels}.")
    for name, value in report.renderer.items():
        click.echo(f"{name}: {value}")
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(f"Preflight passed for {len(report.checked)} starts. Leave out --dry-run to run it.")
