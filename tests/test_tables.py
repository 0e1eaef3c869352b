"""Tables: the right numbers in the right cells, with everything that qualifies them."""

import csv
import html.parser
import io
import json
import math
import re
import time

import pandas as pd
import pytest

from flowbench.errors import BadValue, StoreError, UnknownName
from flowbench.stats import wilson_interval
from flowbench.store import EPISODES_NAME, ResultStore, read_columns, read_rows
from flowbench.table_formats import FORMATS, escape_latex, escape_markdown
from flowbench.tables import RunSummary, aggregate, print_summary

COMMAND = "flowbench table r1"


def summarise(*folders):
    return [RunSummary.read(folder) for folder in folders]


def row(table, section, task, camera):
    (found,) = [r for r in table.rows if (r.section, r.task, r.camera) == (section, task, camera)]
    return found


def score(table, section, task, camera, run=0):
    return row(table, section, task, camera).scores[run]


def mixed_outcome(episode):
    """reach succeeds from the front, fails from the side; push succeeds on seeds 0 and 1, and breaks on seed 4."""
    if episode.task == "reach":
        return "success" if episode.camera == "front" else "failure"
    if episode.scenario.seed == 4:
        return "error"
    return "success" if episode.scenario.seed < 2 else "failure"


# --- Numbers ------------------------------------------------------------------------------------------------------


def test_every_breakdown_counts_what_was_stored(write_run):
    table = aggregate(summarise(write_run("r1", mixed_outcome)), ("task", "camera", "task-camera", "overall"))
    front = score(table, "task-camera", "push", "front")
    assert (front.n, front.successes, front.errors, front.missing) == (4, 2, 1, 0)
    assert (front.rate, front.low, front.high) == (0.5, *wilson_interval(2, 4))
    reach = score(table, "task", "reach", "all")
    assert (reach.n, reach.successes, reach.errors) == (10, 5, 0)
    side = score(table, "camera", "all", "side")
    assert side.rate == pytest.approx((0 / 5 + 2 / 4) / 2), "a rate over cells is the mean of their rates"
    overall = score(table, "overall", "overall", "all")
    assert overall.rate == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)
    assert (overall.n, overall.errors) == (18, 2)


def test_errors_are_left_out_of_n_or_counted_as_failures_on_request(write_run):
    runs = summarise(write_run("r1", mixed_outcome))
    strict = aggregate(runs, ("task-camera",), errors="failure")
    assert score(strict, "task-camera", "push", "front").rate == pytest.approx(2 / 5)
    assert score(strict, "task-camera", "push", "front").errors == 1, "they are shown all the same"
    assert "counted as failures, which is AVDC's published accounting" in strict.notes[0]
    assert "not counted in n" in aggregate(runs).notes[0]


def test_a_cell_of_errors_alone_has_no_rate_and_does_not_pull_the_mean(write_run):
    folder = write_run("r1", lambda e: "error" if (e.task, e.camera) == ("push", "side") else "success")
    table = aggregate(summarise(folder), ("task-camera", "overall"))
    empty = score(table, "task-camera", "push", "side")
    assert math.isnan(empty.rate)
    assert (empty.text, empty.errors) == ("-", 5)
    assert score(table, "overall", "overall", "all").rate == 1.0
    assert "cells without a counted episode are left out" in table.notes[1]
    strict = aggregate(summarise(folder), ("overall",), errors="failure")
    assert score(strict, "overall", "overall", "all").rate == pytest.approx(0.75)


def test_missing_episodes_are_counted_from_the_spec(write_run):
    folder = write_run("r1", lambda e: "success" if e.scenario.seed < 3 and e.task == "reach" else None)
    table = aggregate(summarise(folder))
    assert score(table, "task", "reach", "all").missing == 4
    assert score(table, "task", "push", "all").missing == 10
    assert f"{folder} is not finished: 14 of 20 episodes have no result yet." in table.notes


@pytest.mark.parametrize("limit", [1, 3, 7, 20, 50])
def test_a_limit_is_part_of_what_was_asked_for(write_run, limit):
    runs = summarise(write_run("r1", limit=limit))
    assert runs[0].cells["missing"].sum() == 0
    assert runs[0].cells["success"].sum() == min(limit, 20)
    interrupted = summarise(write_run("r2", lambda e: "success" if e.scenario.seed == 0 else None, limit=limit))
    assert interrupted[0].cells[["success", "missing"]].to_numpy().sum() == min(limit, 20)


def test_results_in_memory_give_the_same_table_as_the_folder(write_run):
    folder = write_run("r1", mixed_outcome)
    run = ResultStore.read(folder)
    in_memory = RunSummary.from_results(run.manifest, run.results, str(folder))
    assert aggregate([in_memory]) == aggregate(summarise(folder))


def test_tasks_and_cameras_keep_the_order_of_the_spec(write_run):
    folder = write_run("r1", tasks=("push", "lift", "reach"), cameras=("side", "front"))
    table = aggregate(summarise(folder))
    assert [r.task for r in table.rows if r.section == "task"] == ["push", "lift", "reach"]
    assert [r.camera for r in table.rows if r.section == "camera"] == ["side", "front"]


def test_the_default_breakdown_shows_cameras_only_if_there_are_several(write_run):
    one = aggregate(summarise(write_run("r1", cameras=("front",))))
    assert [(r.section, r.task, r.camera) for r in one.rows] == [
        ("task", "reach", "front"),
        ("task", "push", "front"),
        ("overall", "overall", "front"),
    ]
    two = aggregate(summarise(write_run("r2")))
    assert [r.section for r in two.rows] == ["task", "task", "camera", "camera", "overall"]


# --- Several runs -------------------------------------------------------------------------------------------------


def test_runs_stand_side_by_side_and_privileged_ones_are_marked(write_run):
    expert = write_run("expert", agent="scripted", privileged=True)
    first, second = write_run("a"), write_run("b", lambda e: "failure")
    table = aggregate(summarise(expert, first, second))
    assert [column.label for column in table.columns] == ["scripted (privileged)", "random (a)", "random (b)"]
    assert [s.rate for s in row(table, "overall", "overall", "all").scores] == [1.0, 1.0, 0.0]
    assert any(note.startswith("privileged: the agent reads the simulator's state") for note in table.notes)
    assert "privileged" not in " ".join(aggregate(summarise(first)).notes)


def test_a_run_without_a_cell_shows_a_dash_there(write_run):
    table = aggregate(summarise(write_run("r1"), write_run("r2", tasks=("reach",), agent="zero")))
    assert row(table, "task", "push", "all").scores[1] is None
    assert "| push" in FORMATS["md"](table, COMMAND)
    assert any("The runs differ in tasks: reach,push" in note for note in table.notes)


@pytest.mark.parametrize(
    "change, named",
    [
        ({"suite": "libero10"}, "suite: toy ({0}), libero10 ({1})"),
        ({"protocol": "hard"}, "protocol: default ({0}), hard ({1})"),
        ({"max_steps": 7}, "max_steps: default ({0}), 7 ({1})"),
        ({"suite_version": 2}, "suite_version: 1 ({0}), 2 ({1})"),
    ],
)
def test_runs_under_different_rules_are_refused_unless_asked_for(write_run, change, named):
    folders = write_run("r1"), write_run("r2", agent="zero", **change)
    named = named.format(*folders)
    with pytest.raises(BadValue) as refused:
        aggregate(summarise(*folders))
    assert f"The runs are not comparable: {named}" in str(refused.value)
    assert "--allow-mixed" in str(refused.value)
    table = aggregate(summarise(*folders), allow_mixed=True)
    assert any(note.startswith("Not comparable") and named in note for note in table.notes)


def test_tasks_of_different_suites_are_told_apart(write_run):
    folders = write_run("r1"), write_run("r2", suite="other", agent="zero")
    table = aggregate(summarise(*folders), ("task",), allow_mixed=True)
    assert [r.task for r in table.rows] == ["toy/reach", "toy/push", "other/reach", "other/push"]
    assert table.caption.startswith("Suite toy, protocol default; Suite other, protocol default;")


RENDERER = {"renderer": {"backend": "egl", "device": "llvmpipe"}}


@pytest.mark.parametrize(
    "first, second, named",
    [
        (
            {"versions": {"mujoco": "3.3.0"}},
            {"versions": {"mujoco": "3.3.2"}},
            "package mujoco 3.3.0 ({0}), 3.3.2 ({1})",
        ),
        ({}, {"profile": "fast"}, "profile: full ({0}), fast ({1})"),
        (RENDERER, {"renderer": {"backend": "osmesa"}}, "renderer: backend egl ({0}), osmesa ({1})"),
    ],
)
def test_runs_of_other_simulators_or_renderers_are_refused_unless_asked_for(write_run, first, second, named):
    folders = write_run("r1", **first), write_run("r2", agent="zero", **second)
    named = named.format(*folders)
    with pytest.raises(BadValue, match=re.escape(f"The runs are not comparable: {named}. Make a table of each")):
        aggregate(summarise(*folders))
    table = aggregate(summarise(*folders), allow_mixed=True)
    assert f"Not comparable, shown together on request. {named}." in table.notes


def test_what_an_agent_that_looks_at_nothing_was_not_drawn_by_does_not_matter(write_run):
    looking = write_run("r1", **RENDERER)
    blind = write_run("r2", agent="zero", modalities=(), profile="fast")
    assert any("The runs differ in profile: full" in note for note in aggregate(summarise(looking, blind)).notes)


def test_a_package_that_one_run_did_not_have_is_no_difference(write_run):
    versions = {"mujoco": "3.3.0", "metaworld": "3.1.1"}
    folders = (
        write_run("r1", versions=versions),
        write_run("r2", agent="zero", versions={**versions, "pybullet": "3.2"}),
    )
    assert "pybullet" not in " ".join(aggregate(summarise(*folders)).notes)


def test_what_else_differs_is_said_in_a_note(write_run):
    plain = write_run("r1", versions={"torch": "2.2"})
    fast = write_run("r2", agent="zero", profile="fast", clip_actions=True, versions={"torch": "2.3"})
    table = aggregate(summarise(plain, fast), allow_mixed=True)
    notes = "\n".join(table.notes)
    assert table.caption.endswith("render profile full, fast.")
    assert f"{fast}: rendered with the fast profile" in notes
    assert f"{fast}: out-of-range actions clipped." in notes
    assert f"different packages: torch 2.2 ({plain}), 2.3 ({fast})." in notes


def test_changes_of_the_protocol_are_said_even_for_one_run(write_run):
    folder = write_run("r1", max_steps=30, limit=3)
    notes = aggregate(summarise(folder)).notes
    assert f"{folder}: horizon 30 steps instead of the protocol's, limited to 3 episodes." in notes


def test_episodes_that_repeat_from_camera_to_camera_are_counted_once(write_run):
    by_scenario = lambda e: "success" if e.scenario.seed < 3 else "failure"  # noqa: E731
    seeds = tuple(range(10))
    by = ("task", "task-camera", "overall")
    table = aggregate(summarise(write_run("r1", by_scenario, seeds=seeds)), by)
    both, one = score(table, "task", "push", "all"), score(table, "task-camera", "push", "front")
    assert (both.n, one.n) == (20, 10)
    assert (both.low, both.high) == pytest.approx((one.low, one.high))
    assert (one.low, one.high) == pytest.approx(wilson_interval(3, 10))
    overall = score(table, "overall", "overall", "all")
    assert (overall.low, overall.high) == pytest.approx(wilson_interval(6, 20)), "two tasks of ten scenarios"
    notes = " ".join(table.notes)
    assert "Wilson's interval at the number of independent episodes that their scenarios are worth" in notes


def test_cameras_that_disagree_add_evidence(write_run):
    alternating = lambda e: "success" if (e.scenario.seed + (e.camera == "side")) % 2 else "failure"  # noqa: E731
    table = aggregate(summarise(write_run("r1", alternating, seeds=tuple(range(40)))), ("task", "task-camera"))
    both, one = score(table, "task", "push", "all"), score(table, "task-camera", "push", "front")
    assert both.high - both.low < 0.8 * (one.high - one.low)


@pytest.mark.parametrize("status, rate", [("success", 1.0), ("failure", 0.0)])
def test_a_rate_of_all_or_nothing_keeps_the_width_of_its_scenarios(write_run, status, rate):
    table = aggregate(summarise(write_run("r1", lambda e: status, seeds=tuple(range(10)))))
    found = score(table, "task", "push", "all")
    assert found.rate == rate
    assert (found.low, found.high) == pytest.approx(wilson_interval(10 * rate, 10))


def test_an_error_that_counts_as_a_failure_enters_the_interval(write_run):
    outcome = lambda e: "error" if e.scenario.seed == 4 else "success"  # noqa: E731
    runs = summarise(write_run("r1", outcome))
    failure = score(aggregate(runs, ("task",), errors="failure"), "task", "push", "all")
    assert (failure.n, failure.low) == (10, pytest.approx(wilson_interval(4, 5).low))
    exclude = score(aggregate(runs, ("task",)), "task", "push", "all")
    assert (exclude.n, exclude.low) == (8, pytest.approx(wilson_interval(4, 4).low))


def test_a_torn_last_line_is_said(write_run):
    folder = write_run("r1")
    path = folder / EPISODES_NAME
    path.write_bytes(path.read_bytes()[:-20])
    table = aggregate(summarise(folder))
    assert f"{folder}: the last stored line was cut off by a crash and is not counted." in table.notes
    assert score(table, "overall", "overall", "all").missing == 1


def test_bad_input_is_refused_in_one_sentence(write_run, tmp_path):
    with pytest.raises(StoreError, match=r"holds no run: manifest.json is missing"):
        RunSummary.read(tmp_path)
    with pytest.raises(
        BadValue, match=r"holds a run without a finished episode. Go on with it by its own command: flow"
    ):
        RunSummary.read(write_run("empty", lambda e: None))
    runs = summarise(write_run("r1"))
    with pytest.raises(BadValue, match="r1 is given twice"):
        aggregate(runs * 2)
    with pytest.raises(UnknownName, match="There is no breakdown 'tasks'. Did you mean 'task'?"):
        aggregate(runs, ("tasks",))
    with pytest.raises(BadValue, match="needs at least one run"):
        aggregate([])


# --- Formats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "format_, first_line",
    [
        ("md", "<!-- flowbench table r1 -->"),
        ("csv", "# flowbench table r1"),
        ("latex", "% flowbench table r1"),
        ("html", "<!-- flowbench table r1 -->"),
        ("json", '{"command": "flowbench table r1",'),
    ],
)
def test_the_first_line_is_the_command(write_run, format_, first_line):
    table = aggregate(summarise(write_run("r1")))
    assert FORMATS[format_](table, COMMAND).splitlines()[0] == first_line


@pytest.mark.parametrize("format_", ["md", "html"])
def test_a_command_cannot_leave_its_comment(write_run, format_):
    table = aggregate(summarise(write_run("r1")))
    first, second = FORMATS[format_](table, "flowbench table 'a-->b'\n--by task").splitlines()[:2]
    assert first == "<!-- flowbench table 'a--&gt;b' --by task -->"
    assert "--by" not in second


def test_markdown_shows_rate_interval_n_and_errors(write_run):
    text = FORMATS["md"](aggregate(summarise(write_run("r1", mixed_outcome))), COMMAND)
    (line,) = [line for line in text.splitlines() if line.startswith("| push")]
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["push", "all", "50.0 [15.0, 85.0]", "8", "2"]
    assert "missing" not in text, "a column of zeros is left out"
    assert "| missing" in re.sub(
        " +",
        " ",
        FORMATS["md"](aggregate(summarise(write_run("r2", lambda e: e.task == "push" and "success" or None))), ""),
    )


def test_csv_is_read_back_unrounded(write_run):
    table = aggregate(summarise(write_run("r1", mixed_outcome), write_run("r2", agent="zero")), ("task", "overall"))
    frame = pd.read_csv(io.StringIO(FORMATS["csv"](table, COMMAND)), comment="#")
    assert len(frame) == 6
    line = frame[(frame["by"] == "overall") & (frame["agent"] == "random")].iloc[0]
    expected = score(table, "overall", "overall", "all")
    assert line["success_rate"] == expected.rate
    assert line["success_rate_ci95_low"] == expected.low
    assert (line["n"], line["n_success"], line["n_error"], line["n_missing"]) == (18, 9, 2, 0)


def test_json_is_read_back_unrounded_and_has_null_for_what_does_not_exist(write_run):
    folder = write_run("r1", lambda e: "error" if e.task == "push" else "success", privileged=True)
    table = aggregate(summarise(folder))
    data = json.loads(FORMATS["json"](table, COMMAND))
    assert next(iter(data)) == "command"
    assert data["runs"][0]["privileged"] is True
    assert data["runs"][0]["command"] == "flowbench eval --agent random --suite toy"
    by_task = {entry["task"]: entry for entry in data["rows"] if entry["by"] == "task"}
    assert by_task["push"]["success_rate"] is None
    assert by_task["push"]["n_error"] == 10
    assert by_task["reach"]["success_rate_ci95_low"] == pytest.approx(wilson_interval(5, 5).low)
    assert data["notes"] == list(table.notes)


def test_latex_is_balanced_and_has_one_cell_per_column(write_run):
    table = aggregate(summarise(write_run("r1", mixed_outcome), write_run("r2", agent="zero")))
    text = FORMATS["latex"](table, COMMAND)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    columns = re.search(r"begin\{tabular\}\{(\w+)\}", text)[1]
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 2 + len(table.rows)
    assert all(line.count("&") == len(columns) - 1 for line in lines[1:])
    assert text.count(r"\midrule") == 3, "one before each section"


class CellCounter(html.parser.HTMLParser):
    """Collects the texts of a page's table cells, row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.inside, self.open = [], False, []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.inside = False
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.inside:
            self.rows[-1].append(data)


def test_html_is_well_formed_and_holds_every_cell(write_run):
    table = aggregate(summarise(write_run("r1", mixed_outcome)))
    parser = CellCounter()
    parser.feed(FORMATS["html"](table, COMMAND))
    assert parser.open == []
    assert parser.rows[2] == ["reach", "all", "50.0 [23.9, 76.1]", "10", "0"]
    assert len(parser.rows) == 2 + len(table.rows)


NASTY = "a|b_*<b>&%${x}#~^\\"


def test_names_are_escaped_in_every_format(write_run):
    folder = write_run("r1", agent=NASTY)
    table = aggregate(summarise(folder))
    assert escape_markdown(NASTY) == r"a\|b\_\*\<b\>&%${x}#~^\\"
    assert escape_latex("x_y & 50% \\") == r"x\_y \& 50\% \textbackslash{}"
    assert escape_latex("[a]") == "{[}a]", "after a line break, a bracket would be an option"
    markdown = FORMATS["md"](table, COMMAND)
    grid = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in grid}) == 1, "a bar in a name opens no column"
    assert escape_latex(NASTY) in FORMATS["latex"](table, COMMAND)
    assert "<b>" not in FORMATS["html"](table, COMMAND)
    lines = [line for line in FORMATS["csv"](table, COMMAND).splitlines() if not line.startswith("#")]
    assert next(csv.DictReader(lines))["agent"] == NASTY
    assert json.loads(FORMATS["json"](table, COMMAND))["runs"][0]["agent"] == NASTY


def test_a_fresh_run_is_summarised_with_the_command_that_shows_it_again(write_run, capsys):
    folder = write_run("my run")
    print_summary(ResultStore.read(folder))
    assert capsys.readouterr().out.splitlines()[0] == f"<!-- flowbench table '{folder}' -->"


# --- Size ---------------------------------------------------------------------------------------------------------


def test_two_hundred_thousand_episodes_are_counted_in_about_a_second(write_run):
    seeds = tuple(range(2000))
    manifest = summarise(write_run("r1", lambda e: "success" if e.scenario.seed == 0 else None, seeds=seeds))[
        0
    ].manifest
    cells = [(f"task{t}", f"camera{c}") for t in range(50) for c in range(2)]
    statuses = ("success", "failure", "error", "success")
    rows = [
        (task, camera, statuses[seed % 4], f"toy/{task}@{camera}/s{seed}") for seed in seeds for task, camera in cells
    ]

    class Result:
        __slots__ = ("task", "camera", "status", "id")

    def result(values):
        made = Result()
        made.task, made.camera, made.status, made.id = values
        return made

    results = [result(values) for values in rows]
    start = time.perf_counter()
    table = aggregate([RunSummary.from_results(manifest, results)], ("task", "overall"))
    # 0.5 s when nothing else runs; per-episode Python loops over a table take tens of seconds.
    assert time.perf_counter() - start < 4
    assert score(table, "task", "task7", "all").n == 2 * 1500


def test_columns_read_quickly_equal_those_read_by_parsing(write_run):
    awkward = ("reach", "push", 'a "quoted", {odd} name', "back\\slash", "größe", "line\nbreak", "status")
    folder = write_run("r1", lambda e: ("success", "failure", "error")[e.scenario.seed % 3], tasks=awkward, agent='x"y')
    names = ("task", "camera", "agent", "status", "scenario")
    rows, _ = read_rows(folder)
    columns, torn = read_columns(folder, names)
    assert columns == [
        tuple((row | {"scenario": row["id"].rpartition("/")[2]})[name] for name in names) for row in rows
    ]
    assert len(columns) == 7 * 2 * 5
    assert not torn
