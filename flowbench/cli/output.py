"""Where a command's text goes: to the screen, or to a file that is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import click

from flowbench.atomic import write_text_atomically


def write_or_print(text: str, out: Path | None) -> None:
    """Print text, or write it and say where.

    Raises:
        BadValue: If the file cannot be written.
    """
    if out is None:
        click.echo(text, nl=False)
        return
    write_text_atomically(out, text)
    click.echo(f"Wrote {out}", err=True)
