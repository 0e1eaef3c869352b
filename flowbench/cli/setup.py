"""`flowbench setup`: fetch what a simulator needs and no package index has."""

from __future__ import annotations

import click

from flowbench.cli.plugin_group import PluginGroup


@click.group(
    "setup",
    cls=PluginGroup,
    entry_group="flowbench.setup",
    kind="simulator to set up",
    short_help="Fetch what a simulator needs and no package index has.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def setup() -> None:
    """Fetch what a simulator needs and no package index has: code, scenes, players.

    Nothing is asked; licences are shown. What was fetched is checked, and lies in FlowBench's cache, which flowbench doctor
    looks into.

    \b
    Examples:
      flowbench setup --help
      flowbench doctor
    """
