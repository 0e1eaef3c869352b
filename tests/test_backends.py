"""Suites that run on one of several backends: a result says on which, and numbers of another world stay apart."""

from dataclasses import replace

import pytest

from flowbench.cli.collect import collect as collect_command
from flowbench.cli.eval import eval_ as eval_command
from flowbench.envs.ithor.suites import ITHOR12
from flowbench.errors import BadValue
from flowbench.layouts import get_layout
from flowbench.paper_table import paper_table
from flowbench.registry import get_suite
from flowbench.spec import AgentSpec, EvalSpec
from flowbench.table_formats import to_markdown
from flowbench.tables import RunSummary, aggregate

TARGETS = tuple(task.name for task in ITHOR12.tasks)


def spec(suite):
    return EvalSpec(suite, "avdc", AgentSpec("random"), TARGETS, ("agent",), (0, 1))


def test_a_suite_that_runs_on_anything_is_not_evaluated():
    with pytest.raises(
        BadValue, match="Suite ithor12 runs on one of several backends.*--backend unity, --backend standin"
    ):
        spec("ithor12").check()


@pytest.mark.parametrize("command", [eval_command, collect_command])
@pytest.mark.parametrize("backend", [[], ["--backend", "auto"]])
def test_both_commands_ask_for_a_backend(command, backend, tmp_path):
    arguments = ["--suite", "ithor12", *backend, "--out", str(tmp_path / "out.h5")]
    arguments += ["--agent", "random"] if command is eval_command else []
    with pytest.raises(BadValue, match="a result has to say"):
        command.main(arguments, standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_the_backend_is_in_every_episode_id():
    assert spec("ithor12-standin").episodes()[0].id == "ithor12-standin/Toaster@agent/s000"


@pytest.fixture
def runs(write_run):
    """One run per backend: the real player solves everything, the others nothing."""

    def outcome(solved):
        return lambda episode: "success" if solved else "failure"

    common = {"tasks": TARGETS, "cameras": ("agent",), "seeds": (0, 1), "protocol": "avdc"}
    return {
        backend: write_run(f"on-{backend}", outcome(backend == "unity"), suite=f"ithor12-{backend}", **common)
        for backend in ITHOR12.backends
    }


def test_tables_mark_what_is_not_the_benchmark(runs):
    for backend, folder in runs.items():
        text = to_markdown(aggregate([RunSummary.read(folder)]), "flowbench table")
        marked = "random (another world)" in text and get_suite(f"ithor12-{backend}").caveat in text
        assert marked == (backend != "unity"), backend


def test_runs_of_different_worlds_are_not_put_side_by_side_unless_asked(runs):
    summaries = [RunSummary.read(folder) for folder in runs.values()]
    with pytest.raises(BadValue, match="suite: ithor12-unity"):
        aggregate(summaries)


def test_a_papers_row_never_averages_two_worlds(runs):
    table = paper_table(get_layout("avdc-ithor"), [RunSummary.read(folder) for folder in runs.values()])
    rows = table.blocks[0][1]
    assert [row.scores[-1].rate for row in rows] == [1.0, 0.0, 0.0]
    assert ["another world" in row.label for row in rows] == [False, True, True]


def test_an_unknown_suites_runs_can_still_be_read(runs, write_run):
    summary = RunSummary.read(runs["unity"])
    elsewhere = replace(summary.manifest, spec=replace(summary.manifest.spec, suite="not-installed"))
    from flowbench.comparability import remarks_on

    assert remarks_on(replace(summary, manifest=elsewhere)) == []
