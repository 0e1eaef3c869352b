"""The charts as files for papers."""

import builtins
import xml.etree.ElementTree as ElementTree

import pytest
from click.testing import CliRunner

from flowbench.cli.report import report
from flowbench.errors import BadValue, MissingExtra
from flowbench.report import ReportOptions, collect
from flowbench.report.plots import save_plots

CAMERAS = ("front+az-10", "front", "front+az10")


@pytest.fixture
def content(write_run, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plots")
    outcome = lambda episode: ("success", "failure", "error")[(episode.scenario.seed + len(episode.camera)) % 3]  # noqa: E731
    folders = [write_run("r1", outcome, cameras=CAMERAS), write_run("r2", agent="$zero_", cameras=CAMERAS)]
    log = tmp_path / "log.csv"
    log.write_text("step,val/loss\n0,100\n1,10\n2,1\n")
    return collect(folders, tmp_path, ReportOptions(training_logs=(log,)))


def test_every_chart_is_a_png_and_an_svg(content, tmp_path):
    written = save_plots(content, tmp_path / "figures")
    assert sorted(path.name for path in written) == sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert [path.name for path in written if path.suffix == ".svg"] == [
        "success-by-task.svg",
        "camera-sweep-front-az.svg",
        "camera-heat-map-1-random.svg",
        "camera-heat-map-2-zero_.svg",
        "episode-lengths.svg",
        "learning-curves-val-loss.svg",
    ]
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        else:
            texts = [element.text for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]
            assert texts, f"{path.name} has no text that can be searched"
    names = [element.text for element in ElementTree.parse(written[1]).iter() if element.tag.endswith("}text")]
    assert {"reach", "push", "all tasks", "success rate [%]", "random", "$zero_"} <= set(names)


def test_the_same_report_gives_the_same_files(content, tmp_path):
    first, second = save_plots(content, tmp_path / "a"), save_plots(content, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_file_in_the_place_of_the_folder_is_refused(content, tmp_path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(BadValue, match="--plots .*figures is a file; give the name of a folder."):
        save_plots(content, tmp_path / "figures")


def test_without_matplotlib_the_extra_is_named_before_anything_is_written(write_run, tmp_path, monkeypatch):
    write_run("r1")
    monkeypatch.chdir(tmp_path)
    original = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert CliRunner().invoke(report, ["r1"]).exit_code == 0
    (tmp_path / "report.html").unlink()
    ran = CliRunner().invoke(report, ["r1", "--plots", "figures"])
    assert isinstance(ran.exception, MissingExtra)
    assert "pip install 'flowbench[plots]'" in str(ran.exception)
    assert not (tmp_path / "report.html").exists()
