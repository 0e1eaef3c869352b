"""Comparing two runs: what is paired, what is decided, and what a reader is told."""

import csv
import io
import json
import subprocess
import sys

import pytest

from flowbench.compare import compare
from flowbench.errors import BadValue, StoreError
from flowbench.outcomes import RunOutcomes
from flowbench.recording import video_path
from flowbench.stats import mcnemar_exact, tango_interval
from flowbench.table_formats import FORMATS

SEEDS = tuple(range(20))


def read(*folders):
    return [RunOutcomes.read(folder) for folder in folders]


def below(seed, also=()):
    """An outcome: success on the seeds below one, and on some more."""
    return lambda e: "success" if e.scenario.seed < seed or e.scenario.seed in also else "failure"


@pytest.fixture
def write_one(write_run):
    """Write a run of 20 seeds from one camera."""

    def write(name, outcome=lambda episode: "success", **changes):
        return write_run(name, outcome, **{"cameras": ("front",), "seeds": SEEDS, **changes})

    return write


# --- Numbers ------------------------------------------------------------------------------------------------------


def test_runs_on_the_same_scenarios_are_paired_by_them(write_one):
    # A: 0-9. B: 0-7 and 10-17, so 2 lost and 8 won of 20, in both tasks.
    found = compare(*read(write_one("a", below(10)), write_one("b", below(8, range(10, 18)), agent="zero")))
    assert found.paired
    reach = found.tasks[0]
    assert (reach.task, reach.counts) == ("reach", (8, 2, 8, 2))
    assert (reach.a.mean, reach.b.mean) == (0.5, 0.8)
    assert reach.difference.estimate == pytest.approx(0.3)
    assert reach.difference[1:3] == pytest.approx(tango_interval(8, 2, 20))
    assert reach.difference.p == pytest.approx(mcnemar_exact(2, 8))
    assert reach.adjusted_p == pytest.approx(min(2 * mcnemar_exact(2, 8), 1)), "Holm over two equal tasks"
    assert found.overall.counts == (16, 4, 16, 4)
    assert found.overall.difference.p == pytest.approx(mcnemar_exact(4, 16))
    assert found.decision == "better"
    assert found.verdict.startswith("B is better than A: +30.0 points (")
    assert "p = 0.012, 40 paired episodes." in found.verdict


def test_cameras_of_a_scenario_count_as_one(write_run):
    outcomes = {"a": below(10), "b": below(10, (15, 16, 17, 18, 19))}
    one = compare(*read(*(write_run(f"{n}1", o, cameras=("front",), seeds=SEEDS) for n, o in outcomes.items())))
    views = ("front", "side", "top")
    three = compare(*read(*(write_run(f"{n}3", o, cameras=views, seeds=SEEDS) for n, o in outcomes.items())))
    assert three.overall.difference.n == 3 * one.overall.difference.n
    assert three.overall.difference.p == pytest.approx(one.overall.difference.p)
    assert three.overall.difference.design_effect == pytest.approx(3)
    assert any("3.00 episodes of a scenario are worth one independent episode" in note for note in three.notes)


def test_exchanging_the_runs_exchanges_the_answer(write_one):
    a, b = read(write_one("a", below(5)), write_one("b", below(15)))
    there, back = compare(a, b), compare(b, a)
    assert (there.decision, back.decision) == ("better", "worse")
    assert there.overall.difference.estimate == -back.overall.difference.estimate
    assert there.verdict.endswith("B is better in reach, push.")


def test_equal_outcomes_of_enough_episodes_are_alike_and_of_few_are_not_decided(write_one):
    many = [write_one(name, below(80), seeds=tuple(range(100))) for name in ("a", "b")]
    assert compare(*read(*many)).decision == "alike"
    few = compare(*read(write_one("c", below(10)), write_one("d", below(10))))
    assert few.decision == "undecided"
    assert few.overall.more > 0
    more = few.overall.more
    assert f"About {more} more pairs ({-(-more // 2)} more scenarios per task) would find" in few.verdict


def test_runs_without_a_common_scenario_are_compared_by_their_rates(write_one):
    a, b = write_one("a", below(10)), write_one("b", below(40), seeds=tuple(range(20, 50)))
    found = compare(*read(a, b))
    assert not found.paired
    assert (found.tasks[0].a.n, found.tasks[0].b.n, found.tasks[0].counts) == (20, 30, None)
    assert found.overall.difference.estimate == pytest.approx(2 / 3 - 1 / 2)
    assert any("no scenario in common" in note for note in found.notes)


def test_one_camera_each_is_paired_by_scenario(write_one):
    found = compare(*read(write_one("a", below(10)), write_one("b", below(12), cameras=("side",))))
    assert found.paired
    assert found.tasks[0].counts == (10, 0, 2, 8)
    assert any("cameras: front != side" in note for note in found.notes)


def test_only_what_both_ran_is_compared_and_the_rest_is_said(write_one):
    found = compare(*read(write_one("a"), write_one("b", tasks=("push",), seeds=tuple(range(5, 30)))))
    assert [task.task for task in found.tasks] == ["push"]
    assert found.overall.counts.n == 15
    assert "Without a partner and left out: 25 episodes of" in " ".join(found.notes)


# --- Errors and unfinished runs -----------------------------------------------------------------------------------


def test_errors_leave_with_their_partners_or_count_as_failures(write_one):
    a = write_one("a")
    b = write_one("b", lambda e: "error" if e.scenario.seed < 3 else "success")
    left_out = compare(*read(a, b))
    assert left_out.overall.counts == (34, 0, 0, 0)
    assert any(
        "Error episodes, left out, with their partners: 0 in" in note and "6 in" in note for note in left_out.notes
    )
    counted = compare(*read(a, b), errors="failure")
    assert counted.overall.counts == (34, 6, 0, 0)
    assert any("counted as failures" in note for note in counted.notes)


def test_an_unfinished_run_is_compared_as_far_as_it_got_and_said(write_one):
    found = compare(*read(write_one("a"), write_one("b", lambda e: "success" if e.scenario.seed < 4 else None)))
    assert found.overall.counts.n == 8
    assert any("is not finished: 32 episodes have no result yet" in note for note in found.notes)


# --- What is comparable -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, named",
    [
        ({"suite": "libero10"}, "suite: toy ({a}), libero10 ({b})"),
        ({"protocol": "hard"}, "protocol: default ({a}), hard ({b})"),
        ({"max_steps": 7}, "max_steps: default ({a}), 7 ({b})"),
        ({"suite_version": 2}, "suite_version: 1 ({a}), 2 ({b})"),
        ({"profile": "fast"}, "profile: full ({a}), fast ({b})"),
        ({"versions": {"mujoco": "3.3.9"}}, "package mujoco 3.3.0 ({a}), 3.3.9 ({b})"),
    ],
)
def test_other_rules_are_refused_unless_asked_for(write_one, change, named):
    a, b = read(
        write_one("a", versions={"mujoco": "3.3.0"}), write_one("b", **{"versions": {"mujoco": "3.3.0"}, **change})
    )
    named = named.format(a=a.name, b=b.name)
    with pytest.raises(BadValue) as refused:
        compare(a, b)
    assert f"The runs are not comparable: {named}." in str(refused.value)
    assert "--allow-different" in str(refused.value)
    found = compare(a, b, allow_different=True)
    assert any(note == f"Compared on request, though the rules differ: {named}." for note in found.notes)
    assert found.paired == (list(change) in (["max_steps"], ["profile"], ["versions"])), (
        "equal keys must mean equal initial states"
    )


def test_what_else_differs_is_said(write_one):
    a = write_one("a", versions={"numpy": "1.26.0"}, privileged=True)
    b = write_one("b", versions={"numpy": "2.0.0"}, image_size=(64, 64))
    notes = " ".join(compare(*read(a, b)).notes)
    assert "different packages: numpy 1.26.0 != 2.0.0." in notes
    assert "image_size: default != 64,64" in notes
    assert "a is privileged: its agent reads the simulator's state." in notes


def test_bad_input_is_refused_in_one_sentence(write_one, tmp_path):
    a, b = read(write_one("a"), write_one("b", tasks=("lift",)))
    with pytest.raises(BadValue, match="is compared with itself"):
        compare(a, a)
    with pytest.raises(BadValue, match="--alpha is 1; give a number between 0 and 1"):
        compare(a, b, alpha=1)
    with pytest.raises(BadValue, match="--difference is 0;"):
        compare(a, b, difference=0)
    with pytest.raises(BadValue, match="have no task in common: reach, push and lift"):
        compare(a, b)
    with pytest.raises(StoreError, match="holds no run"):
        RunOutcomes.read(tmp_path)
    with pytest.raises(BadValue, match="without a finished episode"):
        RunOutcomes.read(write_one("c", lambda e: None))


# --- Formats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["md", "csv", "latex", "html", "json"])
def test_every_format_holds_the_verdict_and_every_task(write_one, format_):
    found = compare(*read(write_one("a", below(5)), write_one("b", below(15))))
    text = FORMATS[format_](found, "flowbench compare a b")
    assert "flowbench compare a b" in text.splitlines()[0]
    for part in ("B is better than A", "reach", "push", "overall"):
        assert part in text


def test_json_holds_every_flip_with_its_videos_and_unrounded_numbers(write_one):
    a, b = write_one("a", below(5)), write_one("b", below(17))
    video = video_path(b, "toy/reach@front/s007")
    video.parent.mkdir()
    video.write_bytes(b"")
    found = compare(*read(a, b))
    data = json.loads(FORMATS["json"](found, ""))
    assert len(data["flips"]) == 24
    (flip,) = [flip for flip in data["flips"] if flip["id"] == "toy/reach@front/s007"]
    assert (flip["a"], flip["b"], flip["videos"]) == ("failure", "success", [str(video)])
    assert data["verdict"]["decision"] == "better"
    by_task = {row["task"]: row for row in data["rows"]}
    assert by_task["reach"]["difference_ci_low"] == found.tasks[0].difference.low
    assert (by_task["reach"]["only_a"], by_task["reach"]["only_b"]) == (0, 12)
    markdown = FORMATS["md"](found, "")
    assert markdown.count("Flipped:") == 10
    assert "14 more episodes flipped" in markdown


def test_csv_is_one_line_per_task(write_one):
    found = compare(*read(write_one("a", below(5)), write_one("b", below(15))))
    lines = [line for line in FORMATS["csv"](found, "").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert [row["task"] for row in rows] == ["reach", "push", "overall"]
    assert float(rows[0]["b_success_rate"]) == 0.75
    assert rows[2]["p_holm"] == ""


# --- Command line -------------------------------------------------------------------------------------------------


def flowbench(*arguments, cwd):
    command = [sys.executable, "-m", "flowbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_the_command_prints_the_comparison_or_one_sentence(write_one, tmp_path):
    write_one("a", below(5))
    write_one("b", below(15))
    write_one("c", protocol="hard")
    ran = flowbench("compare", "a", "b", "--difference", "0.1", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == "<!-- flowbench compare a b --difference 0.1 -->"
    assert "until a difference of 10 points would be found" in ran.stdout
    written = flowbench("compare", "a", "b", "--format", "json", "--out", "out/ab.json", cwd=tmp_path)
    assert (written.returncode, written.stdout, written.stderr) == (0, "", "Wrote out/ab.json\n")
    assert json.loads((tmp_path / "out" / "ab.json").read_text())["paired"] is True
    refused = flowbench("compare", "a", "c", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("Error: The runs are not comparable: protocol: default (a), hard (c).")
