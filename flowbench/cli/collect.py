"""`flowbench collect`: demonstrations of a suite in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowbench.camera import CameraPose, expand_sweep
from flowbench.cli.parsing import agent_spec, parse_indices, parse_names, parse_size
from flowbench.errors import BadValue
from flowbench.registry import get_suite, suite_on
from flowbench.suite import Suite

if TYPE_CHECKING:
    from flowbench.data.collect import Collection
    from flowbench.data.collect_spec import CollectSpec

#: Demonstrations per task, unless the user says otherwise.
DEFAULT_EPISODES = 10
#: Word for no camera, or no modality.
NONE = "none"


@click.command(
    "collect",
    short_help="Collect demonstrations into one HDF5 file.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--suite", required=True, help="A name (flowbench list suites).")
@click.option(
    "--backend", help="What the suite runs on, where it can run on several (ithor12: unity, standin, recorded)."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="HDF5 file; it appears when it is complete."
)
@click.option("--tasks", help="Comma-separated tasks of the suite.  [default: all]")
@click.option(
    "--agent",
    default="scripted",
    show_default=True,
    help="Who demonstrates: a name (flowbench list agents), package.module:Class, or path/to/file.py:Class.",
)
@click.option("--agent-args", default="", help="Constructor arguments, key=value,key=value.")
@click.option("--checkpoint", help="Checkpoint given to the agent.")
@click.option("--device", default="cpu", show_default=True, help="Device given to the agent.")
@click.option(
    "--episodes", type=int, help=f"Demonstrations to keep per task.  [default: {DEFAULT_EPISODES}, or all starts named]"
)
@click.option("--max-attempts", type=int, help="Episodes to try per task.  [default: 5 times --episodes]")
@click.option(
    "--keep-failures", is_flag=True, help="Keep episodes that do not reach the goal, too (attribute success)."
)
@click.option("--seeds", help="Starts to try, e.g. 10000-10049.  [default: 10000 and up; evaluations use 0 and up]")
@click.option(
    "--init-states",
    help="Stored initial states to start from (LIBERO), e.g. 0-9; evaluations use them.  [default: sampled starts]",
)
@click.option(
    "--cameras",
    help="Comma-separated camera poses, e.g. corner,corner2+yaw15; none for no images.  [default: the suite's own]",
)
@click.option("--camera-sweep", help="Displace every camera, e.g. az=-20:20:10 (start:stop:step).")
@click.option(
    "--modalities",
    default="rgb,depth,segmentation,calibration",
    show_default=True,
    help="What is stored of each camera; none for states and actions only.",
)
@click.option("--image-size", help="WIDTHxHEIGHT instead of the suite's, e.g. 320x240.")
@click.option(
    "--render-profile",
    type=click.Choice(["full", "fast"]),
    default="full",
    show_default=True,
    help="fast leaves out shadows, reflections and anti-aliasing.",
)
@click.option(
    "--depth-format",
    type=click.Choice(["uint16", "float16", "float32"]),
    default="uint16",
    show_default=True,
    help="uint16 is whole millimetres; float16 and float32 are metres.",
)
@click.option(
    "--compression", type=int, default=4, show_default=True, help="gzip level, 0 (none) to 9; always lossless."
)
@click.option(
    "--action-free", is_flag=True, help="Store images, calibration and instruction only: no actions, no states."
)
@click.option(
    "--action-noise",
    type=float,
    default=0.0,
    help="Standard deviation of noise on executed actions, in halves of the action range, e.g. 0.1.",
)
@click.option("--start-noise", type=int, default=0, help="Random actions before the agent takes over, e.g. 10.")
@click.option("--finish", is_flag=True, help="Go on after the first success until the agent has finished.")
@click.option("--protocol", help="Rule set of the suite (flowbench list protocols SUITE).")
@click.option("--max-steps", type=int, help="Horizon instead of the protocol's.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes; 0 runs in this one, for debugging.")
@click.option(
    "--episode-timeout", type=float, default=3600.0, show_default=True, help="Seconds until an attempt counts as hung."
)
@click.option("--dry-run", is_flag=True, help="Try the start of every task only: nothing is stored.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def collect(**options: Any) -> None:
    """Collect demonstrations into an HDF5 file that robomimic's and LIBERO's loaders read.

    Episodes are run without pictures first; those that reach the goal are then rendered from every camera. An interrupted
    collection goes on where it stopped when the same command is run again. The file is described in docs/demonstrations.md.

    \b
    Examples:
      flowbench collect --suite toy --out toy.h5
      flowbench collect --suite metaworld11 --episodes 5 --cameras corner,corner2,corner3 --workers 2 --out d.h5
      flowbench collect --suite libero10 --episodes 5 --cameras agentview,robot0_eye_in_hand --finish --out l.h5
      flowbench collect --suite metaworld11 --tasks door-open --modalities none --episodes 100 --out states.h5
      flowbench collect --suite metaworld11 --action-free --modalities rgb --out videos.h5
      flowbench collect --suite metaworld11 --action-noise 0.1 --start-noise 10 --out varied.h5
    """
    # Imported here so that --help needs neither h5py nor a simulator.
    from flowbench.data.collect import CollectOptions, check_options, run_preflight
    from flowbench.data.collect import collect as run

    spec = build_spec(options)
    collect_options = CollectOptions(
        workers=options["workers"],
        device=options["device"],
        episode_timeout_s=options["episode_timeout"] or None,
        progress=not options["quiet"],
    )
    check_options(spec, collect_options)
    if options["dry_run"]:
        report = run_preflight(spec, collect_options, thorough=True)
        for camera, description in report.cameras.items():
            click.echo(f"Camera {camera}: {description}.")
        for warning in report.warnings:
            click.echo(f"Warning: {warning}", err=True)
        click.echo(
            f"{len(spec.tasks)} tasks x {spec.demonstrations} demonstrations, first start {spec.attempts(spec.tasks[0])[0].id}. "
            f"Preflight passed for {len(report.checked)} starts. Leave out --dry-run to run it."
        )
        return
    collection = run(spec, options["out"], collect_options)
    if not options["quiet"]:
        _print_summary(collection)
    for line in _warnings(collection):
        click.echo(f"Warning: {line}", err=True)


def build_spec(options: dict[str, Any]) -> CollectSpec:
    """Turn options into a collection.

    Raises:
        FlowBenchError: For a name or number that does not exist.
    """
    from flowbench.data.collect_spec import ATTEMPTS_PER_DEMONSTRATION, CollectSpec

    agent = agent_spec(options)
    suite = suite_on(options["suite"], options["backend"])
    rules = suite.rules(options["protocol"])
    seeds, init_states, starts = _starts(suite, options)
    demonstrations = options["episodes"] or starts or DEFAULT_EPISODES
    if options["episodes"] is not None and options["episodes"] < 1:
        raise BadValue(f"--episodes is {options['episodes']}; give a whole number from 1.")
    attempts = (
        options["max_attempts"] or (1 if options["keep_failures"] else ATTEMPTS_PER_DEMONSTRATION) * demonstrations
    )
    return CollectSpec(
        suite=suite.name,
        protocol=rules.name,
        agent=agent,
        tasks=parse_names(options["tasks"]) if options["tasks"] else tuple(task.name for task in suite.tasks),
        cameras=_cameras(suite, options),
        seeds=seeds if starts else tuple(seed + index for seed in seeds for index in range(attempts)),
        init_states=init_states,
        max_steps=options["max_steps"],
        image_size=parse_size(options["image_size"]) if options["image_size"] else None,
        profile=options["render_profile"],
        suite_version=suite.version,
        demonstrations=demonstrations,
        max_attempts=min(attempts, starts) if starts else attempts,
        keep_failures=options["keep_failures"],
        modalities=() if options["modalities"].strip() == NONE else parse_names(options["modalities"]),
        depth_format=options["depth_format"],
        action_noise=options["action_noise"],
        start_noise=options["start_noise"],
        finish=options["finish"],
        action_free=options["action_free"],
        compression=options["compression"],
    )


def _cameras(suite: Suite, options: dict[str, Any]) -> tuple[str, ...]:
    if (options["cameras"] or "").strip() == NONE:
        return ()
    cameras = tuple(CameraPose.parse(text) for text in parse_names(options["cameras"] or suite.default_view))
    if options["camera_sweep"]:
        cameras = expand_sweep(cameras, options["camera_sweep"])
    return tuple(str(camera) for camera in cameras)


def _starts(suite: Suite, options: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...] | None, int]:
    """Return the seeds, the initial states, and how many starts were named; without any, the seed to count up from."""
    from flowbench.data.collect_spec import FIRST_TRAINING_SEED

    seeds = parse_indices(options["seeds"], "--seeds") if options["seeds"] else (FIRST_TRAINING_SEED,)
    if options["init_states"]:
        if suite.init_states is None:
            raise BadValue(f"Suite {suite.name} stores no initial states; choose starts with --seeds.")
        states = parse_indices(options["init_states"], "--init-states")
        return seeds, states, len(states) * len(seeds)
    if suite.init_states is not None and not suite.sampled_starts:
        raise BadValue(
            f"Suite {suite.name} cannot sample starts, and its stored ones are those that evaluations use. Choose which to "
            f"train on: --init-states 0-{suite.init_states - 1}"
        )
    return seeds, None, len(seeds) if options["seeds"] else 0


def _print_summary(collection: Collection) -> None:
    path, spec = collection.path, collection.spec
    megabytes = path.stat().st_size / 1e6
    if collection.already_complete:
        click.echo(f"{path} is already complete; nothing was run.")
    else:
        width = max(map(len, collection.tasks))
        click.echo(f"{'task':{width}}  kept  attempted")
        for task, count in collection.tasks.items():
            errors = f"  {count.errors} errors" if count.errors else ""
            click.echo(f"{task:{width}}  {count.kept:4d}  {count.attempted:9d}{errors}")
        kept = sum(count.kept for count in collection.tasks.values())
        click.echo(f"{kept} demonstrations of {len(collection.tasks) - len(_empty(collection))} tasks in {path}")
    hertz = get_suite(spec.suite).control_hz
    click.echo(
        f"{collection.steps} steps, {collection.minutes:.2f} minutes at {hertz:g} Hz; {megabytes:.1f} MB, "
        f"{megabytes / collection.minutes:.1f} MB per minute of demonstration."
    )


def _warnings(collection: Collection) -> list[str]:
    lines = []
    if collection.short:
        few = ", ".join(f"{task} ({collection.tasks[task].kept})" for task in collection.short)
        lines.append(
            f"fewer than {collection.spec.demonstrations} demonstrations of: {few}. Raise --max-attempts, with another --out."
        )
    if collection.first_error:
        lines.append(f"some episodes could not be carried out; the first: {collection.first_error}.")
    return lines


def _empty(collection: Collection) -> list[str]:
    return [task for task, count in collection.tasks.items() if count.kept == 0]
