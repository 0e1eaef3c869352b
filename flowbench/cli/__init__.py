"""The command line: one verb per module, and the only place that prints and exits."""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, entry_points

import click

from flowbench import __version__
from flowbench.errors import FlowBenchError

#: Verb -> import string; a verb's module is imported when it is used, so that `--help` stays fast.
COMMANDS = {
    "eval": "flowbench.cli.eval:eval_",
    "merge": "flowbench.cli.merge:merge",
    "table": "flowbench.cli.table:table",
    "compare": "flowbench.cli.compare:compare",
    "report": "flowbench.cli.report:report",
    "baseline": "flowbench.cli.gate:baseline",
    "gate": "flowbench.cli.gate:gate",
    "rerun": "flowbench.cli.rerun:rerun",
    "export": "flowbench.cli.export:export",
    "collect": "flowbench.cli.collect:collect",
    "data": "flowbench.cli.data:data",
    "diagnose": "flowbench.cli.diagnose:diagnose",
    "list": "flowbench.cli.list:list_",
    "setup": "flowbench.cli.setup:setup",
    "doctor": "flowbench.cli.doctor:doctor",
}

#: Verbs that belong to agents or simulators are entry points of this group, each a click command; listed after ours.
COMMAND_GROUP = "flowbench.commands"

#: Exit code of a process stopped by Ctrl-C, as shells expect it.
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for, and suggests the nearest name for one that does not exist."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of `COMMANDS`, then those of plug-ins."""
        return [*COMMANDS, *(name for name in _plugins() if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's command."""
        from flowbench.suite import load_object

        if cmd_name in COMMANDS:
            return load_object(COMMANDS[cmd_name])
        plugins = _plugins()
        return plugins[cmd_name].load() if cmd_name in plugins else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one is nearest."""
        from flowbench.errors import unknown_name

        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            raise unknown_name("command", args[0], names, next_step="See flowbench --help.")
        return super().resolve_command(ctx, args)


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowbench")
def cli() -> None:
    """Evaluate robot policies that go through video, optical flow or latent skills to actions.

    \b
    First contact, without any simulator:
      flowbench eval --agent scripted --suite toy
    Real simulators:
      flowbench doctor
      flowbench eval --agent scripted --suite metaworld11 --seeds 0-4 --cameras corner,corner2 --workers 2
      flowbench eval --agent random --suite libero10 --episodes 2
      flowbench table results/runs/RUN --by task,camera
    Demonstrations:
      flowbench collect --suite metaworld11 --episodes 5 --cameras corner,corner2 --out d.h5
      flowbench data info d.h5
    Learned agents:
      flowbench train --agent bc --suite metaworld11 --data d.h5 --out bc
      flowbench eval --agent bc --checkpoint bc --suite metaworld11

    Exit codes: 0 done, 1 a run failed, 2 wrong usage, 5 more error episodes than --max-errors, 130 interrupted (resumable).
    """


def main() -> None:
    """Run the command line and exit with the code that the design gives to the outcome."""
    try:
        code = cli.main(standalone_mode=False)
    except FlowBenchError as error:
        click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "Interrupted. Everything that had finished is stored; run the same command again to go on.", err=True
        )
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, e.g. `| head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
