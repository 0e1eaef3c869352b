"""`flowbench train`: demonstrations to a checkpoint."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowbench.cli.parsing import parse_names
from flowbench.errors import BadValue, missing_extra, unknown_name
from flowbench.registry import agent_names, get_suite

if TYPE_CHECKING:
    from flowbench.agents.training.checkpoint import Checkpoint
    from flowbench.agents.training.presets import Settings
    from flowbench.agents.training.recipe import Recipe
    from flowbench.agents.training.rollouts import RolloutPlan
    from flowbench.suite import Suite

#: Word for no folder of decoded frames.
NO_CACHE = "none"


@click.command(
    "train",
    short_help="Train an agent on demonstrations.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("recipe", required=False)
@click.option("--agent", help="What to train: a name, package.module:NAME, or path/to/file.py:NAME; or RECIPE.")
@click.option("--suite", help="The suite to train for (flowbench list suites).")
@click.option("--data", help="Comma-separated files or folders of demonstrations.")
@click.option("--video-data", help="Demonstrations of which only the videos are used, besides those of --action-data.")
@click.option("--action-data", help="Demonstrations whose actions may be used; their videos are used as well.")
@click.option(
    "--stage", help="Only this stage of several, afresh; --init-from names a checkpoint with those before it."
)
@click.option("--tasks", help="Comma-separated tasks.  [default: all in the data]")
@click.option("--preset", default="small", show_default=True, help="Named settings: tiny, small or paper.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the training and its checkpoint.")
@click.option("--steps", type=int, help="Optimiser steps (of every stage) instead of the preset's.")
@click.option("--batch-size", type=int, help="Samples per step instead of the preset's.")
@click.option("--lr", type=float, help="Peak learning rate instead of the preset's.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Any other setting; repeatable (--show lists all)."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, data order, augmentation, splits.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--threads", type=int, help="CPU threads.  [default: all cores]")
@click.option("--limit-demos", type=int, help="At most N demonstrations of each task.")
@click.option(
    "--label-fraction",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of the demonstrations whose actions may be used.",
)
@click.option(
    "--validation", type=float, default=0.1, show_default=True, help="Share of each task's demonstrations held out."
)
@click.option("--init-from", help="Checkpoint whose weights to start from.")
@click.option("--time-limit", type=float, help="Minutes after which to stop; the schedule stays that of --steps.")
@click.option("--eval-every", type=int, help="Steps between rollouts in the suite; the best is kept in OUT/best.")
@click.option("--eval-episodes", type=int, default=2, show_default=True, help="Scenarios per task of one rollout.")
@click.option("--eval-options", default="", help="Further options of flowbench eval, e.g. '--cameras corner,corner2'.")
@click.option(
    "--cache",
    help=f"Folder of decoded frames, or {NO_CACHE}.  [default: ~/.cache/flowbench/frames, or $FLOWBENCH_CACHE]",
)
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Continue a folder that holds the same training."
)
@click.option("--show", is_flag=True, help="Print the settings only.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def train(**options: Any) -> None:
    """Train an agent on demonstrations and leave a checkpoint.

    An interrupted or killed training goes on where it stopped when the same command is run again; at most a minute is lost.
    docs/training.md says what is in the folder.

    \b
    Examples:
      flowbench collect --suite toy --cameras front --modalities rgb --out toy.h5
      flowbench train --agent bc --suite toy --data toy.h5 --preset tiny --out bc-toy
      flowbench eval --agent bc --checkpoint bc-toy --suite toy
    \b
      flowbench train --agent bc --suite metaworld11 --data corner.h5,corner2.h5,corner3.h5 --out bc-mw --time-limit 60
      flowbench train --agent bc --suite metaworld11 --data corner.h5 --preset paper --device cuda --out bc-paper
      flowbench train --agent bc --suite libero-object --data l.h5 --out bc-l --set chunk=16 --set head=gmm
      flowbench train --agent bc --suite toy --data toy.h5 --out b --eval-every 500 --eval-episodes 5
      flowbench train --agent bc --suite metaworld11 --show
      flowbench train --agent my_agent.py:MyRecipe --suite toy --data toy.h5 --out mine
    \b
      flowbench train --agent sof --suite metaworld11 --video-data all.h5 --action-data few.h5 --out sof
      flowbench train --agent sof --suite metaworld11 --data all.h5 --stage skills --out sof-skills
      flowbench train --agent sof --suite metaworld11 --data all.h5 --stage policy --init-from sof-skills --out sof-policy
    """
    try:
        import torch  # noqa: F401 - everything below needs it
    except ImportError as error:
        raise missing_extra("flowbench train", "agents", error) from error
    from flowbench.agents.training.presets import load_settings
    from flowbench.agents.training.recipe import get_recipe

    name = _recipe_name(options)
    recipe = get_recipe(name)
    suite = get_suite(options["suite"]) if options["suite"] else None
    settings = load_settings(
        recipe,
        options["preset"],
        options["suite"],
        options["changes"],
        config=_config_before(recipe, options),
        steps=options["steps"],
        batch_size=options["batch_size"],
        lr=options["lr"],
    )
    if options["stage"]:
        settings = _only_stage(name, settings, options)
    if options["show"]:
        _show(recipe, settings)
        return
    checkpoint = _run(recipe, suite, settings, _rollout_plan(name, recipe, options), options)
    if not options["quiet"]:
        _print_summary(checkpoint, name, options)


def _run(
    recipe: Recipe, suite: Suite | None, settings: Settings, plan: RolloutPlan | None, options: dict[str, Any]
) -> Checkpoint:
    import torch

    from flowbench.agents.training.loop import TrainOptions
    from flowbench.agents.training.loop import train as run
    from flowbench.agents.training.sources import Sources

    if options["out"] is None:
        raise BadValue("Name a folder for the training with --out DIR.")
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    paths, action_paths = _data_paths(options)
    sources = Sources(
        paths=paths,
        action_paths=action_paths,
        suite=suite,
        tasks=parse_names(options["tasks"] or ""),
        limit_per_task=options["limit_demos"],
        label_fraction=options["label_fraction"],
        validation_fraction=options["validation"],
        seed=options["seed"],
        cache=_cache_folder(options["cache"]),
    )
    limit = options["time_limit"]
    train_options = TrainOptions(
        out=options["out"],
        device=options["device"],
        seed=options["seed"],
        resume=options["resume"],
        init_from=options["init_from"],
        time_limit_s=60 * limit if limit else None,
        rollouts=plan,
        progress=not options["quiet"],
    )
    return run(recipe, settings, sources, train_options)


def _data_paths(options: dict[str, Any]) -> tuple[tuple[Path, ...], tuple[Path, ...] | None]:
    """Return all the data, and that of it whose actions may be used; None for all."""
    data, videos, actions = (
        tuple(Path(path) for path in parse_names(options[name] or "")) for name in ("data", "video_data", "action_data")
    )
    if not videos and not actions:
        return data, None
    if data:
        raise BadValue("--data is both --video-data and --action-data. Leave it out, or leave out these.")
    return tuple(dict.fromkeys((*videos, *actions))), actions


def _config_before(recipe: Recipe, options: dict[str, Any]) -> Mapping[str, Any] | None:
    """Return the config of the checkpoint that one stage alone is built on: its networks and its data fit no other.

    None for whole trainings, and where the checkpoint is of another suite, whose pictures may have another size.
    """
    from flowbench.agents.training.checkpoint import Checkpoint

    if not (options["stage"] and options["init_from"]):
        return None
    before = Checkpoint.open(options["init_from"], recipe.name)
    return before.config if before.facts.get("suite") == options["suite"] else None


def _only_stage(name: str, settings: Settings, options: dict[str, Any]) -> Settings:
    """Return the settings of one stage alone."""
    stage, stages = options["stage"], settings.stages
    if stage not in stages:
        raise unknown_name("stage", stage, stages, f"Agent {name}")
    before = list(stages)[: list(stages).index(stage)]
    if before and not options["init_from"] and not options["show"]:
        raise BadValue(
            f"Stage {stage} of {name} stands on {', '.join(before)}. Name a checkpoint that has been through "
            f"{'it' if len(before) == 1 else 'them'}: --init-from DIR."
        )
    return replace(settings, stages={stage: stages[stage]})


def _print_summary(checkpoint: Checkpoint, name: str, options: dict[str, Any]) -> None:
    metrics = checkpoint.training["metrics"]
    shown = ", ".join(f"{name} {metrics[name]:.4g}" for name in ("loss", "val_loss", "success") if name in metrics)
    click.echo(f"Checkpoint: {checkpoint.description}; {shown}.")
    if checkpoint.facts.get("suite"):
        agent = name if name in agent_names() else f"trained --agent-args recipe={name}"
        click.echo(f"Next: flowbench eval --agent {agent} --checkpoint {options['out']} --suite {options['suite']}")


def _recipe_name(options: dict[str, Any]) -> str:
    from flowbench.agents.training.recipe import recipe_names

    given = [name for name in (options["recipe"], options["agent"]) if name]
    if len(given) != 1:
        raise BadValue(f"Name one thing to train with --agent NAME. Available: {', '.join(recipe_names())}.")
    return given[0]


def _rollout_plan(name: str, recipe: Recipe, options: dict[str, Any]) -> RolloutPlan | None:
    from flowbench.agents.training.rollouts import RolloutPlan

    if options["eval_every"] is None:
        return None
    if options["eval_every"] < 1 or not options["suite"]:
        raise BadValue("--eval-every N takes a whole number from 1, and a --suite to try the agent in.")
    arguments = ["--episodes", str(options["eval_episodes"]), *shlex.split(options["eval_options"])]
    if name != recipe.name:
        arguments += ["--agent-args", f"recipe={name}"]
    return RolloutPlan(options["eval_every"], options["suite"], "trained", tuple(arguments))


def _cache_folder(text: str | None) -> Path | None:
    if text == NO_CACHE:
        return None
    default = os.environ.get("FLOWBENCH_CACHE") or Path.home() / ".cache" / "flowbench"
    return Path(text) if text else Path(default) / "frames"


def _show(recipe: Recipe, settings: Settings) -> None:
    from dataclasses import asdict

    from flowbench.agents.training.presets import preset_names

    click.echo(f"{recipe.name}, preset {settings.preset} (presets: {', '.join(preset_names(recipe))})")
    for title, values in [("model", settings.config), *((f"stage {n}", c) for n, c in settings.stages.items())]:
        click.echo(f"\n{title}")
        for field, value in asdict(values).items():
            click.echo(f"  {field} = {list(value) if isinstance(value, tuple) else value}")
