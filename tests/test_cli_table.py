"""`flowbench table` as a user types it."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from flowbench.cli.table import table
from flowbench.errors import FlowBenchError


def flowbench(*arguments, cwd):
    command = [sys.executable, "-m", "flowbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_the_printed_table_starts_with_the_command_as_typed(write_run, tmp_path):
    write_run("r 1")
    ran = flowbench("table", "r 1", "--by", "task,overall", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == "<!-- flowbench table 'r 1' --by task,overall -->"
    assert "| overall" in ran.stdout
    assert "100.0 [83.9, 100.0]" in ran.stdout
    assert ran.stderr == ""


def test_a_file_gets_the_same_text_and_its_folder_is_made(write_run, tmp_path):
    write_run("r1")
    to_file = flowbench("table", "r1", "--format", "latex", "--out", "tables/r1.tex", cwd=tmp_path)
    assert (to_file.returncode, to_file.stdout) == (0, "")
    printed = flowbench("table", "r1", "--format", "latex", cwd=tmp_path).stdout
    written = (tmp_path / "tables" / "r1.tex").read_text()
    assert written.splitlines()[1:] == printed.splitlines()[1:]
    assert written.splitlines()[0] == "% flowbench table r1 --format latex --out tables/r1.tex"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere"], "nowhere holds no run: manifest.json is missing"),
        (["r1", "--by", "tsak"], "There is no breakdown 'tsak'. Did you mean 'task'?"),
        (["r1", "r1"], "Run r1 is given twice."),
        (["r1", "./r1"], "Run r1 is given twice."),
        (["r1", "r2"], "not comparable: protocol: default (r1), hard (r2)"),
        (["r1", "--out", "."], "--out . is a folder; give the name of a file."),
        (["r1", "--out", "r1/manifest.json/x"], "--out r1/manifest.json/x cannot be written"),
        (["r1", "--format", "pdf"], "'pdf' is not one of 'md', 'csv', 'latex', 'html', 'json'"),
        ([], "Missing argument 'RUN...'"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(write_run, tmp_path, monkeypatch, arguments, sentence):
    write_run("r1")
    write_run("r2", protocol="hard")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(table, arguments)
    assert sentence in (str(ran.exception) if isinstance(ran.exception, FlowBenchError) else ran.output)
    assert (ran.exception.exit_code if isinstance(ran.exception, FlowBenchError) else ran.exit_code) == 2


def test_a_mistake_is_printed_without_a_traceback(tmp_path):
    ran = flowbench("table", "nowhere", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "Error: nowhere holds no run: manifest.json is missing. A run is made by flowbench eval --out.\n"
    )


def test_an_edited_store_is_refused(write_run, tmp_path):
    path = write_run("r1") / "episodes.jsonl"
    path.write_text(path.read_text().replace('"status":"success"', '"status":"failure"', 1))
    ran = flowbench("table", "r1", cwd=tmp_path)
    assert ran.returncode == 2
    assert "line 1 was changed or damaged after it was written" in ran.stderr


def test_help_has_examples_on_lines_of_their_own():
    text = CliRunner().invoke(table, ["--help"]).output
    assert "\n    flowbench table r1 r2 --by task-camera,overall\n" in text
