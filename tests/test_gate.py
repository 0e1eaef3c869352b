"""Gates: every verdict has its exit code, and a planted regression does not pass."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from flowbench.baseline import Baseline
from flowbench.errors import BadValue, StoreError
from flowbench.gate import EXIT_CODES, GateOptions, gate
from flowbench.outcomes import RunOutcomes
from flowbench.store import ResultStore

SEEDS = tuple(range(60))
#: Of 120 episodes.
PASSES = {"better", "held"}


@pytest.fixture
def write_one(write_run):
    """Write a run of 60 seeds of two tasks from one camera."""

    def write(name, outcome=lambda episode: "success", **changes):
        return write_run(name, outcome, **{"cameras": ("front",), "seeds": SEEDS, **changes})

    return write


def judged(folder, base, **options):
    folders = folder if isinstance(folder, list) else [folder]
    return gate([RunOutcomes.read(f) for f in folders], base, GateOptions(**options))


def baseline_of(*folders, **options):
    return Baseline.of([RunOutcomes.read(folder) for folder in folders], **options)


def below(seed):
    return lambda e: "success" if e.scenario.seed < seed else "failure"


# --- Verdicts -----------------------------------------------------------------------------------------------------


def test_the_same_outcomes_hold(write_one):
    found = judged(write_one("new", below(50)), baseline_of(write_one("old", below(50))))
    assert (found.verdict, found.exit_code) == ("held", 0)
    assert found.sentence.startswith("a loss of 5 points is ruled out with 95 % confidence: +0.0 points (-2.2 to +2.2)")
    assert (found.overall.lost, found.overall.won, found.overall.evidence.n) == (0, 0, 120)


def test_a_planted_regression_is_caught(write_one):
    base = baseline_of(write_one("old", below(54)))
    found = judged(
        write_one("new", lambda e: "failure" if e.task == "push" and e.scenario.seed % 4 == 0 else below(54)(e)), base
    )
    assert (found.verdict, found.exit_code) == ("regression", 1)
    assert "push 90 to 67 %" in found.sentence
    assert "reach" not in found.sentence
    assert {flip.id for flip in found.flips} >= {"toy/push@front/s000", "toy/push@front/s004"}
    assert len(found.flips) == 14


def test_a_rise_is_better_and_too_few_episodes_are_underpowered(write_one):
    base = baseline_of(write_one("old", below(30)))
    assert judged(write_one("better", below(45)), base).verdict == "better"
    few = baseline_of(write_one("few", below(5), seeds=tuple(range(6))))
    found = judged(write_one("few2", below(5), seeds=tuple(range(6))), few)
    assert (found.verdict, found.exit_code) == ("underpowered", 3)
    assert "can be neither shown nor ruled out" in found.sentence
    assert "about 40 more paired episodes would show it" in found.sentence
    assert judged(write_one("few3", below(5), seeds=tuple(range(6))), few, margin=0.25).verdict == "held"


def test_three_equal_cameras_do_not_make_the_gate_sure(write_run):
    views = {"cameras": ("front", "side", "top"), "seeds": tuple(range(20))}
    base = baseline_of(write_run("old", **views))
    # 120 episodes, but only 40 scenarios.
    assert judged(write_run("new", **views), base).verdict == "underpowered"


def test_every_verdict_has_an_exit_code_and_none_is_that_of_wrong_usage():
    assert {verdict for verdict, code in EXIT_CODES.items() if code == 0} == PASSES
    assert 2 not in EXIT_CODES.values()
    assert EXIT_CODES["regression"] == 1


# --- Not comparable -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, named",
    [
        ({"protocol": "hard"}, "protocol: default != hard"),
        ({"max_steps": 7}, "max_steps: default != 7"),
        ({"suite_version": 2}, "suite_version: 1 != 2"),
        ({"image_size": (64, 64)}, "image_size: default != 64,64"),
        ({"privileged": True}, "privileged: False != True"),
    ],
)
def test_other_rules_are_not_comparable_unless_asked_for(write_one, change, named):
    base = baseline_of(write_one("old"))
    new = write_one("new", **change)
    found = judged(new, base)
    assert (found.verdict, found.exit_code) == ("not comparable", 4)
    assert f"the rules differ from the baseline's ({named})" in found.sentence
    assert judged(new, base, allow_different=True).verdict == "held"


def test_another_suite_is_never_comparable(write_one):
    base = baseline_of(write_one("old"))
    found = judged(write_one("new", suite="libero10"), base, allow_different=True)
    assert (found.verdict, found.sentence) == (
        "not comparable",
        "suite libero10 shares no task with the baseline's suite toy.",
    )


def test_a_part_of_the_baseline_is_not_comparable_unless_asked_for(write_one):
    base = baseline_of(write_one("old"))
    part = write_one("part", seeds=SEEDS[:40])
    found = judged(part, base)
    assert found.verdict == "not comparable"
    assert "the run lacks 40 of the baseline's 120 episodes, e.g. push from front, s040." in found.sentence
    assert judged(part, base, allow_different=True, margin=0.1).verdict == "held"
    other = write_one("other", seeds=tuple(range(100, 160)))
    assert "no episode in common; pass --unpaired" in judged(other, base, allow_different=True).sentence
    assert judged(other, base, mode="unpaired").verdict == "held"


def test_more_than_the_baseline_is_left_out_and_said(write_one):
    base = baseline_of(write_one("old", seeds=SEEDS[:55]))
    found = judged(write_one("new", lambda e: "success" if e.scenario.seed < 55 else "failure"), base)
    assert found.verdict == "held"
    assert "10 episodes of the run are not in the baseline and were left out." in found.notes


def test_errors_do_not_pass_silently(write_one):
    base = baseline_of(write_one("old"))
    broken = write_one("new", lambda e: "error" if e.scenario.seed < 2 else "success")
    found = judged(broken, base)
    assert (found.verdict, found.exit_code) == ("not comparable", 4)
    assert found.sentence.startswith("4 of 120 episodes are errors.")
    accepted = judged(broken, base, max_errors=4)
    assert accepted.verdict == "held"
    assert "Error episodes, left out: 4 of the run, 0 of the baseline." in accepted.notes
    assert judged(broken, base, errors="failure").overall.lost == 4


def test_an_unfinished_run_is_not_comparable_unless_the_test_may_be_watched(write_one):
    base = baseline_of(write_one("old"))
    half = write_one("new", lambda e: "success" if e.scenario.seed < 30 else None)
    found = judged(half, base)
    assert found.verdict == "not comparable"
    assert "60 episodes have no result yet. Finish it, or pass --sequential" in found.sentence


def test_what_is_comparable_and_yet_other_is_said(write_one):
    base = baseline_of(write_one("old", versions={"mujoco": "3.3.0"}))
    notes = judged(write_one("new", agent="zero", versions={"mujoco": "3.3.2"}), base).notes
    assert "Another agent than the baseline's: name: random != zero." in notes
    assert "Other packages than the baseline's: mujoco 3.3.0 != 3.3.2." in notes


# --- Exact --------------------------------------------------------------------------------------------------------


def test_exact_wants_every_outcome(write_one):
    base = baseline_of(write_one("old", below(50)))
    assert judged(write_one("same", below(50)), base, mode="exact").verdict == "held"
    lost = judged(write_one("lost", lambda e: "failure" if e.id.endswith("s007") else below(50)(e)), base, mode="exact")
    assert (lost.verdict, lost.exit_code) == ("regression", 1)
    assert lost.sentence.startswith("of 120 episodes, 2 succeeded and no longer do.")
    won = judged(write_one("won", below(51)), base, mode="exact")
    assert (won.verdict, won.exit_code) == ("changed", 1)
    assert "2 end differently without a success lost" in won.sentence
    assert "flowbench baseline RUN --out FILE" in won.sentence


def test_exact_sees_another_number_of_steps(write_one):
    base = baseline_of(write_one("old"))
    (cell, *others) = base.cells
    slower = replace(base, cells=(replace(cell, steps=(13, *cell.steps[1:])), *others))
    found = judged(write_one("new"), slower, mode="exact")
    assert (found.verdict, found.exit_code) == ("changed", 1)
    assert "1 take another number of steps" in found.sentence
    assert found.flips[0].text() == "toy/reach@front/s000: success after 13 steps in A, success after 12 steps in B"


# --- Sequential ---------------------------------------------------------------------------------------------------


def interleaved(folder):
    """Store a run's episodes seed by seed instead of task by task."""
    path = folder / "episodes.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(sorted(lines, key=lambda line: json.loads(line)["seed"])))
    return folder


def test_a_run_that_fails_from_the_start_is_stopped_early(write_one):
    base = baseline_of(write_one("old"))
    new = interleaved(write_one("new", lambda e: "failure" if e.scenario.seed < 12 else None))
    found = judged(new, base, mode="sequential")
    assert (found.verdict, found.exit_code) == ("regression", 1)
    assert found.sentence.endswith("Decided after 24 of 120 scenarios.")


def test_a_sequential_gate_goes_on_until_it_knows(write_one):
    base = baseline_of(write_one("old"))
    started = interleaved(write_one("a", lambda e: "success" if e.scenario.seed < 3 else None))
    found = judged(started, base, mode="sequential")
    assert (found.verdict, found.exit_code, found.finished) == ("underpowered", 3, False)
    assert found.sentence.startswith("not decided after 6 of 120 scenarios: ")
    on = interleaved(write_one("b", lambda e: "success" if e.scenario.seed < 57 else None))
    assert judged(on, base, mode="sequential").verdict == "held"
    one_task = write_one("c", lambda e: "success" if e.task == "reach" else None)
    assert judged(one_task, base, mode="sequential").verdict == "underpowered", "push may still be lost"
    assert any("valid whenever it is asked for" in note for note in found.notes)


def test_runs_of_further_seeds_count_together(write_one):
    base = baseline_of(write_one("old"))
    parts = [write_one(f"p{start}", seeds=SEEDS[start : start + 20]) for start in (0, 20, 40)]
    assert judged(parts[:1], base, mode="sequential").verdict == "underpowered"
    assert judged(parts, base, mode="sequential").verdict == "held"
    assert judged(parts, base).verdict == "held"
    with pytest.raises(BadValue, match="Episode toy/reach@front/s000 is in two of the runs"):
        judged([parts[0], write_one("again", seeds=(0,))], base)
    with pytest.raises(BadValue, match="do not belong together: protocol: default != hard"):
        judged([parts[0], write_one("hard", protocol="hard")], base)


# --- The file -----------------------------------------------------------------------------------------------------


def test_a_baseline_is_read_back_as_it_was_written(write_one, tmp_path):
    statuses = ("success", "failure", "error")
    run = write_one("old", lambda e: statuses[e.scenario.seed % 3], image_size=(64, 48))
    base = baseline_of(run)
    path = tmp_path / "b.json"
    path.write_text(base.to_json())
    assert Baseline.read(path) == base
    assert base.cells[0].outcomes == "10e" * 20
    outcomes = RunOutcomes.read(run).frame.drop(columns="id")[list(base.frame.columns)]
    assert base.frame.equals(outcomes)
    lines = path.read_text().splitlines()
    assert len([line for line in lines if '"outcomes"' in line]) == 2, "one line per cell"
    assert path.stat().st_size < 3000


def test_counts_alone_are_compared_as_rates(write_one, tmp_path):
    base = baseline_of(write_one("old", below(50)), outcomes=False)
    path = tmp_path / "b.json"
    path.write_text(base.to_json())
    assert Baseline.read(path) == base
    new = write_one("new", below(20))
    assert "the baseline holds counts only; pass --unpaired" in judged(new, base).sentence
    found = judged(new, base, mode="unpaired")
    assert found.verdict == "regression"
    assert found.overall.baseline == pytest.approx(50 / 60)
    assert any("cameras are taken for independent" in note for note in found.notes)


def test_an_unfinished_run_is_no_baseline(write_one):
    with pytest.raises(BadValue, match="is not finished: 119 episodes have no result yet"):
        baseline_of(write_one("r", lambda e: "success" if e.id == "toy/reach@front/s000" else None))


@pytest.mark.parametrize(
    "text, sentence",
    [
        (None, "cannot be read: No such file or directory. Make one: flowbench baseline RUN --out"),
        ("{}", "is no baseline. Make one: flowbench baseline"),
        ("[", "is no complete baseline"),
        ('{"kind": "flowbench-baseline", "format_version": 9}', "has format_version 9; this FlowBench reads version 1"),
        ('{"kind": "flowbench-baseline", "format_version": 1}', "is no complete baseline"),
    ],
)
def test_what_is_no_baseline_is_refused_in_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StoreError, match=sentence):
        Baseline.read(path)


def test_a_baseline_whose_outcomes_were_cut_is_refused(write_one, tmp_path):
    path = tmp_path / "b.json"
    text = baseline_of(write_one("old")).to_json()
    path.write_text(text.replace('"outcomes":"111', '"outcomes":"11', 1))
    with pytest.raises(StoreError, match="reach from front has another number of outcomes than of scenarios"):
        Baseline.read(path)
    path.write_text(text.replace('"outcomes":"111', '"outcomes":"1x1', 1))
    with pytest.raises(StoreError, match="has an outcome other than 1, 0, e and -"):
        Baseline.read(path)


def test_impossible_options_are_refused():
    with pytest.raises(BadValue, match="--margin is 0; give a number between 0 and 0.5"):
        GateOptions(margin=0)
    with pytest.raises(BadValue, match="--alpha is 0.7;"):
        GateOptions(alpha=0.7)


# --- Command line -------------------------------------------------------------------------------------------------


def flowbench(*arguments, cwd):
    command = [sys.executable, "-m", "flowbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_the_exit_code_is_the_verdict(write_one, tmp_path):
    write_one("old")
    write_one("lost", below(40))
    write_one("hard", protocol="hard")
    write_one("few", seeds=(0, 1))
    made = flowbench("baseline", "old", "--out", "base/b.json", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "Wrote base/b.json\n")
    held = flowbench("gate", "old", "--baseline", "base/b.json", "--json", "v.json", cwd=tmp_path)
    assert held.returncode == 0, held.stderr
    assert held.stdout.splitlines()[1].startswith("held: a loss of 5 points is ruled out")
    verdict = json.loads((tmp_path / "v.json").read_text())
    assert (verdict["verdict"], verdict["exit_code"], verdict["overall"]["n"]) == ("held", 0, 120)
    assert verdict["command"].startswith("flowbench gate old")
    lost = flowbench("gate", "lost", "--baseline", "base/b.json", cwd=tmp_path)
    assert lost.returncode == 1
    assert "toy/reach@front/s040: success in the baseline, failure in the run." in lost.stdout
    assert flowbench("gate", "few", "--baseline", "base/b.json", "--allow-different", cwd=tmp_path).returncode == 3
    other = flowbench("gate", "hard", "--baseline", "base/b.json", cwd=tmp_path)
    assert (other.returncode, other.stdout.splitlines()[0][:16]) == (4, "not comparable: ")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere", "--baseline", "b.json"], "nowhere holds no run"),
        (["old", "--baseline", "none.json"], "Baseline none.json cannot be read"),
        (["old", "--baseline", "b.json", "--exact", "--unpaired"], "--exact and --unpaired exclude each other."),
        (["old", "--baseline", "b.json", "--follow"], "--follow needs --sequential"),
        (["old"], "Missing option '--baseline'"),
    ],
)
def test_wrong_usage_is_exit_code_2(write_one, tmp_path, arguments, sentence):
    (tmp_path / "b.json").write_text(baseline_of(write_one("old")).to_json())
    ran = flowbench("gate", *arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert sentence in ran.stderr


def test_following_a_run_ends_as_soon_as_it_is_decided(write_one, monkeypatch):
    from flowbench.cli import gate as command

    monkeypatch.setattr(command, "POLL_SECONDS", 0.05)
    base = baseline_of(write_one("old"))
    whole = RunOutcomes.read(write_one("whole", lambda e: "failure"))
    growing = whole.manifest
    results = sorted(ResultStore.read(whole.name).results, key=lambda result: result.seed)
    folder = write_one("growing", lambda e: None)

    def run():
        with ResultStore.open(folder, growing) as store:
            for result in results:
                store.append(result)
                time.sleep(0.02)

    thread = threading.Thread(target=run)
    thread.start()
    found = command._follow((folder,), base, GateOptions(mode="sequential"), patience=20.0)
    assert found.verdict == "regression"
    thread.join()
    assert len(found.flips) < 120, "it did not wait for the end"
    stuck = write_one("stuck", lambda e: "success" if e.scenario.seed < 1 else None)
    assert command._follow((stuck,), base, GateOptions(mode="sequential"), patience=0.1).verdict == "underpowered"
    with pytest.raises(StoreError, match="holds no run"):
        command._follow((folder / "never",), base, GateOptions(mode="sequential"), patience=0.1)
