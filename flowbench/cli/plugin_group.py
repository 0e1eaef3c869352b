"""A command group that takes entry points for commands, so that whoever adds a method or a suite can add its commands too."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from flowbench.errors import unknown_name


class PluginGroup(click.Group):
    """A group that finds commands by entry point, besides its own, and imports one when it is asked for."""

    def __init__(self, *args: Any, entry_group: str, kind: str, **kwargs: Any) -> None:
        """Remember where to look.

        Args:
            *args: As for `click.Group`.
            entry_group: Entry-point group; each entry is a click command.
            kind: What a command is called in an error, e.g. `"diagnosis"`.
            **kwargs: As for `click.Group`.
        """
        super().__init__(*args, **kwargs)
        self._entry_group = entry_group
        self._kind = kind

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return its own commands, and the installed ones."""
        return sorted({*self.commands, *self._entries()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command of its own, or import one."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        entry = self._entries().get(cmd_name)
        return entry.load() if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one is nearest."""
        if args and not args[0].startswith("-") and args[0] not in (names := self.list_commands(ctx)):
            raise unknown_name(self._kind, args[0], names, next_step=f"See {ctx.command_path} --help.")
        return super().resolve_command(ctx, args)

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self._entry_group)}
