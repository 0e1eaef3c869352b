"""`flowbench diagnose flow-audit`: how wrong flow estimators are, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowbench.camera import CameraPose
from flowbench.cli.parsing import parse_indices, parse_names
from flowbench.errors import BadValue
from flowbench.registry import get_suite

if TYPE_CHECKING:
    from flowbench.flow.audit import AuditSpec
    from flowbench.flow.estimators import FlowEstimator


@click.command(
    "flow-audit",
    short_help="Measure flow estimators against exact flow.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--flow",
    "flows",
    default="dis,farneback",
    show_default=True,
    help="Comma-separated estimators (flowbench list flow); NAME@CHECKPOINT gives a network its weights.",
)
@click.option("--suite", required=True, help="A name (flowbench list suites).")
@click.option("--tasks", help="Comma-separated tasks of the suite.  [default: all]")
@click.option("--cameras", help="Comma-separated camera poses.  [default: the suite's own]")
@click.option("--seeds", default="0-1", show_default=True, help="Scenario seeds, e.g. 0-4.")
@click.option(
    "--gap",
    type=int,
    default=0,
    show_default=True,
    help="Agent steps between two frames; 0 is that of an eight-frame plan.",
)
@click.option(
    "--window",
    type=int,
    default=128,
    show_default=True,
    help="Side in pixels of the middle part; 0 is the whole image.",
)
@click.option(
    "--render-profile", type=click.Choice(["full", "fast"]), default="full", show_default=True, help="As in eval."
)
@click.option("--pictures", type=int, default=1, show_default=True, help="Pictures of each task.")
@click.option("--device", default="cpu", show_default=True, help="Where networks run.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for tables, numbers, page and pictures."
)
@click.option("--quiet", is_flag=True, help="No progress bar and no table.")
def flow_audit(**options: Any) -> None:
    """Measure flow estimators against exact flow, by object size, displacement, occlusion, camera and task.

    The pairs come from the scripted expert's episodes. DIR gets index.html (tables and pictures in one file), audit.md,
    audit.json (one record per estimator and pair) and panels/*.png.

    \b
    Examples:
      flowbench diagnose flow-audit --suite toy --out audit
      flowbench diagnose flow-audit --flow dis,raft-small --suite metaworld11 --cameras corner,corner2,corner3 --out audit
      flowbench diagnose flow-audit --flow dis,raft-small@my-raft --suite libero-object --seeds 0 --out audit-libero
      flowbench diagnose flow-audit --flow dis --suite metaworld11 --tasks hammer,assembly --gap 5 --out audit-near
    """
    # Imported here so that --help needs no simulator.
    from flowbench.flow.audit import AuditSpec, audit
    from flowbench.flow.audit_page import Panels

    suite = get_suite(options["suite"])
    cameras = parse_names(options["cameras"] or suite.default_view)
    for camera in cameras:
        suite.check_view(CameraPose.parse(camera).view)
    tasks = parse_names(options["tasks"] or "") or tuple(task.name for task in suite.tasks)
    for task in tasks:
        suite.task(task)
    for name, least in (("gap", 0), ("window", 0), ("pictures", 0)):
        if options[name] < least:
            raise BadValue(f"--{name} is {options[name]}; it is at least {least}.")
    spec = AuditSpec(
        suite=suite.name,
        tasks=tasks,
        cameras=cameras,
        seeds=parse_indices(options["seeds"], "--seeds"),
        gap=options["gap"],
        window=options["window"],
        profile=options["render_profile"],
    )
    estimators = _estimators(options["flows"], options["device"])
    panels = Panels(options["pictures"])
    measured = audit(spec, estimators, keep=panels.add if options["pictures"] else None, progress=not options["quiet"])
    _write(spec, measured, panels.pictures(), options["out"], quiet=options["quiet"])


def _estimators(names: str, device: str) -> list[FlowEstimator]:
    from flowbench.flow.estimators import make_estimator

    estimators = []
    for text in parse_names(names):
        name, _, checkpoint = text.partition("@")
        estimators.append(make_estimator(name, device=device, checkpoint=checkpoint or None))
    twice = {item.name for item in estimators if sum(other.name == item.name for other in estimators) > 1}
    if twice:
        raise BadValue(f"--flow names {twice.pop()} twice; give each estimator once.")
    return estimators


def _write(spec: AuditSpec, measured: list[Any], pictures: list[Any], out: Path, *, quiet: bool) -> None:
    from dataclasses import asdict

    from flowbench.atomic import write_text_atomically
    from flowbench.flow.audit import STILL
    from flowbench.flow.audit_page import write_audit_page, write_png
    from flowbench.flow.audit_sheet import detail_sheet, overall_sheet
    from flowbench.manifest import command_line, installed_versions
    from flowbench.table_formats import to_markdown

    command = command_line()
    overall, detail = overall_sheet(spec, measured), detail_sheet(spec, measured)
    text = to_markdown(overall, command)
    write_text_atomically(out / "audit.md", f"{text}\n{to_markdown(detail, command).partition(chr(10))[2].rstrip()}\n")
    numbers = {
        "command": command,
        "spec": asdict(spec),
        "versions": installed_versions(),
        "overall": list(overall.records),
        "detail": list(detail.records),
    }
    # A pair per line: half the size, and still to be read with a text editor.
    pairs = ",\n".join(json.dumps(item.to_json(), allow_nan=False, separators=(",", ":")) for item in measured)
    head = json.dumps(numbers, indent=1, allow_nan=False)[: -len("\n}")]
    write_text_atomically(out / "audit.json", f'{head},\n "pairs": [\n{pairs}\n ]\n}}\n')
    for caption, image in pictures:
        write_png(out / "panels" / f"{caption.replace(', ', '-').replace(' ', '')}.png", image)
    names = [item.estimator for item in measured if item.estimator != STILL]
    title = f"Flow audit of {', '.join(dict.fromkeys(names))} on {spec.suite}"
    write_audit_page(out / "index.html", title, [overall, detail], pictures, command)
    if not quiet:
        click.echo(text, nl=False)
        click.echo(f"Wrote index.html, audit.md, audit.json and {len(pictures)} pictures to {out}", err=True)
