"""`flowbench flow-pairs`: image pairs with exact flow, for training and measuring flow networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowbench.cli.parsing import parse_names
from flowbench.errors import RunFailed, UnknownName
from flowbench.registry import get_suite


@click.command(
    "flow-pairs",
    short_help="Make image pairs with exact optical flow.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--suite", "suites", required=True, help="Comma-separated suites (flowbench list suites).")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the set; resumable.")
@click.option("--tasks", help="Comma-separated tasks.  [default: all of the suites]")
@click.option(
    "--cameras", help="Comma-separated cameras to draw from; one named twice is drawn twice as often.  [default: all]"
)
@click.option("--scenes", type=int, default=4, show_default=True, help="Scenes (seeds) per task.")
@click.option("--first-seed", type=int, help="Seed of the first scene.  [default: 50000; evaluations use 0 and up]")
@click.option(
    "--window", type=int, help="Side of the windows in pixels; smaller images are enlarged to it.  [default: 128]"
)
@click.option(
    "--full-share", type=click.FloatRange(0, 1), help="Share of the scenes in the full render profile.  [default: 0.25]"
)
@click.option(
    "--displaced-share",
    type=click.FloatRange(0, 1),
    help="Share of the looks from a displaced pose instead of the camera's own.  [default: 0.6]",
)
@click.option("--workers", type=int, default=1, show_default=True, help="Processes; 0 runs in this one, for debugging.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def flow_pairs(**options: Any) -> None:
    """Make image pairs with exact optical flow from simulated scenes.

    The scripted expert acts, sometimes clumsily, and windows of 128 x 128 pixels are cut out around what moves: neighbours in
    plans of eight frames and images that are close in time, from displaced cameras. An interrupted run goes on where it
    stopped. docs/flow.md describes the files.

    \b
    Examples:
      flowbench flow-pairs --suite toy --scenes 2 --out pairs/toy
      flowbench flow-pairs --suite metaworld-mt50 --cameras corner,corner2,corner3,corner4 --out pairs/metaworld
      flowbench flow-pairs --suite libero90,libero-goal --scenes 2 --out pairs/libero
      flowbench flow-pairs --suite ithor12-standin --tasks FloorPlan2-Toaster,FloorPlan3-Toaster --window 64 --out pairs
      flowbench train flow --data pairs --out my-raft
    """
    # Imported here so that --help needs no simulator.
    from dataclasses import replace

    from flowbench.flow.generate import FIRST_SEED, PairSetSpec, generate_pairs
    from flowbench.flow.sampling import SamplingSpec

    suites = parse_names(options["suites"])
    wanted = parse_names(options["tasks"] or "")
    tasks = {name: tuple(task for task in wanted if _has(name, task)) for name in suites}
    for task in wanted:
        if not any(task in names for names in tasks.values()):
            get_suite(suites[0]).task(task)
    cameras = parse_names(options["cameras"] or "")
    changes = {
        "full_profile": options["full_share"],
        "displaced": options["displaced_share"],
        "window": options["window"],
    }
    sampling = replace(SamplingSpec(), **{name: value for name, value in changes.items() if value is not None})
    spec = PairSetSpec(
        suites=tuple(name for name in suites if not wanted or tasks[name]),
        tasks=tasks if wanted else {},
        views=dict.fromkeys(suites, cameras) if cameras else {},
        scenes_per_task=options["scenes"],
        first_seed=FIRST_SEED if options["first_seed"] is None else options["first_seed"],
        sampling=sampling,
    )
    failures = generate_pairs(spec, options["out"], workers=options["workers"], progress=not options["quiet"])
    if failures:
        shown = "\n  ".join(failures[:5])
        raise RunFailed(f"{len(failures)} scenes could not be made; run the command again to try once more.\n  {shown}")
    if not options["quiet"]:
        from flowbench.flow.pairs import PairSet

        pairs = PairSet(options["out"])
        click.echo(f"{len(pairs)} pairs of {len(pairs.paths)} scenes in {options['out']}.")
        pairs.close()


def _has(suite: str, task: str) -> bool:
    """Return whether a suite has a task, listed or not (`ithor12` has one for every room and object type)."""
    try:
        get_suite(suite).task(task)
    except UnknownName:
        return False
    return True
