"""`flowbench data`: look into demonstrations, look at them, and check them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowbench.cli.parsing import parse_indices, parse_names, parse_size
from flowbench.cli.plugin_group import PluginGroup

if TYPE_CHECKING:
    from flowbench.data.demonstration import DemoReader
    from flowbench.data.info import FileSummary, Statistics, TaskSummary
    from flowbench.data.verify import DemoVerdict

_CONTEXT = {"help_option_names": ["-h", "--help"]}
_FORMAT_HELP = "Format of FILE; it is found from the content unless given."
_WORKERS_HELP = "Processes, one simulator each; 0 runs in this one, for debugging."
#: Moments of a contact sheet unless --steps names them.
_SHEET_COLUMNS = 6
_MOST_COLUMNS = 16
#: Lines that `verify` prints of one kind before it only counts.
_MOST_LINES = 50


#: What methods make of demonstrations is theirs to add: entry points of this group.
DATA_GROUP = "flowbench.data_commands"


@click.group(
    "data",
    cls=PluginGroup,
    entry_group=DATA_GROUP,
    kind="command",
    short_help="Look at, check and render demonstrations.",
    context_settings=_CONTEXT,
)
def data() -> None:
    """Show, check and render demonstrations, ours and LIBERO's, CALVIN's, AVDC's and LeRobot's.

    \b
    Examples:
      flowbench data info demos.h5
      flowbench data show demos.h5 --demo demo_3 --out demo_3.mp4
      flowbench data verify demos.h5 --workers 2
      flowbench data render states.h5 --cameras corner,corner2 --out pictures.h5
    """


@data.command(context_settings=_CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "format_name", help=_FORMAT_HELP)
@click.option("--checksums", is_flag=True, help="Read everything and compare it with the stored checksums.")
@click.option("--all", "all_demos", is_flag=True, help="Statistics over every demonstration, however many there are.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def info(
    ctx: click.Context, file: Path, format_name: str | None, checksums: bool, all_demos: bool, as_json: bool
) -> None:
    """Say what FILE holds: tasks, cameras, sizes, and the statistics of actions and proprioception.

    Exits with 1 if a checksum does not hold.

    \b
    Examples:
      flowbench data info demos.h5
      flowbench data info demos.h5 --checksums
      flowbench data info libero_goal/open_the_middle_drawer_of_the_cabinet_demo.hdf5 --json
    """
    from flowbench.data.info import summarise
    from flowbench.data.readers import open_demos

    reader = open_demos(file, format_name)
    try:
        summary = summarise(reader, all_demos=all_demos)
        problems = _checksum_problems(reader) if checksums else None
    finally:
        reader.close()
    if as_json:
        checked = {} if problems is None else {"checksum_problems": problems}
        click.echo(json.dumps({**summary.to_json(), **checked}, indent=2))
    else:
        _print_summary(summary)
        for problem in problems or ():
            click.echo(problem)
        if problems == []:
            click.echo(f"\nChecksums: all {summary.demos} hold.")
    ctx.exit(1 if problems else 0)


@data.command(context_settings=_CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--demo", help="Name of the demonstration; the first one unless given.")
@click.option("--camera", "cameras", help="Cameras, comma-separated; all unless given.")
@click.option(
    "--kinds",
    help="What to show: rgb, depth, segmentation, flow. Unless given all of them, in a video without segmentation.",
)
@click.option(
    "--steps", help="Steps such as 0,10,20 or 0-99. Unless given, six moments in a sheet, all steps in a video."
)
@click.option("--flow-gap", type=click.IntRange(1), default=4, show_default=True, help="Steps that flow leads ahead.")
@click.option("--fps", type=click.IntRange(1, 240), default=20, show_default=True, help="Frames per second of a video.")
@click.option("--out", type=click.Path(path_type=Path), help="A .png or .mp4 file.  [default: <file>-<demo>.png]")
@click.option("--format", "format_name", help=_FORMAT_HELP)
def show(
    file: Path,
    demo: str | None,
    cameras: str | None,
    kinds: str | None,
    steps: str | None,
    flow_gap: int,
    fps: int,
    out: Path | None,
    format_name: str | None,
) -> None:
    """Draw one demonstration of FILE as a contact sheet (.png) or a video (.mp4).

    RGB, depth, object ids and optical flow stand side by side, with their scales. Flow is estimated by DIS.

    \b
    Examples:
      flowbench data show demos.h5
      flowbench data show demos.h5 --demo demo_3 --camera corner --steps 0,20,40
      flowbench data show demos.h5 --demo demo_3 --out demo_3.mp4
    """
    from flowbench.data.panels import Panels, choose_look
    from flowbench.data.readers import open_demos
    from flowbench.data.show import check_out, write_picture
    from flowbench.data.verify import find_demo
    from flowbench.errors import DataError

    reader = open_demos(file, format_name)
    try:
        if not reader.demos:
            raise DataError(f"{file} holds no demonstrations.")
        index = 0 if demo is None else find_demo(reader, demo)
        found = reader.demos[index]
        out = out or Path(f"{file.stem}-{found.name.replace('/', '-')}.png")
        check_out(out)
        is_video = out.suffix.lower() == ".mp4"
        look = choose_look(
            reader,
            index,
            cameras=parse_names(cameras) if cameras else None,
            kinds=parse_names(kinds) if kinds else ("rgb", "depth", "flow") if is_video else None,
            steps=parse_indices(steps, "--steps") if steps else None,
            moments=None if is_video else _SHEET_COLUMNS,
            flow_gap=flow_gap,
        )
        if not is_video and len(look.steps) > _MOST_COLUMNS:
            raise DataError(
                f"--steps names {len(look.steps)} steps and a contact sheet has room for {_MOST_COLUMNS}. Name fewer, or make a "
                "video with --out x.mp4."
            )
        write_picture(Panels(reader, index, look), out, fps)
    finally:
        reader.close()
    click.echo(f"Wrote {out}")


@data.command(context_settings=_CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--demos", help="A number, spread over the file, or names, comma-separated; all unless given.")
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help=_WORKERS_HELP)
@click.option("--replay/--no-replay", default=True, help="Execute the stored actions again.  [default: replay]")
@click.option("--pictures/--no-pictures", default=True, help="Render one moment of each again.  [default: pictures]")
@click.option("--format", "format_name", help=_FORMAT_HELP)
@click.pass_context
def verify(
    ctx: click.Context,
    file: Path,
    demos: str | None,
    workers: int,
    replay: bool,
    pictures: bool,
    format_name: str | None,
) -> None:
    """Check FILE: structure, checksums, and whether every demonstration replays.

    The stored actions are executed again in the simulator. They must reach the stored success and, in files of
    `flowbench collect`, every stored state bit for bit. One moment of each is rendered again; other pixels are a warning,
    because another GPU or driver may draw them. Exits with 0 if all is well, with 1 if something does not hold.

    \b
    Examples:
      flowbench data verify demos.h5 --workers 2
      flowbench data verify demos.h5 --demos 10
      flowbench data verify demos.h5 --demos demo_3,demo_7
      flowbench data verify demos.h5 --no-replay
    """
    from tqdm import tqdm

    from flowbench.data.readers import open_demos
    from flowbench.data.verify import VerifyOptions, choose_demos, verify_demos, verify_file

    reader = open_demos(file, format_name)
    try:
        chosen = choose_demos(reader, demos)
        problems = verify_file(reader)
        for problem in problems:
            click.echo(f"{file}: {problem}.")
        verdicts: list[DemoVerdict] = []
        printed = len(problems)
        options = VerifyOptions(replay, pictures)
        with tqdm(total=len(chosen), **_bar_settings()) as bar:
            for verdict in verify_demos(reader, chosen, options, workers):
                verdicts.append(verdict)
                for line in _verdict_lines(verdict):
                    printed += 1
                    if printed <= _MOST_LINES:
                        bar.write(line, file=sys.stdout)
                bar.update()
    finally:
        reader.close()
    if printed > _MOST_LINES:
        click.echo(f"... and {printed - _MOST_LINES} more lines like these.")
    for line in _verify_summary(verdicts):
        click.echo(line)
    ctx.exit(1 if problems or any(verdict.problems for verdict in verdicts) else 0)


@data.command(context_settings=_CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new file; it must not exist.")
@click.option("--cameras", help="Camera poses, comma-separated, e.g. corner,corner2+yaw15.  [default: those of FILE]")
@click.option("--modalities", help="Of rgb,depth,segmentation,calibration.  [default: those of FILE]")
@click.option("--image-size", help="WIDTHxHEIGHT, e.g. 320x240.  [default: that of FILE]")
@click.option("--depth-format", help="uint16 (millimetres), float16 or float32.  [default: that of FILE]")
@click.option("--render-profile", type=click.Choice(["full", "fast"]), help="[default: that of FILE]")
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help=_WORKERS_HELP)
def render(
    file: Path,
    out: Path,
    cameras: str | None,
    modalities: str | None,
    image_size: str | None,
    depth_format: str | None,
    render_profile: str | None,
    workers: int,
) -> None:
    """Render the stored states of FILE through any cameras, into a new file with everything else copied.

    The pictures are those that collecting with these cameras would have stored, pixel by pixel.

    \b
    Examples:
      flowbench collect --suite metaworld11 --episodes 50 --modalities none --out states.h5
      flowbench data render states.h5 --cameras corner,corner2 --modalities rgb,depth,calibration --out pictures.h5
      flowbench data render pictures.h5 --cameras corner+yaw15 --image-size 128x128 --out turned.h5
    """
    from tqdm import tqdm

    from flowbench.data.readers import open_demos
    from flowbench.data.render import RenderRequest, check_request, render_file
    from flowbench.manifest import command_line

    request = RenderRequest(
        cameras=parse_names(cameras) if cameras else None,
        modalities=parse_names(modalities) if modalities else None,
        image_size=parse_size(image_size) if image_size else None,
        depth_format=depth_format,
        profile=render_profile,
    )
    reader = open_demos(file)
    try:
        check_request(reader, request, out)
        done = render_file(reader, request, out, command=command_line(), workers=workers)
        for _ in tqdm(done, total=len(reader.demos), **_bar_settings()):
            pass
    finally:
        reader.close()
    click.echo(f"Wrote {out}, {_megabytes(out.stat().st_size)}")


def _bar_settings() -> dict[str, Any]:
    """Return how a progress bar looks: redrawn often on a terminal, rarely in a log file."""
    interval_s = 0.2 if sys.stderr.isatty() else 30.0
    return {"unit": "demo", "dynamic_ncols": True, "mininterval": interval_s, "file": sys.stderr}


def _verdict_lines(verdict: DemoVerdict) -> list[str]:
    lines = [f"{verdict.name}: {problem}." for problem in verdict.problems]
    return lines + [f"{verdict.name}: warning: {warning}." for warning in verdict.warnings]


def _verify_summary(verdicts: list[DemoVerdict]) -> list[str]:
    """Say in a few lines what held."""
    broken = sum(bool(verdict.problems) for verdict in verdicts)
    replayed = [verdict for verdict in verdicts if verdict.replay is not None]
    reasons: dict[str, int] = {}
    for verdict in verdicts:
        if verdict.not_replayed:
            reasons[verdict.not_replayed] = reasons.get(verdict.not_replayed, 0) + 1
    lines = [f"{count} of {len(verdicts)} not replayed: {reason}." for reason, count in reasons.items()]
    if replayed:
        lines.append(_replay_summary(replayed))
    pictures = sum(verdict.replay.pictures_compared for verdict in replayed)
    if pictures:
        unequal = sum(len(verdict.replay.pictures) for verdict in replayed)
        same = "all equal" if not unequal else f"{unequal} differ (another GPU or driver may draw other pixels)"
        lines.append(f"{pictures} pictures rendered again: {same}.")
    noun = "demonstration" if len(verdicts) == 1 else "demonstrations"
    lines.append(f"{len(verdicts)} {noun} checked: " + ("no problems." if not broken else f"{broken} with problems."))
    return lines


def _replay_summary(verdicts: list[DemoVerdict]) -> str:
    known = [verdict for verdict in verdicts if verdict.agrees is not None]
    if known:
        text = f"{sum(map(_agrees, known))} of {len(known)} demonstrations replay to their stored success"
    else:
        reached = sum(verdict.replay.success for verdict in verdicts)
        text = f"{reached} of {len(verdicts)} replays reach the goal (the file does not say what was recorded)"
    with_states = [verdict.replay for verdict in verdicts if verdict.replay.states != "none"]
    if not with_states:
        return f"{text}; no states are stored."
    differing = [replay.difference for replay in with_states if replay.difference is not None]
    if not differing:
        return f"{text}; all states equal."
    largest = max(difference.largest for difference in differing)
    return f"{text}; states differ in {len(differing)} of {len(with_states)} (by at most {largest:.3g})."


def _agrees(verdict: DemoVerdict) -> bool:
    return bool(verdict.agrees)


def _checksum_problems(reader: DemoReader) -> list[str]:
    from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
    from flowbench.errors import DataError

    if not isinstance(reader, FlowBenchHdf5):
        raise DataError(f"{reader.path} has no checksums: format {reader.format} stores none. Leave out --checksums.")
    return [
        f"{info.name}: {problem}."
        for demo, info in enumerate(reader.demos)
        for problem in reader.checksum_problems(demo)
    ]


def _print_summary(summary: FileSummary) -> None:
    per_minute = f", {summary.megabytes_per_minute:.3g} MB per minute of demonstration" if summary.minutes else ""
    rates = ", ".join(f"{rate:g} steps/s" for rate in dict.fromkeys(summary.steps_per_second.values()))
    guess = ", assumed" if "unknown" in summary.steps_per_second else ""
    lines = [
        ("file", summary.path),
        ("format", f"{summary.format}, images {_VIEWS[summary.image_view]}"),
        (
            "size",
            f"{_megabytes(summary.bytes_on_disk)}, {_megabytes(summary.bytes_decoded)} decoded "
            f"(ratio {summary.compression:.1f}){per_minute}",
        ),
        ("demos", f"{summary.demos}, {summary.steps} steps, {summary.minutes:.2g} min ({rates}{guess})"),
        ("arrays", ", ".join(summary.arrays) or "none"),
    ]
    for name, text in lines:
        click.echo(f"{name + ':':<10}{text}")
    click.echo("\nTasks")
    _print_table([("task", "demos", "steps", "success", "instruction"), *map(_task_row, summary.tasks)])
    click.echo("\nCameras" if summary.cameras else "\nNo cameras.")
    _print_table(
        [
            (
                camera.name,
                " and ".join(f"{width}x{height}" for width, height in camera.sizes) or "no images",
                ", ".join(camera.items),
                "" if camera.demos == summary.demos else f"in {camera.demos} demos",
            )
            for camera in summary.cameras
        ]
    )
    for statistics in summary.statistics:
        _print_statistics(statistics, summary.demos)
    said = _said(summary.collected)
    if said:
        click.echo("\nThe file says")
        for name, value in said:
            click.echo(f"  {name}: {value}")


_VIEWS = {"geometric": "upright", "policy": "mirrored, as the policy saw them"}


def _task_row(task: TaskSummary) -> tuple[str, ...]:
    name = "/".join(part for part in (task.suite, task.task) if part) or "unknown"
    lengths = f"{task.shortest}-{task.longest}" if task.shortest != task.longest else f"{task.shortest}"
    success = "unknown" if task.successes is None else f"{task.successes} of {task.demos}"
    return name, str(task.demos), lengths, success, task.instruction or ""


def _print_statistics(statistics: Statistics, demos: int) -> None:
    part = f", from {statistics.demos} of {demos} demos" if statistics.demos < demos else ""
    click.echo(f"\n{statistics.key} ({len(statistics.labels)},) over {statistics.steps} steps{part}")
    rows = zip(statistics.labels, statistics.minimum, statistics.maximum, statistics.mean, statistics.std)
    _print_table(
        [
            ("", "min", "max", "mean", "std"),
            *((label, *(f"{value:.4g}" for value in values)) for label, *values in rows),
        ]
    )


#: What is shown elsewhere, or is there for other projects' loaders.
_NOT_SAID = ("env_args", "image_convention", "flowbench_format")


def _said(values: dict, prefix: str = "") -> list[tuple[str, str]]:
    """Write nested settings one per line, without those that are not set; a table of names and values gets one line."""
    lines = []
    for name, value in values.items():
        if name in _NOT_SAID or value in (None, False, "", [], {}):
            continue
        if isinstance(value, dict) and name == "versions":
            lines.append((prefix + name, ", ".join(f"{package} {version}" for package, version in value.items())))
        elif isinstance(value, dict):
            lines.extend(_said(value, f"{prefix}{name}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            lines.append((prefix + name, text if len(text) <= 200 else text[:197] + "..."))
    return lines


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


@data.command("to-calvin", context_settings=_CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new folder; it must not exist.")
@click.option("--split", type=click.Choice(["training", "validation"]), default="training", show_default=True)
def to_calvin(file: Path, out: Path, split: str) -> None:
    """Write demonstrations of CALVIN in the layout of its releases: one npz file per step, with language annotations.

    Loaders made for the released data read it; the sentences' embeddings are left to them.

    \b
    Examples:
      flowbench collect --suite calvin-tasks-a --cameras static,gripper --modalities rgb,depth --episodes 20 --out a.h5
      flowbench data to-calvin a.h5 --out task_A_D
      flowbench data info task_A_D
    """
    from tqdm import tqdm

    from flowbench.data.calvin_writer import check_demos, write_calvin
    from flowbench.data.readers import open_demos

    reader = open_demos(file)
    try:
        check_demos(reader, out)
        steps = sum(tqdm(write_calvin(reader, out, split=split), total=len(reader.demos), **_bar_settings()))
    finally:
        reader.close()
    click.echo(f"Wrote {len(reader.demos)} demonstrations, {steps} steps, to {out}")
