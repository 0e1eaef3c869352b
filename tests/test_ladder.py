"""A ladder runs one evaluation per rung, and what it says about each part follows from paired episodes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowbench.agents.avdc.ladder import avdc_ladder
from flowbench.cli.ladder import ladder as ladder_command
from flowbench.errors import BadValue, StoreError, UnknownName
from flowbench.evaluate import EvalOptions
from flowbench.ladder import attribute, run_ladder
from flowbench.ladder_picture import draw_ladder
from flowbench.rungs import Rung, rungs_of
from flowbench.spec import AgentSpec, EvalSpec
from flowbench.store import ResultStore
from flowbench.table_formats import to_json, to_markdown

RUNGS = (
    Rung("truth", "rule=a", "all true", "zero", part="rule"),
    Rung("flow", "rule=a", "flow read", "zero", part="flow"),
    Rung("lot", "rule=a", "drawn by lot", "random"),
    Rung("zero", "", "nothing", "zero"),
)
#: Seeds that succeed, of ten.
GOOD = {"truth": range(9), "flow": range(6), "lot": [0, 7], "zero": []}


@pytest.fixture
def ladder(write_run):
    seeds = tuple(range(10))
    folders = [
        write_run(
            rung.name,
            lambda episode, good=GOOD[rung.name]: "success" if episode.scenario.seed in good else "failure",
            agent=rung.agent,
            seeds=seeds,
            cameras=("front",),
        )
        for rung in RUNGS
    ]
    return attribute("avdc", RUNGS, folders)


def test_each_rung_is_compared_with_the_truth_it_lost(ladder):
    truth, flow, lot, zero = ladder.rows
    assert [row.against for row in ladder.rows] == ["", "truth", "flow", ""]
    assert truth.rate.mean == pytest.approx(0.9) and truth.loss.estimate == pytest.approx(-0.1)
    assert flow.loss.estimate == pytest.approx(-0.3) and flow.loss.low < -0.3 < flow.loss.high
    # Three tasks flip together in three of ten scenarios: the exact test counts pairs.
    assert flow.loss.n == flow.rate.n == 10 * len(ladder.spec.tasks)
    assert lot.loss.estimate == pytest.approx(-0.4)
    assert zero.loss is None and zero.rate.mean == 0


def test_the_table_names_the_part_and_what_it_lost(ladder):
    lines = to_markdown(ladder, "flowbench diagnose ladder").splitlines()
    cells = {
        cell.split("|")[1].strip(): [part.strip() for part in cell.split("|")[2:-1]] for cell in lines if "|" in cell
    }
    assert cells["all true"][3] == "rule" and cells["all true"][4].startswith("-10.0 [")
    assert cells["flow read"][3] == "flow" and cells["flow read"][4].startswith("-30.0 [")
    assert cells["drawn by lot"][3] == "control, against flow"
    assert cells["nothing"][3] == "control" and cells["nothing"][4] == "-"
    by_task = to_markdown(ladder.by_task, "x").splitlines()
    assert next(line for line in by_task if line.startswith("| overall")).split("|")[2:6] == [
        "    90.0 ",
        "   60.0 ",
        "  20.0 ",
        "    0.0 ",
    ]


def test_programs_get_the_same_numbers(ladder):
    data = json.loads(to_json(ladder, "x"))
    rows = {row["rung"]: row for row in data["rows"]}
    assert rows["flow"]["difference"] == pytest.approx(-0.3) and rows["flow"]["against"] == "truth"
    assert rows["zero"]["difference"] is None
    assert data["by_task"]["truth"] == dict.fromkeys(ladder.spec.tasks, pytest.approx(0.9))


def test_it_is_drawn(ladder, tmp_path):
    pytest.importorskip("matplotlib")
    draw_ladder(ladder, tmp_path / "ladder.svg")
    text = (tmp_path / "ladder.svg").read_text()
    assert text.startswith("<?xml") and len(text) > 5000


def test_errors_count_as_failures_unless_they_are_left_out(write_run):
    folder = write_run("truth", lambda episode: "error" if episode.scenario.seed == 0 else "success", seeds=(0, 1))
    (failed,), (left_out,) = (
        attribute("avdc", RUNGS[:1], [folder], errors=errors).rows for errors in ("failure", "exclude")
    )
    assert failed.rate.mean == 0.5 and left_out.rate.mean == 1 and failed.errors == left_out.errors > 0


# --- rungs of avdc


def test_the_rungs_of_avdc_take_away_one_truth_after_another():
    rungs = avdc_ladder(flow="raft-small", planner="retrieval", checkpoint=str(Path(__file__)))
    paper = [rung for rung in rungs if rung.group == "rule=paper"]
    assert [rung.part for rung in paper] == ["rule", "geometry", "flow", "planner", None]
    assert [rung.name for rung in paper] == [
        "paper-exact-motion",
        "paper-exact-flow",
        "paper-estimated-flow",
        "paper-imagined-plan",
        "paper-random-plan",
    ]
    assert paper[2].arguments == {"planner": "oracle", "flow": "raft-small", "rule": "paper"}
    assert paper[3].arguments["planner"] == "retrieval" and paper[3].checkpoint == str(Path(__file__))
    assert rungs[-1].agent == "zero" and len(rungs) == 11
    assert len({rung.name for rung in rungs}) == len(rungs)


def test_without_a_planner_its_rung_is_left_out():
    assert [rung.part for rung in avdc_ladder(rules=["robust"])] == ["rule", "geometry", "flow", None, None]


def test_an_agent_without_a_ladder_is_named():
    with pytest.raises(BadValue) as caught:
        rungs_of("random")
    assert "Agent random has no ladder: it does not say which of its parts can be made perfect." in str(caught.value)
    assert "Agent avdc does; another can with a static method `ladder` (docs/ladder.md)." in str(caught.value)


def test_a_rule_that_does_not_exist_is_named():
    with pytest.raises(UnknownName, match="Agent avdc has no rule 'robot'. Did you mean 'robust'?"):
        rungs_of("avdc", rules=["robot"])


# --- running


def toy_spec(**changes):
    return EvalSpec("toy", "default", AgentSpec("zero"), ("reach",), ("front",), (0,), max_steps=2, **changes)


def test_every_rung_is_a_run_of_its_own_that_can_be_continued(tmp_path):
    rungs = (Rung("a", "g", "", "random", part="rule"), Rung("b", "g", "", "zero"))
    options = EvalOptions(workers=0, progress=False)
    runs = run_ladder(rungs, toy_spec(), tmp_path, options)
    assert [run.manifest.spec.agent.name for run in runs] == ["random", "zero"]
    before = (tmp_path / "a" / "episodes.jsonl").read_bytes()
    run_ladder(rungs, toy_spec(), tmp_path, options)
    assert (tmp_path / "a" / "episodes.jsonl").read_bytes() == before
    assert len(ResultStore.read(tmp_path / "b").results) == 1


def test_a_folder_with_another_ladder_is_refused_before_anything_runs(tmp_path):
    rungs = (Rung("a", "g", "", "random", part="rule"), Rung("b", "g", "", "zero"))
    options = EvalOptions(workers=0, progress=False)
    run_ladder(rungs[1:], toy_spec(), tmp_path, options)
    with pytest.raises(StoreError, match="b holds another evaluation"):
        run_ladder(rungs, toy_spec(clip_actions=True), tmp_path, options)
    assert not (tmp_path / "a").exists()


def invoke(*arguments):
    return CliRunner().invoke(ladder_command, list(arguments))


def test_a_dry_run_lists_the_rungs(tmp_path):
    found = invoke("--suite", "toy", "--episodes", "3", "--out", str(tmp_path / "l"), "--dry-run", "--rules", "robust")
    assert (
        "robust-exact-flow: exact flow of a perfect plan (avdc: planner=oracle, flow=exact, rule=robust)"
        in found.output
    )
    assert "5 rungs of 9 episodes each." in found.output and not (tmp_path / "l").exists()


def test_the_command_writes_the_table_of_the_rungs_that_were_asked_for(tmp_path):
    pytest.importorskip("matplotlib")
    found = invoke(
        *("--suite", "toy", "--tasks", "reach", "--seeds", "0", "--max-steps", "3", "--workers", "0", "--quiet"),
        *("--rungs", "robust-random-plan,zero", "--out", str(tmp_path)),
    )
    assert found.exit_code == 0, found.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "ladder.md",
        "ladder.json",
        "ladder.png",
        "robust-random-plan",
        "zero",
    }
    text = (tmp_path / "ladder.md").read_text()
    assert "one random direction per plan" in text and "| overall |" in text.replace("  ", " ")


def test_a_rung_that_does_not_exist_is_named(tmp_path):
    found = invoke("--suite", "toy", "--rungs", "robust-exct-flow", "--out", str(tmp_path / "l"))
    assert str(found.exception).startswith(
        "This ladder has no rung 'robust-exct-flow'. Did you mean 'robust-exact-flow'?"
    )
