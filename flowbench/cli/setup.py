"""`flowbench setup`: fetch what a simulator needs and no package index has."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from flowbench.errors import unknown_name

#: Each entry is a click command that fetches what one simulator needs, without asking anything.
SETUP_GROUP = "flowbench.setup"


class SetupGroup(click.Group):
    """A group whose commands are the entry points of `flowbench.setup`, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the simulators that have something to fetch."""
        return sorted(_entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a simulator's command."""
        entries = _entries()
        return entries[cmd_name].load() if cmd_name in entries else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one is nearest."""
        if args and not args[0].startswith("-") and args[0] not in (entries := _entries()):
            raise unknown_name("simulator to set up", args[0], entries, next_step="See flowbench setup --help.")
        return super().resolve_command(ctx, args)


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=SETUP_GROUP)}


@click.group(
    "setup",
    cls=SetupGroup,
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
