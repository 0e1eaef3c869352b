"""Scales, camera sweeps, lengths and learning curves: positions follow from numbers."""

import math

import pandas as pd
import pytest

from flowbench.errors import BadValue
from flowbench.report.axes import Axis
from flowbench.report.cameras import find_sweeps
from flowbench.report.charts import learning_chart, length_histogram, sweep_chart
from flowbench.report.lengths import measure_lengths
from flowbench.report.runs import ReportRun
from flowbench.report.scores import ScoreBoard
from flowbench.report.training_log import read_training_logs


@pytest.mark.parametrize(
    "values, texts",
    [
        ((0, 500), ["0", "100", "200", "300", "400", "500"]),
        ((0.3, 0.34), ["0.3", "0.31", "0.32", "0.33", "0.34"]),
        ((-3, 8), ["-5", "-2.5", "0", "2.5", "5", "7.5", "10"]),
        ((7, 7), ["6.5", "6.7", "6.9", "7.1", "7.3", "7.5"]),
        ((), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_a_linear_axis_covers_its_values_with_round_labels(values, texts):
    axis = Axis.covering(values)
    assert all(-1e-9 <= axis.at(value) <= 100 + 1e-9 for value in values)
    assert len(axis.ticks) <= 8
    if texts != ["6.5", "6.7", "6.9", "7.1", "7.3", "7.5"]:
        assert [tick.text for tick in axis.ticks] == texts


def test_a_logarithmic_axis_makes_equal_ratios_equal_distances():
    axis = Axis.covering_log([0.003, 4.0])
    assert [tick.text for tick in axis.ticks] == ["0.001", "0.01", "0.1", "1", "10"]
    assert axis.at(1) - axis.at(0.1) == pytest.approx(25)
    assert math.isnan(axis.at(0))


def board(folders):
    return ScoreBoard.of([ReportRun.read(folder).summary for folder in folders], "exclude", False)


def test_a_sweep_along_one_axis_becomes_a_curve_with_the_camera_itself_at_zero(write_run):
    cameras = ("front+az-20", "front+az-10", "front", "front+az10", "side", "front+yaw5", "front+az10+x0.1")
    succeeds = {"front": 5, "front+az-10": 4, "front+az10": 3, "front+az-20": 0}
    folder = write_run(
        "r1",
        lambda episode: "success" if episode.scenario.seed < succeeds.get(episode.camera, 1) else "failure",
        cameras=cameras,
    )
    scores = board([folder])
    (sweep,) = find_sweeps(scores.cameras, scores.cameras)
    assert (sweep.view, sweep.kind, sweep.values) == ("front", "az", (-20, -10, 0, 10))
    assert [score.rate for score in sweep.scores[0]] == [0, 0.8, 1, 0.6]
    points = sweep_chart(sweep).lines[0].points
    assert [round(point.y, 6) for point in points] == [100, 20, 0, 40]
    assert all(point.high <= point.y <= point.low for point in points)
    assert [point.x for point in points] == sorted(point.x for point in points)


def test_two_poses_are_no_sweep(write_run):
    scores = board([write_run("r1", cameras=("front", "front+az10"))])
    assert find_sweeps(scores.cameras, scores.cameras) == ()


def test_a_heat_map_has_the_cells_of_its_own_run_only(write_run):
    folders = [
        write_run("r1", lambda e: "success" if e.camera == "side" else "failure"),
        write_run("r2", agent="zero", cameras=("front",)),
        write_run("r3", agent="scripted", cameras=("front", "wrist")),
    ]
    maps = board(folders).heat_maps()
    assert [(one.run, one.cameras) for one in maps] == [(0, ("front", "side")), (2, ("front", "wrist"))]
    assert [[score.rate for score in row] for row in maps[0].scores] == [[0, 1], [0, 1]]
    assert [score.n for score in maps[0].totals] == [10, 10]


@pytest.mark.parametrize("most", [1, 7, 24, 25, 26, 100, 500, 501, 12345])
def test_every_episode_falls_into_one_bin_of_the_histogram(most):
    steps = [0, 1, most // 2, most]
    frame = pd.DataFrame({"task": "reach", "status": ["error", "success", "failure", "failure"], "steps": steps})
    (bins,) = measure_lengths([frame], ["reach"]).bins
    assert [sum(one.counts[status] for one in bins) for status in range(3)] == [1, 2, 1]
    assert len(bins) <= 25 and bins[0].first == 1 and bins[-1].last >= most
    histogram = length_histogram(bins)
    assert all(bar.x >= 0 and bar.x + bar.width <= 100 + 1e-9 and bar.y >= -1e-9 for bar in histogram.bars)


def test_quartiles_count_successes_alone():
    frame = pd.DataFrame({"task": "reach", "status": ["success"] * 5 + ["failure"], "steps": [10, 20, 30, 40, 50, 500]})
    lengths = measure_lengths([frame], ["reach", "push"])
    assert lengths.tasks["reach"][0] == (10, 20, 30, 40, 50, 5)
    assert lengths.tasks["push"] == (None,)


def write(path, text):
    path.write_text(text)
    return path


def test_training_logs_are_drawn_quantity_by_quantity(tmp_path):
    first = write(tmp_path / "sof.csv", "step, loss,val_loss,stage\n0,100,\n2,1,0.5,a\n1,10,,b\n")
    second = write(tmp_path / "bc.csv", "epoch,step,loss\n0,5,2\n")
    loss, val_loss, epoch = read_training_logs([first, second])
    assert [one.quantity for one in (loss, val_loss, epoch)] == ["loss", "val_loss", "epoch"]
    assert loss.names == ("sof", "bc") and loss.log_scale and not val_loss.log_scale
    assert loss.curves[0].steps.tolist() == [0, 1, 2] and loss.curves[0].values.tolist() == [100, 10, 1]
    assert val_loss.curves[0].steps.tolist() == [2]
    chart = learning_chart(loss)
    assert chart.lines[0].path == "M0.00,0.00L20.00,50.00L40.00,100.00"
    assert len(chart.lines[1].points) == 1


def test_a_long_log_is_averaged_over_neighbours(tmp_path):
    rows = "".join(f"{step},{step}\n" for step in range(4000))
    (curves,) = read_training_logs([write(tmp_path / "long.csv", "step,loss\n" + rows)])
    (curve,) = curves.curves
    assert curve.averaged == 10 and len(curve.steps) == 400
    assert curve.values[0] == 4.5 and curve.steps[-1] == 3994.5


@pytest.mark.parametrize(
    "text, sentence",
    [
        (None, "cannot be read as CSV: No such file or directory."),
        ("", "cannot be read as CSV: No columns to parse from file."),
        ("epoch,loss\n1,2\n", "has no column step; its columns are epoch, loss."),
        ("step,loss\n1,low\n", "has no numbers beside its column step."),
        ("step,loss\n", "has no numbers beside its column step."),
        ("\x00\x01\x02", "--training-log"),
    ],
)
def test_a_log_that_cannot_be_drawn_is_refused_by_name(tmp_path, text, sentence):
    path = tmp_path / "log.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadValue, match="--training-log .*log.csv ") as raised:
        read_training_logs([path])
    assert sentence in str(raised.value)
