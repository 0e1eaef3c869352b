"""`flowbench data` as a user types it."""

import json
import re
import subprocess
import sys

import h5py
import pytest
from click.testing import CliRunner
from PIL import Image

from flowbench.cli.data import data
from flowbench.data.info import summarise
from flowbench.data.readers import open_demos
from flowbench.errors import FlowBenchError


def run(*arguments):
    """Run in this process; an error of ours becomes its text and exit code, as `flowbench` prints it."""
    ran = CliRunner().invoke(data, [str(argument) for argument in arguments])
    if isinstance(ran.exception, FlowBenchError):
        return ran.exception.exit_code, f"Error: {ran.exception}\n"
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, ran.stdout if ran.exit_code in (0, 1) else ran.output


def flowbench(*arguments, cwd):
    command = [sys.executable, "-m", "flowbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def test_info_says_what_a_file_holds(collected_toy):
    code, text = run("info", collected_toy)
    assert code == 0
    assert "format:   flowbench-hdf5, images upright" in text
    assert re.search(r"size: +[\d.,]+ [kM]B, [\d.,]+ MB decoded \(ratio [\d.]+\), [\d.]+ MB per minute", text)
    assert re.search(r"demos: +4, \d+ steps, [\d.]+ min \(20 steps/s\)", text)
    assert re.search(r"toy/push +2 +\d+-\d+ +2 of 2 +push the block onto the green disc", text)
    assert re.search(r"wrist\+yaw10 +64x48 +rgb, depth, segmentation, intrinsic_cv, extrinsic_cv", text)
    assert re.search(r"actions \(4,\) over \d+ steps\n +min +max +mean +std\n +dx ", text)
    assert "spec.tasks" in text


def test_info_as_json_has_the_same_numbers(collected_toy):
    code, text = run("info", collected_toy, "--json", "--checksums")
    summary = json.loads(text)
    assert code == 0
    assert summary["checksum_problems"] == []
    assert summary["bytes_on_disk"] == collected_toy.stat().st_size
    assert summary["compression"] == pytest.approx(summary["bytes_decoded"] / summary["bytes_on_disk"], rel=1e-3)
    assert summary["minutes"] == pytest.approx(summary["steps"] / 20 / 60)
    with h5py.File(collected_toy) as file:
        actions = [group["actions"][()] for group in file["data"].values()]
    (statistics,) = [entry for entry in summary["statistics"] if entry["key"] == "actions"]
    rows = [row for part in actions for row in part.tolist()]
    for component in range(4):
        column = [row[component] for row in rows]
        mean = sum(column) / len(column)
        assert statistics["minimum"][component] == min(column)
        assert statistics["maximum"][component] == max(column)
        assert statistics["mean"][component] == pytest.approx(mean)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        assert statistics["std"][component] == pytest.approx(variance**0.5)


def test_info_reads_every_format(recording):
    reader = open_demos(recording.path)
    summary = summarise(reader)
    assert summary.demos == len(recording.moments)
    assert summary.steps == sum(map(len, recording.moments))
    assert recording.camera in [camera.name for camera in summary.cameras]
    assert ("actions" in [entry.key for entry in summary.statistics]) == recording.actions
    code, text = run("info", recording.path, "--format", recording.format)
    assert code == 0
    assert f"format:   {recording.format}" in text


def test_info_finds_a_changed_number_by_its_checksum(toy_copy):
    assert run("info", toy_copy, "--checksums")[1].endswith("\nChecksums: all 4 hold.\n")
    with h5py.File(toy_copy, "r+") as file:
        file["data/demo_1/rewards"][0] = 5
    code, text = run("info", toy_copy, "--checksums")
    assert code == 1
    assert "demo_1: its arrays were changed or damaged after they were written (checksum)." in text
    assert run("info", toy_copy)[0] == 0


def test_show_draws_a_sheet_beside_the_caller(collected_toy, tmp_path):
    ran = flowbench("data", "show", collected_toy, "--demo", "demo_2", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "Wrote toy-demo_2.png\n"), ran.stderr
    with Image.open(tmp_path / "toy-demo_2.png") as sheet:
        assert 600 <= sheet.width <= 2000
        assert sheet.height > 1000


@pytest.mark.parametrize("layout", ["libero-hdf5", "calvin-npz", "avdc-png"])
def test_show_draws_other_formats(write_recording, tmp_path, layout):
    recording = write_recording(layout, "recorded")
    out = tmp_path / "sheet.png"
    assert run("show", recording.path, "--out", out) == (0, f"Wrote {out}\n")
    assert Image.open(out).width > 600


def test_show_makes_a_video(collected_toy, tmp_path):
    out = tmp_path / "videos" / "push.mp4"
    assert run("show", collected_toy, "--camera", "front", "--steps", "0-9", "--out", out) == (0, f"Wrote {out}\n")
    assert out.stat().st_size > 1000


def test_verify_ends_with_what_held(collected_toy):
    ran = flowbench("data", "verify", collected_toy, "--workers", 2, cwd=collected_toy.parent)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "4 of 4 demonstrations replay to their stored success; all states equal.",
        "24 pictures rendered again: all equal.",
        "4 demonstrations checked: no problems.",
    ]
    assert "4/4" in ran.stderr


def test_verify_names_what_does_not_hold_and_exits_with_1(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        file["data/demo_1"].attrs["success"] = False
        file["data/demo_2/actions"][3] = [0, 0, 1, -1]
        file["data"].attrs["total"] = 3
    code, text = run("verify", toy_copy, "--workers", 0, "--no-pictures")
    assert code == 1
    assert f"{toy_copy}: the file says total = 3, and there are " in text
    assert "demo_1: its replay ends in success; stored is failure.\n" in text
    assert "demo_2: its arrays were changed or damaged after they were written (checksum).\n" in text
    assert re.search(
        r"demo_2: states differ from step 4 on, first in physics \(at most [\d.e-]+ in physics\)\.\n", text
    )
    assert re.search(r"[23] of 4 demonstrations replay to their stored success; states differ in 1 of 4", text)
    assert text.endswith("4 demonstrations checked: 2 with problems.\n")


def test_verify_says_what_it_could_not_do(collect_toy, collected_toy):
    code, text = run("verify", collect_toy(action_free=True, tasks=("push",)), "--workers", 0)
    assert (code, text.splitlines()[-2:]) == (
        0,
        ["2 of 2 not replayed: no actions.", "2 demonstrations checked: no problems."],
    )
    code, text = run("verify", collected_toy, "--no-replay", "--demos", "demo_3", "--workers", 0)
    assert (code, text.splitlines()[-2:]) == (
        0,
        ["1 of 1 not replayed: --no-replay.", "1 demonstration checked: no problems."],
    )


def test_render_makes_a_file_that_verifies(collect_toy, tmp_path):
    states, out = collect_toy(modalities=()), tmp_path / "pictures.h5"
    code, text = run("render", states, "--cameras", "side", "--image-size", "32x24", "--out", out, "--workers", 0)
    assert code == 0
    assert f"Wrote {out}, " in text
    code, text = run("verify", out, "--workers", 0)
    assert code == 0
    assert "12 pictures rendered again: all equal." in text


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["info", "nowhere.h5"], "There are no demonstrations at nowhere.h5: no such file or folder."),
        (
            ["info", "{toy}", "--format", "flowbnch-hdf5"],
            "There is no format 'flowbnch-hdf5'. Did you mean 'flowbench-",
        ),
        (
            ["info", "{libero}", "--checksums"],
            "has no checksums: format libero-hdf5 stores none. Leave out --checksums.",
        ),
        (["show", "{toy}", "--demo", "demo_33"], "has no demonstration 'demo_33'. Did you mean 'demo_3'?"),
        (["show", "{toy}", "--camera", "frnt"], "has no camera 'frnt'. Did you mean 'front'?"),
        (["show", "{toy}", "--kinds", "flwo"], "There is no kind 'flwo'. Did you mean 'flow'?"),
        (["show", "{toy}", "--steps", "5-2"], "--steps '5-2' is not a list of numbers and ranges"),
        (["show", "{toy}", "--steps", "999"], "--steps names step 999; demo_0 has steps 0 to "),
        (["show", "{toy}", "--steps", "0-18"], "a contact sheet has room for 16. Name fewer, or make a video"),
        (["show", "{toy}", "--out", "x.gif"], "--out x.gif must end in .png (a contact sheet) or .mp4 (a video)."),
        (["show", "{toy}", "--out", "{folder}"], "must end in .png (a contact sheet) or .mp4 (a video)."),
        (["show", "{toy}", "--out", "{toy}/x.png"], "x.png cannot be written: "),
        (["verify", "{toy}", "--demos", "dmo_3"], "has no demonstration 'dmo_3'. Did you mean 'demo_3'?"),
        (["verify", "{toy}", "--workers", "-1"], "-1 is not in the range x>=0"),
        (["render", "{toy}", "--cameras", "frnt", "--out", "y.h5"], "Suite toy has no camera 'frnt'."),
        (["render", "{toy}", "--image-size", "big", "--out", "y.h5"], "--image-size 'big' is not of the form"),
        (["render", "{toy}", "--out", "{toy}"], "exists. It is the file that is read."),
        (["render", "{toy}", "--out", "{toy}/y.h5"], "y.h5 cannot be written: "),
        (["render", "{toy}"], "Missing option '--out'"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    collected_toy, write_recording, tmp_path, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    libero = write_recording("libero-hdf5").path if "{libero}" in arguments else ""
    filled = [part.format(toy=collected_toy, libero=libero, folder=tmp_path) for part in arguments]
    code, text = run(*filled)
    assert sentence in text
    assert code == 2
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".png", ".h5", ".gif")]


def test_a_truncated_file_is_one_line_without_a_traceback(toy_copy):
    toy_copy.write_bytes(toy_copy.read_bytes()[:30_000])
    for verb in ("info", "show", "verify"):
        ran = flowbench("data", verb, toy_copy, cwd=toy_copy.parent)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert re.fullmatch(rf"Error: {re.escape(str(toy_copy))} .*truncated.*\n", ran.stderr)


def test_help_has_examples_on_lines_of_their_own():
    for verb in ("info", "show", "verify", "render"):
        assert f"\n    flowbench data {verb} " in run(verb, "--help")[1]
