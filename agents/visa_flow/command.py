"""`flowbench data visa`: semantic flow of demonstrations and videos, written and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowbench.cli.parsing import parse_names, parse_size


@click.command("visa", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for clips.h5 and sheet.png.")
@click.option("--tasks", default="", help="Comma-separated tasks of demonstrations.  [default: all]")
@click.option("--cameras", default="", help="Comma-separated cameras.  [default: all]")
@click.option("--image-size", help="WIDTHxHEIGHT of what is stored.  [default: the shorter side 96]")
@click.option("--stride", default=5, show_default=True, help="Steps, or frames, from one look to the next.")
@click.option("--trace", default=3, show_default=True, help="Looks that a trace reaches back.")
@click.option("--chunk", default=10, show_default=True, help="Actions kept of every look.")
@click.option(
    "--masks",
    default="auto",
    show_default=True,
    help="simulator (its ids), motion (what moves), sam (Segment Anything), or auto: the best that FILE allows.",
)
@click.option(
    "--tracks",
    default="auto",
    show_default=True,
    help="exact (a simulator's), cotracker, a flow estimator (flowbench list flow), or auto: exact, else dis.",
)
@click.option("--checkpoint", default="", help="Weights of the tracker or flow estimator.")
@click.option("--mask-model", help="Folder or hub name of SAM's weights.  [default: facebook/sam-vit-base]")
@click.option("--camera-as", default="video", show_default=True, help="Robot's camera that a plain video stands for.")
@click.option("--instruction", default="", help="Sentence of a plain video.  [default: the words of its name]")
@click.option("--workers", default=1, show_default=True, help="Processes, one simulator each; 0 runs in this one.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def visa(**options: Any) -> None:
    """Read semantic flow off FILE: demonstrations, a video, a folder of pictures, or a folder of either.

    Masks of the manipulator and of the active object, points followed inside them, and their traces over a dimmed picture:
    what agent visa-flow is pre-trained and trained on. Demonstrations with states need no pictures; only looks are rendered.

    \b
    Examples:
      flowbench data visa demos.h5 --out clips
      flowbench data visa pushing_a_cup.mp4 --out cup --camera-as static
      flowbench data visa videos/ --out videos-clips --tracks raft-small
      flowbench data visa frames/ --out f --masks sam --instruction "push the cup"
      flowbench train --agent visa-flow --suite calvin-abc-d --data clips --label-fraction 0.1 --out visa
    """
    from flowbench.agents.visa_flow.extract import CLIPS, extract
    from flowbench.agents.visa_flow.looks import ClipSpec
    from flowbench.data.picture_rows import write_picture_rows
    from flowbench.errors import DataError

    names = ("stride", "trace", "chunk", "masks", "tracks", "checkpoint", "camera_as", "instruction")
    given = {name: options[name] for name in names}
    if options["mask_model"]:
        given["mask_model"] = options["mask_model"]
    size = parse_size(options["image_size"]) if options["image_size"] else None
    tasks, cameras = (parse_names(options[name]) if options[name] else () for name in ("tasks", "cameras"))
    spec = ClipSpec(tasks=tasks, cameras=cameras, image_size=size, **given)
    out = options["out"]
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out} is a file; give the name of a folder.")
    clips = extract(options["file"], out / CLIPS, spec, workers=options["workers"], progress=not options["quiet"])
    write_picture_rows(out / "sheet.png", [row for clip in clips for row in clip.picture_rows()])
    if not options["quiet"]:
        click.echo(f"{out / CLIPS} ({clips[0].how}); the first clips are drawn in {out / 'sheet.png'}.")
