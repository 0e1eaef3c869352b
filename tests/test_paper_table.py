"""Papers' tables: the right episodes in the right columns, and published rows that cannot be taken for ours."""

import csv
import html.parser
import io
import json
import math
import re

import pytest

from flowbench.errors import BadValue, DataError
from flowbench.layouts import Column, Layout, get_layout
from flowbench.paper_table import OURS, PUBLISHED, TableOptions, paper_table
from flowbench.stats import wilson_interval
from flowbench.table_formats import FORMATS
from flowbench.tables import RunSummary

COMMAND = "flowbench table r1 --layout mine"
ROWS = """
schema_version = 1
[sources.p]
paper = "A paper"
arxiv = "1234.56789"
table = "Table 1"
read_in = "the paper"
[sources.q]
paper = "Another paper"
table = "Table 9"
read_in = "a leaderboard"
[defaults]
tag = "P"
[[rows]]
method = "Method_1"
source = "p"
confidence = "direct"
setting = "10 % of the data"
protocol = "theirs"
n = "50 per task"
values = { reach = "40.0", overall = "37.5" }
[[rows]]
method = "Method_2"
source = "q"
confidence = "copy"
group = "elsewhere"
values = { overall = "12.25" }
"""


@pytest.fixture
def layout(tmp_path):
    """A layout of the toy suite: two of its three tasks, and their mean."""
    path = tmp_path / "rows.toml"
    path.write_text(ROWS)
    columns = (
        Column("reach", "Reach", tasks=("reach",)),
        Column("push", "Push", tasks=("push",)),
        Column("overall", "Overall", tasks=("reach", "push")),
    )
    return Layout(
        "mine", "My table.", columns, suites=("toy",), protocols=("default",), published=str(path), notes=("A note.",)
    )


def summarise(*folders):
    return [RunSummary.read(folder) for folder in folders]


def half(episode):
    """reach always succeeds; push on seeds 0 and 1 of five, and breaks on seed 4."""
    if episode.task == "reach":
        return "success"
    return "error" if episode.scenario.seed == 4 else "success" if episode.scenario.seed < 2 else "failure"


# --- Our rows -----------------------------------------------------------------------------------------------------


def test_columns_are_means_over_their_tasks(write_run, layout):
    table = paper_table(layout, summarise(write_run("r1", half)))
    ((heading, (row,)),) = table.blocks
    assert (heading, row.label, row.setting) == (OURS, "random", "default, mean of 2 cameras")
    reach, push, overall = row.scores
    assert (reach.rate, reach.low, reach.high) == pytest.approx((1.0, *wilson_interval(5, 5)))
    assert (push.rate, push.n, push.errors) == (pytest.approx(0.5), 8, 2)
    assert overall.rate == pytest.approx(0.75)
    assert (overall.n, overall.errors) == (18, 2)


def test_errors_can_be_counted_as_failures(write_run, layout):
    table = paper_table(layout, summarise(write_run("r1", half)), TableOptions(errors="failure"))
    assert table.blocks[0][1][0].scores[1].rate == pytest.approx(4 / 10)
    assert any("counted as failures" in note for note in table.notes)


def test_each_camera_can_have_its_row(write_run, layout):
    folder = write_run("r1", lambda e: "success" if e.camera == "front" else "failure")
    table = paper_table(layout, summarise(folder), TableOptions(per_camera=True))
    rows = table.blocks[0][1]
    assert [(row.setting, row.scores[2].rate) for row in rows] == [
        ("default, front", 1.0),
        ("default, side", 0.0),
        ("default, mean of 2 cameras", 0.5),
    ]


def test_a_mean_is_not_shown_while_one_of_its_tasks_has_no_counted_episode(write_run, layout):
    folder = write_run("r1", lambda e: "success" if e.task == "reach" else "error")
    _, push, overall = paper_table(layout, summarise(folder)).blocks[0][1][0].scores
    assert math.isnan(push.rate) and math.isnan(overall.rate), "it would be the rate of reach alone"
    text = FORMATS["md"](paper_table(layout, summarise(folder)), COMMAND)
    assert "| - n 0 errors 10 |" in re.sub(" +", " ", text)


def test_privileged_agents_are_marked(write_run, layout):
    table = paper_table(layout, summarise(write_run("r1", privileged=True)))
    assert table.blocks[0][1][0].label == "random (privileged)"
    assert any(note.startswith("privileged: the agent reads the simulator's state") for note in table.notes)
    assert all(record["privileged"] for record in table.sheet.records if record["kind"] == "run")


def test_two_runs_of_one_agent_on_one_suite_are_two_rows(write_run, layout):
    table = paper_table(layout, summarise(write_run("a"), write_run("b", lambda e: "failure")))
    assert [row.label for row in table.blocks[0][1]] == ["random (a)", "random (b)"]


def test_cameras_other_than_the_papers_are_said(write_run):
    layout = Layout("x", "X.", "tasks", cameras=("front", "side"))
    assert "the paper averages" not in " ".join(paper_table(layout, summarise(write_run("both"))).notes)
    looking = paper_table(layout, summarise(write_run("one", cameras=("front",)))).notes
    assert any(note.endswith("one: seen from front; the paper averages front, side.") for note in looking)
    blind = paper_table(layout, summarise(write_run("blind", cameras=("front",), modalities=()))).notes
    assert any("which makes no difference to an agent that looks at no image" in note for note in blind)


# --- Several suites in one row ------------------------------------------------------------------------------------

GOAL_TASKS = ("open_the_middle_drawer_of_the_cabinet", "put_the_bowl_on_the_stove")


@pytest.fixture
def two_suites():
    """Suites that are not installed, so that a run's own tasks stand for the suite's."""
    columns = (
        Column("a", "A", suites=("suite-a",)),
        Column("b", "B", suites=("suite-b",)),
        Column("average", "Average", suites=("suite-a", "suite-b")),
    )
    return Layout("two", "Two suites.", columns, suites=("suite-a", "suite-b"))


def test_runs_of_one_agent_on_several_suites_form_one_row(write_run, two_suites):
    first = write_run("a1", suite="suite-a", tasks=("t1", "t2"))
    second = write_run("b1", lambda e: "failure", suite="suite-b", tasks=("t3", "t4"))
    table = paper_table(two_suites, summarise(first, second))
    ((_, (row,)),) = table.blocks
    assert [score.rate for score in row.scores] == [1.0, 0.0, 0.5]
    assert row.runs == (str(first), str(second))
    assert f"random is made of the runs {first}, {second}." in table.notes
    assert not any("The runs differ in tasks" in note for note in table.notes)


def test_runs_join_the_row_with_their_checkpoint(write_run, two_suites):
    folders = [
        write_run(
            f"{name}-{suite[-1]}", lambda e, n=name: "success" if n == "x" else "failure", suite=suite, checkpoint=name
        )
        for suite in ("suite-a", "suite-b")
        for name in ("x", "y")
    ]
    rows = paper_table(two_suites, summarise(*reversed(folders))).blocks[0][1]
    assert {tuple(score.rate for score in row.scores) for row in rows} == {(1.0, 1.0, 1.0), (0.0, 0.0, 0.0)}


def test_a_checkpoint_per_suite_is_said(write_run, two_suites):
    runs = summarise(write_run("a", suite="suite-a", checkpoint="x"), write_run("b", suite="suite-b", checkpoint="y"))
    table = paper_table(two_suites, runs)
    assert len(table.blocks[0][1]) == 1
    assert any(note.endswith("which use different checkpoints.") for note in table.notes)


def test_runs_under_different_rules_do_not_join(write_run, two_suites):
    runs = summarise(write_run("a", suite="suite-a"), write_run("b", suite="suite-b", cameras=("front",)))
    assert len(paper_table(two_suites, runs).blocks[0][1]) == 2


def test_a_suite_that_was_not_run_leaves_its_column_and_the_average_empty(write_run, two_suites):
    table = paper_table(two_suites, summarise(write_run("a", suite="suite-a")))
    a, b, average = table.blocks[0][1][0].scores
    assert a.rate == 1.0
    assert b is None and average is None
    assert "-: not run, or a mean over tasks of which some were not run." in table.notes


def test_libero_needs_every_task_of_a_suite(write_run):
    folder = write_run("goal", suite="libero-goal", tasks=GOAL_TASKS, protocol="openvla")
    with pytest.raises(BadValue, match=r"goal lacks 8 of the 10 tasks that layout libero shows of suite libero-goal: "):
        paper_table(get_layout("libero"), summarise(folder))


# --- Columns from the runs ----------------------------------------------------------------------------------------


def test_columns_can_be_the_tasks_of_the_runs(write_run):
    table = paper_table(Layout("x", "X.", "tasks"), summarise(write_run("r1", half)))
    assert [column.heading for column in table.columns] == ["reach", "push", "Average"]
    assert [score.rate for score in table.blocks[0][1][0].scores] == pytest.approx([1.0, 0.5, 0.75])


def test_a_run_without_one_of_the_tasks_has_no_average(write_run):
    runs = summarise(write_run("r1"), write_run("r2", agent="zero", tasks=("reach",)))
    whole, part = paper_table(Layout("x", "X.", "tasks"), runs).blocks[0][1]
    assert [score is not None for score in whole.scores] == [True, True, True]
    assert [score is not None for score in part.scores] == [True, False, False]


def test_the_cameras_layout_is_task_by_camera_for_each_run(write_run):
    def outcome(episode):
        return "success" if (episode.task, episode.camera) == ("reach", "front") else "failure"

    table = paper_table(get_layout("cameras"), summarise(write_run("r1", outcome), write_run("r2", agent="zero")))
    assert [heading for heading, _ in table.blocks] == ["random", "zero"]
    assert [column.heading for column in table.columns] == ["front", "side", "all"]
    rates = {row.label: [score.rate for score in row.scores] for row in table.blocks[0][1]}
    assert rates == {"reach": [1.0, 0.0, 0.5], "push": [0.0, 0.0, 0.0], "overall": [0.5, 0.0, 0.25]}
    assert table.sheet.labels == ("task",)


# --- What is refused ----------------------------------------------------------------------------------------------


def test_a_run_of_another_suite_is_refused(write_run, layout):
    folder = write_run("r1", suite="libero10")
    with pytest.raises(BadValue) as refused:
        paper_table(layout, summarise(folder))
    assert str(refused.value) == (
        f"{folder} is a run of suite libero10; layout mine shows toy. Leave it out, or choose another layout: flowbench list "
        "layouts"
    )


def test_a_run_without_some_tasks_is_refused_unless_asked_for(write_run, layout):
    folder = write_run("r1", tasks=("reach", "lift"))
    with pytest.raises(BadValue) as refused:
        paper_table(layout, summarise(folder))
    assert str(refused.value) == (
        f"{folder} lacks 1 of the 2 tasks that layout mine shows of suite toy: push. Run them into a new folder, or pass "
        "--allow-missing to leave those cells, and means over them, empty."
    )
    row = paper_table(layout, summarise(folder), TableOptions(allow_missing=True)).blocks[0][1][0]
    assert [score is None for score in row.scores] == [False, True, True]


def test_another_protocol_than_the_papers_is_refused_unless_asked_for(write_run, layout):
    folder = write_run("r1", protocol="hard")
    named = f"protocol: hard ({folder}), while layout mine stands for --protocol default"
    with pytest.raises(BadValue, match=re.escape(f"The runs are not comparable: {named}. ")):
        paper_table(layout, summarise(folder))
    table = paper_table(layout, summarise(folder), TableOptions(allow_mixed=True))
    assert f"Not comparable, shown together on request. {named}." in table.notes
    assert table.blocks[0][1][0].setting == "hard, mean of 2 cameras", "and the row says it, too"


@pytest.mark.parametrize(
    "change, named",
    [
        ({"max_steps": 7}, "max_steps: default ({0}), 7 ({1})"),
        ({"suite_version": 2}, "suite_version of toy: 1 ({0}), 2 ({1})"),
        ({"versions": {"mujoco": "3.3.2"}}, "package mujoco 3.3.0 ({0}), 3.3.2 ({1})"),
        ({"renderer": {"device": "B"}}, "renderer: device A ({0}), B ({1})"),
    ],
)
def test_different_rules_versions_or_renderers_are_not_mixed_unasked(write_run, layout, change, named):
    same = {"versions": {"mujoco": "3.3.0"}, "renderer": {"device": "A"}}
    folders = write_run("r1", **same), write_run("r2", agent="zero", **{**same, **change})
    with pytest.raises(BadValue) as refused:
        paper_table(layout, summarise(*folders))
    assert named.format(*folders) in str(refused.value)
    table = paper_table(layout, summarise(*folders), TableOptions(allow_mixed=True))
    assert any(note.startswith("Not comparable") and named.format(*folders) in note for note in table.notes)


def test_a_layout_whose_suite_does_not_exist_yet_says_so(write_run):
    folder = write_run("r1")
    unfillable = Layout("mine", "A table.", (Column("a", "A", measured=False),), suites=("robocasa",))
    with pytest.raises(BadValue, match=r"Layout mine cannot be filled from runs yet: suite robocasa is not"):
        paper_table(unfillable, summarise(folder))


def test_a_table_of_nothing_is_refused(layout):
    with pytest.raises(BadValue, match=r"layout mine was given no run and --no-published\. Give a run's folder"):
        paper_table(layout, options=TableOptions(published=False))
    with pytest.raises(
        BadValue, match=r"layout cameras was given no run and has no published rows\. Give a run's folder"
    ):
        paper_table(get_layout("cameras"))


def test_a_damaged_published_file_stops_the_table_unless_it_is_left_out(write_run, layout, tmp_path):
    (tmp_path / "rows.toml").write_text("rows = [")
    runs = summarise(write_run("r1"))
    with pytest.raises(DataError, match=r"rows\.toml are damaged: it is not valid TOML"):
        paper_table(layout, runs)
    assert paper_table(layout, runs, TableOptions(published=False)).published == ()


# --- Ours and published never look alike --------------------------------------------------------------------------


def markdown_rows(text):
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_markdown_separates_ours_from_published(write_run, layout):
    text = FORMATS["md"](paper_table(layout, summarise(write_run("r1", half))), COMMAND)
    assert markdown_rows(text) == [
        ["method", "setting", "Reach", "Push", "Overall"],
        [f"**{OURS}**", "", "", "", ""],
        [
            "random",
            "default, mean of 2 cameras",
            "100.0 [56.6, 100.0] n 10",
            "50.0 [15.0, 85.0] n 8 errors 2",
            "75.0 [42.5, 92.4] n 18 errors 2",
        ],
        [f"**{PUBLISHED}**", "", "", "", ""],
        [r"Method_1 \[1\]", "10 % of the data", "*40.0*", "", "*37.5*"],
        [f"**{PUBLISHED}: elsewhere**", "", "", "", ""],
        [r"Method_2† \[2\]", "", "", "", "*12.25*"],
    ]
    assert r"- \[1\] A paper, arXiv 1234.56789, Table 1; read in the paper. Protocol: theirs. n: 50 per task." in text
    assert r"- \[2\] Another paper, Table 9; read in a leaderboard." in text
    assert "An empty cell is not published or could not be read." in text


def test_a_layout_without_runs_shows_the_published_rows_alone(layout):
    table = paper_table(layout)
    assert table.blocks == ()
    assert [cells[0] for cells in markdown_rows(FORMATS["md"](table, COMMAND))[1:]] == [
        f"**{PUBLISHED}**",
        r"Method_1 \[1\]",
        f"**{PUBLISHED}: elsewhere**",
        r"Method_2† \[2\]",
    ]


def test_published_rows_can_be_left_out(write_run, layout):
    table = paper_table(layout, summarise(write_run("r1")), TableOptions(published=False))
    assert "Method_1" not in FORMATS["md"](table, COMMAND)
    assert not any("italics" in note for note in table.sheet.notes)


def test_json_keeps_published_numbers_under_names_of_their_own(write_run, layout):
    data = json.loads(FORMATS["json"](paper_table(layout, summarise(write_run("r1", half))), COMMAND))
    assert next(iter(data)) == "command"
    assert data["layout"] == "mine"
    ours = [row for row in data["rows"] if row["kind"] == "run"]
    theirs = [row for row in data["rows"] if row["kind"] == "published"]
    assert len(ours) == 3 and len(theirs) == 6
    assert all(row["published_as_printed"] is None for row in ours)
    assert all(row["success_rate"] is None and row["n"] is None for row in theirs)
    (overall,) = [row for row in theirs if (row["method"], row["column"]) == ("Method_2", "overall")]
    assert (overall["published_as_printed"], overall["confidence"]) == ("12.25", "copy")
    (push,) = [row for row in theirs if (row["method"], row["column"]) == ("Method_1", "push")]
    assert push["published_as_printed"] is None
    (own,) = [row for row in ours if row["column"] == "overall"]
    assert (own["n"], own["n_error"], own["success_rate"]) == (18, 2, pytest.approx(0.75))


def test_csv_is_read_back(write_run, layout):
    text = FORMATS["csv"](paper_table(layout, summarise(write_run("r1", half))), COMMAND)
    assert text.splitlines()[0] == f"# {COMMAND}"
    rows = list(
        csv.DictReader(io.StringIO("".join(line for line in text.splitlines(True) if not line.startswith("#"))))
    )
    assert len(rows) == 9
    assert [row["published_as_printed"] for row in rows if row["kind"] == "published"] == [
        *("40.0", "", "37.5"),
        *("", "", "12.25"),
    ]


def test_latex_has_one_cell_per_column_and_italics_for_published_numbers(write_run, layout):
    text = FORMATS["latex"](paper_table(layout, summarise(write_run("r1", half))), COMMAND)
    assert r"\begin{tabular}{llrrr}" in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r" \\")]
    assert [line.count("&") for line in lines if "multicolumn" not in line] == [4] * 4
    assert body.count(r"\multicolumn{5}{l}") == 3
    assert r"\textit{37.5}" in body
    assert r"\shortstack[r]{75.0\\{\scriptsize {[}42.5, 92.4]}\\{\scriptsize n 18}\\{\scriptsize errors 2}}" in body
    assert text.count("{") == text.count("}")


class Cells(html.parser.HTMLParser):
    """Collects (class, text) of a page's table cells, row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.kind = [], None

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.kind = dict(attrs).get("class", tag)
            self.rows[-1].append((self.kind, ""))

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.kind = None

    def handle_data(self, data):
        if self.kind:
            kind, text = self.rows[-1][-1]
            self.rows[-1][-1] = (kind, f"{text} {data}".strip())


def test_html_marks_published_cells(write_run, layout):
    cells = Cells()
    cells.feed(FORMATS["html"](paper_table(layout, summarise(write_run("r1", half))), COMMAND))
    assert cells.rows[1] == [("group", OURS)]
    assert cells.rows[2][-1] == ("td", "75.0 [42.5, 92.4] n 18 errors 2")
    assert cells.rows[4][-1] == ("published", "37.5")
    assert cells.rows[4][-2] == ("published", "")


def test_a_paper_that_prints_methods_as_columns_is_followed(write_run, layout):
    across = Layout(**{**vars(layout), "methods_across": True})
    table = paper_table(across, summarise(write_run("r1", half)))
    assert markdown_rows(FORMATS["md"](table, COMMAND))[:2] == [
        [
            "",
            f"{OURS}: random (default, mean of 2 cameras)",
            f"{PUBLISHED}: Method_1 [1] (10 % of the data)",
            f"{PUBLISHED}: elsewhere: Method_2† [2]",
        ],
        ["Reach", "100.0 [56.6, 100.0] n 10", "*40.0*", ""],
    ]
    latex = FORMATS["latex"](table, COMMAND)
    assert rf"& \multicolumn{{1}}{{c}}{{{OURS}}} & \multicolumn{{1}}{{c}}{{{PUBLISHED}}}" in latex


NASTY = "a|b_*<b>&%${x}#~^\\"


@pytest.mark.parametrize("format_", FORMATS)
def test_names_from_files_are_escaped(write_run, layout, tmp_path, format_):
    path = tmp_path / "rows.toml"
    path.write_text(ROWS.replace('"Method_1"', f"'{NASTY}'").replace('"Table 1"', f"'{NASTY}'"))
    text = FORMATS[format_](paper_table(layout, summarise(write_run("r1"))), COMMAND)
    if format_ == "md":
        assert {len(cells) for cells in markdown_rows(text)} == {5}
    if format_ == "html":
        assert "<b>" not in text
    if format_ == "latex":
        assert "&%" not in text and NASTY not in text
    if format_ == "json":
        assert any(row["method"] == NASTY for row in json.loads(text)["rows"])


@pytest.mark.parametrize("name", ["avdc-metaworld", "avdc-ithor", "sof-metaworld", "libero", "visaflow-calvin"])
@pytest.mark.parametrize("format_", FORMATS)
def test_every_papers_table_can_be_written_in_every_format(name, format_):
    text = FORMATS[format_](paper_table(get_layout(name)), f"flowbench table --layout {name}")
    assert f"flowbench table --layout {name}" in text.splitlines()[0]
    assert len(text) > 500
