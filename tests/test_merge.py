"""Merging: parts of an evaluation become the run of the whole, and nothing else is taken for a part."""

import pytest
from click.testing import CliRunner

from flowbench.cli.merge import merge as command
from flowbench.errors import BadValue, StoreError
from flowbench.merge import merge
from flowbench.recording import video_path
from flowbench.store import EPISODES_NAME, ResultStore, read_manifest, read_rows
from flowbench.tables import RunSummary, aggregate

SEEDS = (0, 1, 2, 3, 4)


def outcome(episode):
    return ("success", "failure", "error")[(episode.scenario.seed + len(episode.task)) % 3]


@pytest.fixture
def parts(write_run):
    """Store the seeds 3 and 4, and the seeds 0 to 2, of one evaluation."""
    return [write_run("late", outcome, seeds=(3, 4)), write_run("early", outcome, seeds=(0, 1, 2))]


def test_the_whole_of_two_parts_is_what_one_run_would_have_been(parts, write_run, tmp_path):
    whole = write_run("whole", outcome, seeds=SEEDS)
    merge(parts, tmp_path / "merged")
    assert read_manifest(tmp_path / "merged").spec == read_manifest(whole).spec
    (merged, torn), (once, _) = read_rows(tmp_path / "merged"), read_rows(whole)
    assert sorted(row["id"] for row in merged) == sorted(row["id"] for row in once)
    assert {row["id"]: row["status"] for row in merged} == {row["id"]: row["status"] for row in once}
    assert not torn
    assert ResultStore.read(tmp_path / "merged").missing() == []


def test_lines_are_copied_as_they_were_written(parts, tmp_path):
    merge(parts, tmp_path / "merged")
    together = b"".join((part / EPISODES_NAME).read_bytes() for part in parts)
    assert (tmp_path / "merged" / EPISODES_NAME).read_bytes() == together


def test_a_table_shows_parts_as_one_column_with_the_numbers_of_the_whole(parts, write_run):
    whole = aggregate([RunSummary.read(write_run("whole", outcome, seeds=SEEDS))])
    merged = aggregate(RunSummary.read_merged(parts))
    assert len(merged.columns) == 1
    assert [(row.task, row.camera, row.scores) for row in merged.rows] == [
        (row.task, row.camera, row.scores) for row in whole.rows
    ]
    assert f"{parts[0]}, {parts[1]} are parts of one evaluation and shown as one run." in merged.notes


def test_cameras_that_were_run_apart_are_still_cameras_of_the_same_scenarios(write_run):
    by_seed = lambda episode: "success" if episode.scenario.seed < 2 else "failure"  # noqa: E731
    apart = [write_run(name, by_seed, cameras=(name,)) for name in ("front", "side")]
    whole = aggregate([RunSummary.read(write_run("both", by_seed))])
    assert [row.scores for row in aggregate(RunSummary.read_merged(apart)).rows] == [row.scores for row in whole.rows]


def test_runs_of_other_agents_stay_columns_of_their_own(parts, write_run):
    other = write_run("other", outcome, agent="zero", seeds=SEEDS)
    summaries = RunSummary.read_merged([parts[0], other, parts[1]])
    assert [summary.manifest.spec.agent.name for summary in summaries] == ["random", "zero"]
    assert [summary.parts for summary in summaries] == [(str(parts[0]), str(parts[1])), ()]


def test_the_manifest_holds_the_commands_of_all_parts(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["flowbench", "merge", "late", "early", "--out", "merged"])
    manifest = merge(parts, tmp_path / "merged")
    eval_ = "flowbench eval --agent random --suite toy"
    assert manifest.command == f"{eval_} && {eval_} && flowbench merge late early --out merged"


def test_videos_and_tracebacks_come_along(parts, tmp_path):
    path = video_path(parts[1], "toy/push@front/s000")
    path.parent.mkdir()
    path.write_bytes(b"a video")
    for part in parts:
        (part / "errors.log").write_text(f"=== of {part.name}\n")
    merge(parts, tmp_path / "merged")
    assert video_path(tmp_path / "merged", "toy/push@front/s000").read_bytes() == b"a video"
    assert (tmp_path / "merged" / "errors.log").read_text() == "=== of late\n=== of early\n"


def test_what_a_part_has_not_finished_is_missing_in_the_whole(write_run, tmp_path):
    unfinished = write_run("r1", lambda e: None if e.scenario.seed == 1 else "success", seeds=(0, 1))
    path = unfinished / EPISODES_NAME
    path.write_bytes(path.read_bytes()[:-20])
    merge([unfinished, write_run("r2", seeds=(2,))], tmp_path / "merged")
    # Four episodes of seed 1, and the one whose line a crash cut off.
    assert len(ResultStore.read(tmp_path / "merged").missing()) == 5


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"seeds": (4, 5)}, r"late and .*other both have seeds 4\."),
        ({"seeds": (5,), "tasks": ("reach",)}, r"differ in tasks and seeds; parts of one evaluation differ in one of"),
        ({"seeds": (5,), "max_steps": 9}, r"not parts of one evaluation: max_steps: default != 9\. Show them side by"),
        ({"seeds": (5,), "agent": "zero"}, r"not parts of one evaluation: agent: "),
        ({"seeds": (5,), "limit": 3}, r"other was limited to 3 episodes; only whole runs can be merged"),
        ({"seeds": (5,), "versions": {"mujoco": "9"}}, r"not parts of one evaluation: package mujoco "),
        ({"seeds": (5,), "renderer": {"backend": "osmesa"}}, r"not parts of one evaluation: renderer: backend "),
    ],
)
def test_what_is_no_part_is_refused_with_the_reason(write_run, tmp_path, change, sentence):
    versions, renderer = {"mujoco": "3.3.0"}, {"backend": "egl"}
    first = write_run("late", seeds=(3, 4), versions=versions, renderer=renderer)
    other = write_run("other", **{"versions": versions, "renderer": renderer, **change})
    with pytest.raises(BadValue, match=sentence):
        merge([first, other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_folder_that_exists_is_never_written_into(parts, tmp_path):
    with pytest.raises(StoreError, match=r"early exists; give merge a new folder with --out"):
        merge(parts, parts[1])


def test_a_damaged_part_leaves_nothing_behind(parts, tmp_path):
    path = parts[1] / EPISODES_NAME
    path.write_text(path.read_text().replace('"steps":12', '"steps":13', 1))
    with pytest.raises(StoreError, match=r"line 1 was changed or damaged"):
        merge(parts, tmp_path / "merged")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["early", "late"]


def test_the_command_says_what_it_wrote(parts, tmp_path):
    ran = CliRunner().invoke(command, [*map(str, parts), "--out", str(tmp_path / "merged")])
    assert ran.exit_code == 0
    assert ran.output == f"Wrote {tmp_path / 'merged'}: 20 episodes of 2 runs.\n"
    ran = CliRunner().invoke(command, [str(parts[0]), "--out", str(tmp_path / "other")])
    assert str(ran.exception) == "A merge needs at least two runs: flowbench merge A B --out AB"
