"""`flowbench diagnose sof-...`: the command lines of SOF's sanity checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from flowbench.cli.parsing import parse_names
from flowbench.data.picture_rows import write_picture_rows
from flowbench.errors import BadValue, missing_extra
from flowbench.figures import check_matplotlib
from flowbench.manifest import command_line
from flowbench.sheet import Sheet

HELP = {"help_option_names": ["-h", "--help"]}

_CHECKPOINT = click.option("--checkpoint", required=True, help="Of flowbench train --agent sof: a folder or a name.")
_DATA = click.option(
    "--data", required=True, help="Comma-separated demonstrations; those of the training hold out the same."
)
_SPLIT = click.option(
    "--split",
    type=click.Choice(["validation", "train"]),
    default="validation",
    show_default=True,
    help="Which of them.",
)
_TASKS = click.option("--tasks", help="Comma-separated tasks.  [default: all]")
_PER_TASK = click.option(
    "--per-task", type=click.IntRange(1), default=1, show_default=True, help="Demonstrations of each task."
)
_EVERY = click.option(
    "--every", type=click.IntRange(1), default=8, show_default=True, help="Steps from one block to the next."
)
_OUT = click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for picture and numbers.")
_QUIET = click.option("--quiet", is_flag=True, help="No progress bar and no table.")


def _together(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


_VIDEOS = _together(_CHECKPOINT, _DATA, _SPLIT, _TASKS, _PER_TASK, _EVERY, _OUT, _QUIET)
_EPISODES = _together(
    click.option("--suite", help="A name (flowbench list suites).  [default: the checkpoint's]"),
    _TASKS,
    click.option("--cameras", help="Comma-separated camera poses.  [default: the suite's own]"),
    click.option("--seeds", help="Scenario seeds, e.g. 0-4."),
    click.option("--init-states", help="Indices of stored initial states (LIBERO), e.g. 0-9."),
    click.option("--episodes", type=int, help="Scenarios per task and camera: the first N seeds or initial states."),
    click.option("--workers", type=int, default=1, show_default=True, help="Processes; 0 runs in this one."),
    _OUT,
    _QUIET,
)


@click.command("sof-reconstruction", short_help="Say what of a motion survives SOF's tokens.", context_settings=HELP)
@_VIDEOS
def reconstruction(**options: Any) -> None:
    """Encode and decode the flow of held-out videos, and measure the error against saying that nothing moves.

    DIR gets reconstruction.png (decoded flow above the estimator's), reconstruction.md and reconstruction.json: errors by the
    size of what moves, camera and task, and how many codes were used.

    \b
    Examples:
      flowbench diagnose sof-reconstruction --checkpoint sof-mw --data corner.h5,corner2.h5,corner3.h5 --out r
      flowbench diagnose sof-reconstruction --checkpoint sof-mw --data corner.h5 --tasks hammer --per-task 3 --out r
    """
    skills, opened = _open("sof-reconstruction", options, figure=False)
    from flowbench.agents.sof.diagnose.reconstruction import Reconstruction

    found = Reconstruction(skills)
    found.add(_counted(opened, options))
    if not found.blocks:
        raise BadValue(f"--tasks {options['tasks']} names none of the tasks in the data.")
    title = f"Reconstructed by {skills.checkpoint.description}, {options['split']} videos"
    _write(options, "reconstruction", found.sheet(title), lambda path: write_picture_rows(path, found.pictures))


@click.command(
    "sof-tokens", short_help="Say which of SOF's tokens are used, when, and by which tasks.", context_settings=HELP
)
@_VIDEOS
def tokens(**options: Any) -> None:
    """Count the skill tokens of videos: codes used, perplexity, and whether tasks share the tokens of reaching.

    DIR gets tokens.png (for every demonstration the first token of successive blocks, a colour per code), tokens.md and
    tokens.json.

    \b
    Examples:
      flowbench diagnose sof-tokens --checkpoint sof-mw --data corner.h5,corner2.h5,corner3.h5 --split train --per-task 3 --out t
      flowbench diagnose sof-tokens --checkpoint sof-mw --data corner.h5 --every 4 --out t
    """
    skills, opened = _open("sof-tokens", options, figure=True)
    from flowbench.agents.sof.diagnose.pictures import draw_timelines
    from flowbench.agents.sof.diagnose.tokens import TokenUse

    use = TokenUse(skills.model.skills.codebook_size)
    use.add(skills, _counted(opened, options))
    if not use.timelines:
        raise BadValue(f"--tasks {options['tasks']} names none of the tasks in the data.")
    sheet = use.sheet(f"Tokens of {skills.checkpoint.description}, {options['split']} videos")
    heading = "First token of successive blocks"
    _write(options, "tokens", sheet, lambda path: draw_timelines(path, use.rows(), heading, options["every"]))


@click.command("sof-overfit", short_help="Let SOF learn one trajectory by heart.", context_settings=HELP)
@_CHECKPOINT
@_DATA
@click.option("--task", help="Its task.  [default: the first of the checkpoint's suite]")
@click.option("--steps", type=int, default=200, show_default=True, help="Of each stage.")
@click.option("--fresh", is_flag=True, help="Start from random weights instead of the checkpoint's.")
@_OUT
@_QUIET
def overfit_command(**options: Any) -> None:
    """Train all three stages on one demonstration, without anything that keeps a network from learning by heart, and follow it.

    DIR gets overfit.png (the actions of demonstration and agent), overfit.md and overfit.json, and the training.

    \b
    Examples:
      flowbench diagnose sof-overfit --checkpoint sof-mw --data corner.h5 --task door-open --out o
      flowbench diagnose sof-overfit --checkpoint sof-mw --data corner.h5 --fresh --steps 1000 --out o
    """
    _check_extras("sof-overfit", figure=True)
    from flowbench.agents.sof.diagnose.overfit import overfit
    from flowbench.agents.sof.diagnose.pictures import draw_actions
    from flowbench.agents.training.checkpoint import Checkpoint

    task = options["task"] or Checkpoint.open(options["checkpoint"], "sof").facts["tasks"][0]
    paths = [Path(path) for path in parse_names(options["data"])]
    out = options["out"]
    found = overfit(
        options["checkpoint"],
        paths,
        task,
        options["steps"],
        out / "training",
        fresh=options["fresh"],
        quiet=options["quiet"],
    )
    numbers = {
        "flow: error over that of no motion": found.ratio,
        "tokens that the policy gives": found.tokens,
        "error of an action component": found.action_error,
        "the same of the mean action": found.still_error,
    }
    sheet = _plain_sheet(f"One trajectory of {task}, {options['steps']} steps a stage", numbers)
    _write(options, "overfit", sheet, lambda path: draw_actions(path, found.wanted, found.made))


@click.command("sof-robustness", short_help="Disturb the flow that SOF acts on.", context_settings=HELP)
@_CHECKPOINT
@click.option("--noise", default="0.5,1,2", show_default=True, help="Standard deviations, in units of the flow's size.")
@click.option(
    "--hidden", default="0.25,0.5,1", show_default=True, help="Shares of width and height that a square hides."
)
@click.option(
    "--act", type=click.Choice(["learned", "geometry"]), default="learned", show_default=True, help="What acts."
)
@_EPISODES
def robustness(**options: Any) -> None:
    """Add noise to the decoded flow, or hide a part of it (all of it, with 1), and count successes in the same scenarios.

    DIR gets a run per disturbance, robustness.png, robustness.md and robustness.json. It goes on where it was interrupted.

    \b
    Examples:
      flowbench diagnose sof-robustness --checkpoint sof-mw --tasks door-open,faucet-open --episodes 5 --out rob
      flowbench diagnose sof-robustness --checkpoint sof-mw --cameras corner3 --noise 1 --hidden 0.5 --out rob
    """
    settings: dict[str, dict[str, float]] = {"undisturbed": {}}
    settings |= {f"noise {level:g}": {"flow_noise": level} for level in _numbers(options["noise"], "--noise")}
    settings |= {f"hidden {level:g}": {"occlusion": level} for level in _numbers(options["hidden"], "--hidden")}
    act = {} if options["act"] == "learned" else {"act": options["act"]}
    chosen = {name: (options["checkpoint"], {**act, **arguments}) for name, arguments in settings.items()}
    _evaluate(options, "robustness", chosen, "Success with disturbed flow")


@click.command("sof-ablations", short_help="Compare SOF's variants in one table.", context_settings=HELP)
@_CHECKPOINT
@click.option("--data", help="The training's demonstrations; without them only what needs no training is compared.")
@click.option(
    "--variants", default="geometry,skill2action,pixels", show_default=True, help="Besides the checkpoint itself."
)
@click.option("--steps", type=int, help="Of every stage of a variant that is trained.  [default: the checkpoint's]")
@click.option("--threads", type=int, help="CPU threads of training.  [default: all cores]")
@_EPISODES
def ablations(**options: Any) -> None:
    """Train the paper's ablations and evaluate them beside the checkpoint, in the same scenarios.

    geometry: Flow2Action without learning, no training. skill2action: actions from the tokens instead of their flow; only the
    last stage is trained. pixels: skills from the next frames instead of flow; all stages are trained. DIR gets a training and a
    run per variant, ablations.png, ablations.md and ablations.json. It goes on where it was interrupted.

    \b
    Examples:
      flowbench diagnose sof-ablations --checkpoint sof-mw --data corner.h5,corner2.h5,corner3.h5 --episodes 10 --out abl
      flowbench diagnose sof-ablations --checkpoint sof-mw --variants geometry --episodes 10 --out abl
    """
    _check_extras("sof-ablations", figure=True)
    from flowbench.agents.sof.diagnose.ablations import train_variant, variant_names

    chosen: dict[str, tuple[str, dict[str, Any]]] = {"flow2action": (options["checkpoint"], {})}
    for name in variant_names(options["variants"]):
        if name == "geometry":
            chosen[name] = (options["checkpoint"], {"act": "geometry"})
            continue
        if not options["data"]:
            raise BadValue(
                f"Variant {name} is trained. Name the demonstrations with --data, or leave it out of --variants."
            )
        paths = tuple(Path(path) for path in parse_names(options["data"]))
        folder = options["out"] / "trainings" / name
        train_variant(
            name,
            options["checkpoint"],
            paths,
            folder,
            steps=options["steps"],
            threads=options["threads"],
            quiet=options["quiet"],
        )
        chosen[name] = (str(folder), {})
    _evaluate(options, "ablations", chosen, "SOF's variants")


@click.command("sof-embodiment", short_help="Show SOF's skills another arm.", context_settings=HELP)
@_CHECKPOINT
@click.option(
    "--data", required=True, help="Comma-separated demonstrations of the arm that the skills were learned from."
)
@click.option(
    "--other-suite", required=True, help="Suite of the other arm: libero10 for a Panda, metaworld11 for a Sawyer."
)
@click.option("--other-data", required=True, help="Comma-separated demonstrations of the other arm.")
@_PER_TASK
@_EVERY
@_OUT
@_QUIET
def embodiment(**options: Any) -> None:
    """Encode and decode another arm's videos with the skills of a checkpoint, beside videos that they were learned from.

    DIR gets embodiment.png, embodiment.md and embodiment.json. To act with the other arm on these skills, train the other two
    stages on them and evaluate:

    \b
      flowbench train --agent sof --suite libero10 --data l.h5 --stage policy --init-from sof-mw --out transfer-policy
      flowbench train --agent sof --suite libero10 --data l.h5 --stage flow2action --init-from transfer-policy --out transfer
      flowbench eval --agent sof --suite libero10 --checkpoint transfer

    \b
    Examples:
      flowbench diagnose sof-embodiment --checkpoint sof-mw --data corner.h5 --other-suite libero10 --other-data l.h5 --out e
    """
    _check_extras("sof-embodiment", figure=False)
    from flowbench.agents.sof.diagnose.embodiment import embodiment_sheet, look_at
    from flowbench.agents.sof.diagnose.opened import Skills, blocks_of

    skills = Skills.open(options["checkpoint"])
    given = {"per_task": options["per_task"], "every": options["every"]}
    own_paths, other_paths = ([Path(path) for path in parse_names(options[name])] for name in ("data", "other_data"))
    own, rows = look_at(
        skills,
        skills.checkpoint.facts["suite"],
        _counted(blocks_of(skills, own_paths, split="validation", **given), options),
    )
    suite = options["other_suite"]
    other_blocks = blocks_of(skills, other_paths, split=None, suite=suite, **given)
    other, more = look_at(skills, suite, _counted(other_blocks, options))
    sheet = embodiment_sheet(f"Skills of {skills.checkpoint.description}, shown another arm", own, other)
    _write(options, "embodiment", sheet, lambda path: write_picture_rows(path, [*rows, *more]))


# --- what they share


def _check_extras(name: str, *, figure: bool) -> None:
    """Check that a command can compute and draw, before it does anything."""
    try:
        import torch  # noqa: F401 - everything below needs it
    except ImportError as error:
        raise missing_extra(f"flowbench diagnose {name}", "agents", error) from error
    if figure:
        check_matplotlib(f"The figure of flowbench diagnose {name}")


def _open(name: str, options: dict[str, Any], *, figure: bool) -> tuple[Any, Any]:
    """Return the networks, and the blocks that a command is about."""
    _check_extras(name, figure=figure)
    from flowbench.agents.sof.diagnose.opened import Skills, blocks_of

    skills = Skills.open(options["checkpoint"])
    blocks = blocks_of(
        skills,
        [Path(path) for path in parse_names(options["data"])],
        split=options["split"],
        tasks=parse_names(options["tasks"] or ""),
        per_task=options["per_task"],
        every=options["every"],
    )
    return skills, blocks


def _counted(blocks: Any, options: dict[str, Any]) -> Any:
    from tqdm import tqdm

    return tqdm(blocks, "encoding", unit="block", disable=options["quiet"], leave=False)


def _numbers(text: str, option: str) -> Sequence[float]:
    try:
        return [float(part) for part in parse_names(text)]
    except ValueError:
        raise BadValue(f"{option} is {text!r}; it is a list of numbers, e.g. 0.5,1.") from None


def _evaluate(options: dict[str, Any], name: str, chosen: dict[str, tuple[str, dict[str, Any]]], title: str) -> None:
    """Evaluate settings, and write their table and bars."""
    _check_extras(f"sof-{name}", figure=True)
    from flowbench.agents.sof.diagnose.evaluated import compare_settings, spec_of
    from flowbench.agents.sof.diagnose.pictures import draw_success
    from flowbench.agents.training.checkpoint import Checkpoint
    from flowbench.evaluate import EvalOptions

    suite = options["suite"] or Checkpoint.open(options["checkpoint"], "sof").facts["suite"]
    names = ("tasks", "cameras", "seeds", "init_states", "episodes")
    spec = spec_of({key: options[key] for key in names if options[key] is not None}, suite)
    run_options = EvalOptions(workers=options["workers"], progress=not options["quiet"])
    table, bars = compare_settings(spec, chosen, options["out"] / "runs", run_options)
    _write(options, name, table.sheet, lambda path: draw_success(path, bars, f"{title}: success rate on {suite}"))


def _plain_sheet(title: str, numbers: dict[str, float]) -> Sheet:
    from flowbench.sheet import Group, Line, SheetCell, Span

    lines = tuple(Line((name,), (SheetCell((f"{value:.3f}",)),)) for name, value in numbers.items())
    return Sheet(title, ("number",), (Span("", 1),), ("value",), (Group("", lines),), (), ({**numbers},))


def _write(options: dict[str, Any], name: str, sheet: Sheet, draw: Callable[[Path], None]) -> None:
    """Write a table as Markdown and JSON beside its picture, and show it."""
    from flowbench.atomic import write_text_atomically
    from flowbench.table_formats import to_markdown

    out: Path = options["out"]
    text = to_markdown(sheet, command_line())
    write_text_atomically(out / f"{name}.md", text)
    record = {"command": command_line(), "numbers": list(sheet.records)}
    write_text_atomically(out / f"{name}.json", json.dumps(record, indent=1) + "\n")
    draw(out / f"{name}.png")
    if not options["quiet"]:
        click.echo(text, nl=False)
        click.echo(f"Wrote {name}.png, {name}.md and {name}.json to {out}", err=True)
