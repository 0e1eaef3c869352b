"""`flowbench report` as a user types it."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from flowbench.cli.report import report
from flowbench.errors import FlowBenchError
from flowbench.recording import video_path


def some(episode):
    return "success" if episode.scenario.seed < 3 else "failure"


def test_one_command_writes_one_file(write_run, tmp_path):
    write_run("r1", some)
    command = [sys.executable, "-m", "flowbench", "report", "r1", "--out", "pages/r1.html"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    assert ran.stderr.startswith("Wrote pages/r1.html (0.")
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["r1.html"]
    text = (tmp_path / "pages" / "r1.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    assert "Made by <code>flowbench report r1 --out pages/r1.html</code>" in text


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere"], "nowhere holds no run: manifest.json is missing"),
        (["empty"], "empty holds a run without a finished episode. Go on with it by its own command: flowbench eval"),
        (["r1", "r1"], "Run r1 is given twice."),
        (["r1", "--out", "."], "--out . is a folder; give the name of a file."),
        (["r1", "--out", "r1/manifest.json/x"], "--out r1/manifest.json/x cannot be written"),
        (["r1", "--max-video-mb", "-1"], "--max-video-mb is -1; give a number from 0."),
        (["r1", "--pictures", "r1/manifest.json"], "--pictures r1/manifest.json is not a folder."),
        (["r1", "--pictures", "r1"], "--pictures r1 holds no picture (.png, .jpg, .jpeg, .gif, .webp)."),
        (["r1", "--training-log", "r1/x.csv"], "--training-log r1/x.csv cannot be read as CSV: No such file"),
        (["r1", "--videos", "some"], "'some' is not one of 'failures', 'all', 'none'"),
        ([], "Missing argument 'RUN...'"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(write_run, tmp_path, monkeypatch, arguments, sentence):
    write_run("r1", some)
    write_run("empty", lambda episode: None)
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(report, arguments)
    assert sentence in (str(ran.exception) if isinstance(ran.exception, FlowBenchError) else ran.output)
    assert (ran.exception.exit_code if isinstance(ran.exception, FlowBenchError) else ran.exit_code) == 2
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_finished_leaves_the_old_one(write_run, tmp_path, monkeypatch):
    write_run("r1", some)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").write_text("old")
    ran = CliRunner().invoke(report, ["r1", "--training-log", "missing.csv"])
    assert isinstance(ran.exception, FlowBenchError)
    assert (tmp_path / "report.html").read_text() == "old"
    assert CliRunner().invoke(report, ["r1"]).exit_code == 0
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_damaged_video_is_a_warning_and_the_page_is_written(write_run, tmp_path, monkeypatch):
    folder = write_run("r1", some)
    path = video_path(folder, "toy/reach@front/s003")
    path.parent.mkdir()
    path.write_bytes(b"\0\0\0\x10ftyp")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(report, ["r1"])
    assert ran.exit_code == 0
    assert "s003.mp4 is not an MP4 video." in ran.stderr
    assert "s003.mp4 is not an MP4 video." in (tmp_path / "report.html").read_text()


def test_help_has_examples_on_lines_of_their_own():
    text = CliRunner().invoke(report, ["--help"]).output
    assert "\n    flowbench report r1 r2 --out r1-r2.html --plots figures\n" in text
