"""`flowbench diagnose`: which part of a method fails, and whether its numbers mean what they seem to."""

from __future__ import annotations

import click

from flowbench.cli.plugin_group import PluginGroup


@click.group(
    "diagnose",
    cls=PluginGroup,
    entry_group="flowbench.diagnose",
    kind="diagnosis",
    short_help="Say which part of a method fails.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def diagnose() -> None:
    """Say which part of a method fails: its flow, its planner, its rule, or its use of what it learned.

    \b
    Examples:
      flowbench diagnose --help
      flowbench diagnose flow-audit --flow dis,farneback --suite metaworld11
    """
