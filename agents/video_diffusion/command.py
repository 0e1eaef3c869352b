"""`flowbench diagnose plans`: what a learned planner imagines, beside what happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowbench.cli.parsing import parse_names
from flowbench.errors import BadValue, missing_extra


@click.command(
    "plans",
    short_help="Show what a learned planner imagines, beside what happened.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--checkpoint", required=True, help="Of flowbench train --agent avdc or --agent unipi.")
@click.option("--data", required=True, help="Comma-separated demonstrations; those of the training hold out the same.")
@click.option("--split", type=click.Choice(["validation", "train"]), default="validation", show_default=True)
@click.option("--tasks", help="Comma-separated tasks.  [default: all in the data]")
@click.option("--per-task", type=int, default=1, show_default=True, help="Videos of each task, of the cameras in turn.")
@click.option("--start", type=float, default=0.0, show_default=True, help="Where in a video to begin, 0 to 1.")
@click.option("--steps", type=int, help="Diffusion steps.  [default: the preset's]")
@click.option("--guidance", type=float, default=0.0, show_default=True, help="Weight of classifier-free guidance.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is imagined.")
@click.option("--device", default="cpu", show_default=True, help="Where the network runs.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for picture and numbers.")
@click.option("--quiet", is_flag=True, help="No progress bar and no table.")
def plans(**options: Any) -> None:
    """Imagine clips of videos that were held out from training, beside what happened in them.

    DIR gets plans.png (each clip's first frame and imagination above the truth), plans.md and plans.json: PSNR, and the error
    where something moves, each against imagining that nothing does. A planner of flow is measured by end-point error.

    \b
    Examples:
      flowbench diagnose plans --checkpoint avdc-mw --data corner.h5,corner2.h5,corner3.h5 --out plans
      flowbench diagnose plans --checkpoint avdc-mw --data corner.h5 --tasks hammer,door-open --per-task 3 --out plans
      flowbench diagnose plans --checkpoint avdc-mw --data corner.h5 --start 0.5 --steps 100 --out plans-ddpm
      flowbench diagnose plans --checkpoint avdc-flow --data corner.h5 --split train --out plans-flow
    """
    try:
        import torch  # noqa: F401 - everything below needs it
    except ImportError as error:
        raise missing_extra("flowbench diagnose plans", "agents", error) from error
    from tqdm import tqdm

    from flowbench.agents.video_diffusion.imagined import imagine_clips, imagined_sheet, picture_rows
    from flowbench.agents.video_diffusion.planner import learned_planner
    from flowbench.atomic import write_text_atomically
    from flowbench.data.picture_rows import write_picture_rows
    from flowbench.manifest import command_line
    from flowbench.table_formats import to_markdown

    if options["per_task"] < 1:
        raise BadValue(f"--per-task is {options['per_task']}; it is at least 1.")
    planner = learned_planner(
        options["checkpoint"], device=options["device"], steps=options["steps"], guidance=options["guidance"]
    )
    made = imagine_clips(
        planner,
        [Path(path) for path in parse_names(options["data"])],
        split=options["split"],
        tasks=parse_names(options["tasks"] or ""),
        per_task=options["per_task"],
        start=options["start"],
        seed=options["seed"],
    )
    clips = list(tqdm(made, "imagining", unit="clip", disable=options["quiet"]))
    if not clips:
        raise BadValue(f"--tasks {options['tasks']} names none of the tasks in the data.")
    out = options["out"]
    sheet = imagined_sheet(clips, f"Imagined by {planner.checkpoint.description}, {options['split']} videos")
    text = to_markdown(sheet, command_line())
    write_text_atomically(out / "plans.md", text)
    record = {"command": command_line(), "planner": dict(planner.identity), "tasks": list(sheet.records)}
    write_text_atomically(out / "plans.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    write_picture_rows(out / "plans.png", [row for clip in clips for row in picture_rows(clip)])
    if not options["quiet"]:
        click.echo(text, nl=False)
        click.echo(f"Wrote plans.png, plans.md and plans.json to {out}", err=True)
