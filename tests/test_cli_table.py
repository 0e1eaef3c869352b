"""`flowbench table` as a user types it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

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
    assert "100.0 [72.2, 100.0]" in ran.stdout
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


# --- Layouts ------------------------------------------------------------------------------------------------------


def test_a_layout_is_printed_with_its_published_rows(tmp_path):
    ran = flowbench("table", "--layout", "avdc-ithor", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[0] == "<!-- flowbench table --layout avdc-ithor -->"
    assert "*31.3*" in ran.stdout


def test_a_layout_of_ones_own_is_filled_from_a_run(write_run, tmp_path):
    write_run("r1")
    (tmp_path / "mine.py").write_text(
        "from flowbench.layouts import Column, Layout\n"
        "MINE = Layout('mine', 'My table.', (Column('push', 'Push', tasks=('push',)),), suites=('toy',))\n"
    )
    arguments = ("table", "r1", "--layout", "mine.py:MINE", "--per-camera", "--format", "csv", "--out", "t.csv")
    ran = flowbench(*arguments, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "Wrote t.csv\n")
    text = (tmp_path / "t.csv").read_text()
    assert text.splitlines()[0] == "# flowbench table r1 --layout mine.py:MINE --per-camera --format csv --out t.csv"
    assert [line.split(",")[3] for line in text.splitlines() if line.startswith("run,")] == ['"default'] * 3


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["r1", "--layout", "libro"], "There is no layout 'libro'. Did you mean 'libero'?"),
        (["r1", "--layout", "libero"], "r1 is a run of suite toy; layout libero shows libero-spatial, libero-object"),
        (["r1", "--layout", "cameras", "--published"], "Layout cameras has no published rows; leave out --published."),
        (
            ["r1", "--layout", "cameras", "--by", "task"],
            "--by belongs to the generic table; layout cameras has its own",
        ),
        (["r1", "--published"], "The generic table has no published rows. Choose a paper's table with --layout."),
        (["r1", "--per-camera"], "--per-camera belongs to a paper's table; choose one with --layout."),
        (["r1", "--allow-missing"], "--allow-missing belongs to a paper's table; choose one with --layout."),
        (["--layout", "libero", "--no-published"], "There is nothing to show: layout libero was given no run"),
        (["r1", "--layout", "nowhere.py:X"], "Layout file 'nowhere.py' does not exist."),
        (["nowhere", "--layout", "cameras"], "nowhere holds no run: manifest.json is missing"),
    ],
)
def test_mistakes_with_layouts_get_one_sentence(write_run, tmp_path, monkeypatch, arguments, sentence):
    write_run("r1")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(table, arguments)
    assert isinstance(ran.exception, FlowBenchError)
    assert sentence in str(ran.exception)


def test_a_failed_write_leaves_the_old_file(write_run, tmp_path, monkeypatch):
    import flowbench.atomic

    write_run("r1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.md").write_text("old")

    def full_disk(path, text):
        path.write_text(text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(flowbench.atomic, "_write_text", full_disk)
    ran = CliRunner().invoke(table, ["r1", "--out", "t.md"])
    assert str(ran.exception) == "--out t.md cannot be written: No space left on device."
    assert (tmp_path / "t.md").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r1", "t.md"]


def test_layouts_are_listed(tmp_path):
    lines = flowbench("list", "layouts", cwd=tmp_path).stdout.splitlines()
    assert lines[0].startswith("generic ")
    assert any(line.startswith("libero ") and "libero-spatial" in line for line in lines)


COMMITTED = Path(__file__).parents[1] / "results" / "tables"


def command_of(path):
    """Return the command in the first line of a committed table."""
    return shlex.split(re.sub(r"^(<!--|%|#) | -->$", "", path.read_text().splitlines()[0]))


TABLES = [path for path in sorted(COMMITTED.glob("*")) if command_of(path)[:2] == ["flowbench", "table"]]


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="needs a checkout")
def test_the_tables_of_every_paper_are_committed():
    assert {"avdc-metaworld", "avdc-ithor", "sof-metaworld", "libero", "visaflow-calvin"} <= {p.stem for p in TABLES}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_committed_tables_are_what_their_command_makes(path, tmp_path):
    command = command_of(path)
    out = command.index("--out") + 1
    assert command[out] == f"results/tables/{path.name}"
    command[out] = str(tmp_path / path.name)
    ran = flowbench(*command[1:], cwd=COMMITTED.parents[1])
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / path.name).read_text().splitlines()[1:] == path.read_text().splitlines()[1:]
