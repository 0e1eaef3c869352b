"""`flowbench diagnose flow-audit`: how wrong a flow estimator is, and where."""

import click


@click.command("flow-audit")
def flow_audit() -> None:
    """Not written yet."""
