"""`flowbench list`: the names that the other commands take."""

from __future__ import annotations

import click

from flowbench.camera import OFFSET_KINDS
from flowbench.errors import FlowBenchError
from flowbench.registry import agent_class, agent_names, get_suite, suite_names

_CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.group("list", short_help="List suites, agents, tasks, cameras, layouts, flow.", context_settings=_CONTEXT)
def list_() -> None:
    """List suites, agents, layouts, flow estimators, and the tasks, cameras and protocols of a suite.

    \b
    Examples:
      flowbench list suites
      flowbench list layouts
      flowbench list flow
      flowbench list tasks libero10
      flowbench list cameras metaworld11
      flowbench list protocols metaworld11
    """


@list_.command(context_settings=_CONTEXT)
def suites() -> None:
    """Suites, with their number of tasks, default protocol and what they still need."""
    rows = []
    for name in suite_names():
        try:
            suite = get_suite(name)
        except ImportError as error:
            rows.append((name, "", "", f"cannot be imported: {error}"))
            continue
        state = "installed"
        if suite.missing_modules():
            state = f"needs: pip install 'flowbench[{suite.extra}]'"
        elif (sentence := suite.missing_setup()) is not None:
            state = f"needs: {sentence.rpartition(': ')[2]}"
        rows.append((name, f"{len(suite.tasks)} tasks", suite.default_protocol, state))
    _print_columns(rows)


@list_.command(context_settings=_CONTEXT)
def agents() -> None:
    """Registered agents; others are given as package.module:Class or path/to/file.py:Class."""
    rows = []
    for name in agent_names():
        try:
            summary = (agent_class(name).__doc__ or "").strip().split("\n")[0]
        except FlowBenchError as error:
            summary = str(error)
        rows.append((name, summary))
    _print_columns(rows)
    click.echo("Any other agent: package.module:Class, or path/to/file.py:Class.")


@list_.command(context_settings=_CONTEXT)
def layouts() -> None:
    """Layouts of `flowbench table`: papers' tables, and the suites whose runs fill them."""
    from flowbench.layouts import GENERIC, get_layout, layout_names

    rows = []
    for name in layout_names():
        if name == GENERIC:
            rows.append((name, "any suite", "A column per run; the default."))
            continue
        try:
            layout = get_layout(name)
        except FlowBenchError as error:
            rows.append((name, "", str(error)))
            continue
        rows.append((name, ", ".join(layout.suites) or "any suite", layout.caption))
    _print_columns(rows)
    click.echo("Any other layout: package.module:OBJECT, or path/to/file.py:OBJECT.")


@list_.command(context_settings=_CONTEXT)
def flow() -> None:
    """Estimators of optical flow, for `--flow` and `flowbench.flow.estimators.make_estimator`."""
    from flowbench.flow.estimators import estimator_summaries

    _print_columns(list(estimator_summaries().items()))


@list_.command(context_settings=_CONTEXT)
@click.argument("suite")
def tasks(suite: str) -> None:
    """Tasks of SUITE in their published order, with the instruction given to agents."""
    _print_columns([(task.name, task.instruction) for task in get_suite(suite).tasks])


@list_.command(context_settings=_CONTEXT)
@click.argument("suite")
def cameras(suite: str) -> None:
    """Cameras of SUITE, and the offsets that displace them."""
    found = get_suite(suite)
    for view in found.views:
        click.echo(f"{view}  (default)" if view == found.default_view else view)
    click.echo("\nA camera can be displaced by offsets, applied from left to right:")
    _print_columns([(f"+{kind}<number>", meaning) for kind, meaning in OFFSET_KINDS.items()])
    click.echo(
        f"For example: {found.default_view}+yaw15, or --camera-sweep yaw=-20:20:10 for five poses of every camera."
    )


@list_.command(context_settings=_CONTEXT)
@click.argument("suite")
def protocols(suite: str) -> None:
    """Protocols of SUITE with their numbers and source; the first is the default."""
    found = get_suite(suite)
    for index, rules in enumerate(found.protocols.values()):
        click.echo(f"{rules.name}" + ("  (default)" if index == 0 else ""))
        _print_columns(
            [
                ("  horizon", f"{rules.horizon} steps" + (" for each instruction" if rules.chain > 1 else "")),
                *([("  instructions", f"{rules.chain} in a row")] if rules.chain > 1 else []),
                ("  settle steps", str(rules.settle_steps)),
                ("  success rule", rules.success_rule),
                ("  image view", rules.image_view),
                ("  initial states", rules.initial_states),
                ("  episodes", f"{rules.episodes} per task and camera"),
                *([("  source", rules.source)] if rules.source else []),
            ]
        )


def _print_columns(rows: list[tuple[str, ...]]) -> None:
    """Print rows with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
