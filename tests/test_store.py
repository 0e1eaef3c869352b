"""The result folder: what is written stays, what was not written by us is refused."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from flowbench.errors import StoreError
from flowbench.manifest import RunManifest
from flowbench.result import EpisodeResult
from flowbench.spec import AgentSpec, EvalSpec
from flowbench.store import EPISODES_NAME, MANIFEST_NAME, ResultStore

SPEC = EvalSpec("toy", "default", AgentSpec("zero"), ("reach", "push"), ("front",), (0, 1, 2))


def manifest(spec=SPEC):
    return RunManifest.collect(spec, command="flowbench eval ...", privileged=False, device="cpu", renderer={})


def result(episode, status="success"):
    return EpisodeResult.of(
        episode,
        protocol="default",
        agent="zero",
        privileged=False,
        status=status,
        steps=12,
        first_success=12 if status == "success" else None,
        total_reward=1.5,
        seconds=0.1,
        agent_seconds=0.01,
        agent_calls=12,
        error="it broke" if status == "error" else None,
    )


def write(folder, statuses=("success", "failure", "success")):
    with ResultStore.open(folder, manifest()) as store:
        for episode, status in zip(SPEC.episodes(), statuses, strict=False):
            store.append(result(episode, status))
    return folder


def test_what_was_appended_is_read_back(tmp_path):
    run = ResultStore.read(write(tmp_path / "r"))
    assert [entry.status for entry in run.results] == ["success", "failure", "success"]
    assert run.results[0] == result(SPEC.episodes()[0])
    assert run.manifest.spec == SPEC
    assert [episode.id for episode in run.missing()] == [episode.id for episode in SPEC.episodes()[3:]]


def test_a_torn_last_line_is_dropped_and_its_episode_is_missing_again(tmp_path):
    path = write(tmp_path / "r") / EPISODES_NAME
    path.write_bytes(path.read_bytes()[:-20])
    run = ResultStore.read(path.parent)
    assert run.torn
    assert len(run.results) == 2
    with ResultStore.open(path.parent, manifest()) as store:
        assert len(store.completed.finished) == 2
        store.append(result(SPEC.episodes()[2], "failure"))
    assert [entry.status for entry in ResultStore.read(path.parent).results] == ["success", "failure", "failure"]


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_a_file_cut_at_any_byte_keeps_every_line_before_the_cut(tmp_path, cut):
    path = write(tmp_path / "r") / EPISODES_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    lines_left = whole[:-cut].count(b"\n")
    assert len(ResultStore.read(path.parent).results) == lines_left


def test_a_hand_edited_line_is_refused_by_its_number(tmp_path):
    path = write(tmp_path / "r") / EPISODES_NAME
    path.write_text(path.read_text().replace('"status":"failure"', '"status":"success"'))
    for attempt in (ResultStore.read, lambda folder: ResultStore.open(folder, manifest())):
        with pytest.raises(StoreError, match=r"episodes.jsonl line 2 was changed or damaged .* Delete that line"):
            attempt(path.parent)


def test_a_deleted_line_makes_its_episode_missing(tmp_path):
    path = write(tmp_path / "r") / EPISODES_NAME
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[2])
    assert SPEC.episodes()[1].id in {episode.id for episode in ResultStore.read(path.parent).missing()}


def test_an_episode_that_finished_twice_is_refused(tmp_path):
    path = write(tmp_path / "r") / EPISODES_NAME
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[0]]))
    with pytest.raises(StoreError, match=r"line 4 repeats episode toy/reach@front/s000, which had finished"):
        ResultStore.read(path.parent)


def test_a_retried_error_is_replaced_by_its_later_outcome(tmp_path):
    folder = write(tmp_path / "r", ("error",))
    with ResultStore.open(folder, manifest()) as store:
        assert store.completed.errors == {SPEC.episodes()[0].id}
        store.append(result(SPEC.episodes()[0], "failure"))
    assert [entry.status for entry in ResultStore.read(folder).results] == ["failure"]
    assert ResultStore.scan(folder).errors == set()


def test_another_spec_in_the_same_folder_is_refused_with_what_differs(tmp_path):
    write(tmp_path / "r")
    other = replace(SPEC, seeds=(0, 1), agent=AgentSpec("random"))
    with pytest.raises(StoreError, match=r"holds another evaluation .*agent: .*seeds: \[0, 1, 2\] != \[0, 1\]"):
        ResultStore.open(tmp_path / "r", manifest(other))


def test_no_resume_refuses_to_continue(tmp_path):
    write(tmp_path / "r")
    with pytest.raises(StoreError, match="already holds this evaluation. Resume it with --resume"):
        ResultStore.open(tmp_path / "r", manifest(), resume=False)


def test_foreign_folders_and_files_are_not_touched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty and holds no FlowBench run"):
        ResultStore.open(tmp_path, manifest())
    with pytest.raises(StoreError, match="is a file; --out needs a folder"):
        ResultStore.open(tmp_path / "notes.txt", manifest())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]
    with pytest.raises(StoreError, match=r"holds no run: manifest.json is missing"):
        ResultStore.read(tmp_path)


def test_an_edited_manifest_is_refused(tmp_path):
    path = write(tmp_path / "r") / MANIFEST_NAME
    path.write_text(path.read_text().replace('"zero"', '"random"'))
    with pytest.raises(StoreError, match="The manifest's spec was edited"):
        ResultStore.read(tmp_path / "r")
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "format_version": 99}))
    with pytest.raises(StoreError, match="format_version 99; this FlowBench reads version 1"):
        ResultStore.read(tmp_path / "r")
    path.write_text("{")
    with pytest.raises(StoreError, match="is not valid JSON"):
        ResultStore.read(tmp_path / "r")


def test_a_folder_in_use_is_refused(tmp_path):
    folder = write(tmp_path / "r")
    script = (
        "import sys, time; from pathlib import Path; from flowbench.store import *;"
        "store = ResultStore.open(Path(sys.argv[1]), read_manifest(sys.argv[1])); print('open', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match="is in use by another flowbench process"):
            ResultStore.open(folder, manifest())
    finally:
        other.kill()
        other.wait()
    time.sleep(0.1)
    ResultStore.open(folder, manifest()).close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_loses_nothing_and_says_so(tmp_path):
    folder = write(tmp_path / "r")
    with ResultStore.open(folder, manifest()) as store:

        class FullDisk:
            """The real file, on a disk that takes half a line."""

            def __init__(self, file):
                self.file = file

            def write(self, data):
                self.file.write(data[: len(data) // 2])
                with open("/dev/full", "wb", buffering=0) as full:
                    return full.write(data)

            def __getattr__(self, name):
                return getattr(self.file, name)

        real, store._file = store._file, FullDisk(store._file)
        with pytest.raises(
            StoreError, match=r"could not be written to .*No space left on device.*run the same command again"
        ):
            store.append(result(SPEC.episodes()[3]))
        store._file = real
    assert not ResultStore.read(folder).torn
    assert len(ResultStore.read(folder).results) == 3


def test_a_read_only_place_is_named(tmp_path):
    with pytest.raises(StoreError, match="cannot be written"):
        ResultStore.open("/proc/nowhere/r", manifest())
