"""`flowbench doctor`: what works on this machine, and what to type where something does not."""

from __future__ import annotations

import json

import click

_MARKS = {"ok": "ok", "missing": "not installed", "broken": "BROKEN"}


@click.command(
    "doctor", short_help="Say what is installed and works.", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--suite", help="Check this suite alone; it must then be installed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds for each simulator's trial.")
@click.pass_context
def doctor(ctx: click.Context, suite: str | None, as_json: bool, timeout: float) -> None:
    """Try every installed suite, and torchvision, and say what is missing, with the command that installs it.

    Each simulator is started in a process of its own and draws one small frame. Exits with 0 if everything that is
    installed works, else with 1.

    \b
    Examples:
      flowbench doctor
      flowbench doctor --suite libero10
      MUJOCO_GL=osmesa flowbench doctor --json
    """
    from flowbench.doctor import diagnose

    diagnosis = diagnose(suite, timeout_s=timeout)
    if as_json:
        click.echo(json.dumps(diagnosis.to_json(), indent=2))
        ctx.exit(0 if diagnosis.healthy else 1)
    for name, value in diagnosis.machine.items():
        click.echo(f"{name + ':':<22}{value}")
    for check in diagnosis.suites:
        versions = ", ".join(f"{name} {version}" for name, version in check.versions.items())
        click.echo(f"\n{check.family}: {_MARKS[check.status]}" + (f" ({versions})" if versions else ""))
        click.echo(f"  suites: {', '.join(check.suites)}")
        if check.seconds is not None:
            click.echo(f"  first frame after {check.seconds:.1f} s")
        for name, value in check.renderer.items():
            click.echo(f"  {name}: {value}")
        for problem in check.problems:
            click.echo(f"  {problem}")
        for step in check.next_steps:
            click.echo(f"  -> {step}")
    for problem in diagnosis.problems:
        click.echo(f"\n{problem}")
    broken = [check.family for check in diagnosis.suites if check.status == "broken"]
    if broken:
        click.echo(f"\nBroken: {', '.join(broken)}.")
    else:
        click.echo(
            "\nEverything that is installed works." if diagnosis.healthy else "\nNot everything works: see above."
        )
    ctx.exit(0 if diagnosis.healthy else 1)
