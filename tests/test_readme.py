"""What the README shows is what happens: its commands parse, its Python runs, its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from flowbench.cli import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md")])
README = (ROOT / "README.md").read_text()


def blocks(text, language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [block for name, block in found if name == language]


def commands(text):
    lines = [line for block in blocks(text, "") for line in block.splitlines()]
    return [line.split("#")[0] for line in lines if line.startswith("flowbench ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_documentation_parse(page):
    for line in commands(page.read_text()):
        _, verb, *arguments = shlex.split(line)
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None, f"{page.name} shows flowbench {verb}, which does not exist"
        try:
            command.make_context(verb, arguments, parent=click.Context(cli), resilient_parsing=False)
        except click.exceptions.Exit as error:
            assert error.exit_code == 0


def test_the_readme_has_commands_to_check():
    assert len(commands(README)) >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_python_in_the_readme_runs(tmp_path):
    environment, gym, agent = blocks(README, "python")
    code = environment + gym + "env.reset(seed=0)\nassert env.render().ndim == 3\nassert points_world.shape[-1] == 3\n"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ran.returncode == 0, ran.stderr
    (tmp_path / "my_agent.py").write_text(agent)
    (line,) = [line for line in commands(README) if "my_agent.py" in line]
    command = [sys.executable, "-m", *shlex.split(line), "--limit", "2", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ran.returncode == 0, ran.stderr


def test_the_mistake_in_the_readme_gets_the_sentence_in_the_readme(tmp_path):
    line, sentence = re.search(r"^\$ (flowbench .*)\n(Error: .*) \.\.\.$", README, re.M).groups()
    command = [sys.executable, "-m", *shlex.split(line)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ran.returncode == 2
    assert ran.stderr.startswith(sentence)
    assert "Traceback" not in ran.stderr


def test_make_offers_the_two_commands():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, re.M)
    assert re.search(r"^test:", makefile, re.M)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
