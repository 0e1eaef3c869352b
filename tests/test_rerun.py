"""Reruns: identical where nothing changed, and every difference named where something did."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowbench.rerun import Difference, compare_outcomes, environment_differences, version_differences
from flowbench.store import ResultStore, encode_line, read_manifest

AGENTS = Path(__file__).with_name("misbehaving_agents.py")


def flowbench(*arguments, cwd):
    command = [sys.executable, "-m", "flowbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with an agent file `mine.py` and its run `r1` on the toy suite."""
    folder = tmp_path_factory.mktemp("original")
    shutil.copy(AGENTS, folder / "mine.py")
    arguments = (
        "--agent",
        "mine.py:Polite",
        "--suite",
        "toy",
        "--tasks",
        "reach,push",
        "--episodes",
        2,
        "--max-steps",
        20,
    )
    ran = flowbench("eval", *arguments, "--out", "r1", "--quiet", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def place(finished, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(finished, tmp_path / "work")


def test_an_unchanged_run_comes_out_the_same_in_a_new_folder(place):
    ran = flowbench("rerun", "r1", "--workers", 2, "--quiet", cwd=place)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "4 of 4 episodes came out as in r1; the rerun lies in results/runs/r1-rerun.\n"
    again = ResultStore.read(place / "results" / "runs" / "r1-rerun")
    assert again.manifest.spec == read_manifest(place / "r1").spec
    assert sorted(r.outcome for r in again.results) == sorted(r.outcome for r in ResultStore.read(place / "r1").results)


def test_a_manifest_and_a_limit_run_a_part(place):
    ran = flowbench("rerun", "r1/manifest.json", "--limit", 2, "--out", "part", "--quiet", cwd=place)
    assert ran.returncode == 0, ran.stderr
    assert "2 of 2 episodes came out as in r1; the rerun lies in part." in ran.stdout
    assert {result.task for result in ResultStore.read(place / "part").results} == {"reach", "push"}


def edit_agent(place):
    """Let the agent move half as far."""
    path = place / "mine.py"
    changed = path.read_text().replace(
        "return super().act(observation) * shade", "return super().act(observation) * shade / 2"
    )
    assert changed != path.read_text()
    path.write_text(changed)


def test_a_changed_agent_is_refused_unless_asked_for(place):
    edit_agent(place)
    ran = flowbench("rerun", "r1", "--quiet", cwd=place)
    assert ran.returncode == 2
    assert re.fullmatch(
        r"Error: The agent's file \(mine\.py:Polite\) is not what the run used \(sha256 \w{12} then, \w{12} now\)\. Restore it, "
        r"or pass --allow-changed to see which outcomes that changes\.\n",
        ran.stderr,
    )
    assert not (place / "results").exists()


def test_a_changed_agent_differs_episode_by_episode(place):
    edit_agent(place)
    ran = flowbench("rerun", "r1", "--allow-changed", "--quiet", cwd=place)
    assert ran.returncode == 1, ran.stderr
    assert "Warning: The agent's file (mine.py:Polite) is not what the run used" in ran.stderr
    *differences, summary = ran.stdout.splitlines()
    before = {result.id: result for result in ResultStore.read(place / "r1").results}
    after = {result.id: result for result in ResultStore.read(place / "results/runs/r1-rerun").results}
    moved = [name for name in before if before[name].total_reward != after[name].total_reward]
    assert {name.split("@")[0] for name in moved} == {"toy/reach"}, "it never touched the block, so push is the same"
    assert differences == [
        f"{name}: total_reward {before[name].total_reward!r} -> {after[name].total_reward!r}" for name in moved
    ]
    assert summary == "2 of 4 episodes came out as in r1; the rerun lies in results/runs/r1-rerun."


def test_a_finished_rerun_is_not_compared_again_and_an_original_not_with_itself(place):
    assert flowbench("rerun", "r1", "--out", "again", "--quiet", cwd=place).returncode == 0
    ran = flowbench("rerun", "r1", "--out", "again", "--quiet", cwd=place)
    assert (ran.returncode, ran.stderr) == (
        2,
        "Error: again already holds this rerun, finished. Delete it, or choose another --out.\n",
    )
    ran = flowbench("rerun", "r1", "--out", "./r1", cwd=place)
    assert (ran.returncode, ran.stderr) == (2, "Error: --out r1 is the run itself; choose a new folder.\n")


def test_an_interrupted_rerun_goes_on(place):
    assert flowbench("rerun", "r1", "--out", "again", "--quiet", cwd=place).returncode == 0
    path = place / "again" / "episodes.jsonl"
    path.write_bytes(path.read_bytes().split(b"\n", 1)[0] + b"\n")
    ran = flowbench("rerun", "r1", "--out", "again", "--quiet", cwd=place)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("4 of 4 episodes came out as in r1")


def test_episodes_that_the_original_never_finished_are_said(place):
    path = place / "r1" / "episodes.jsonl"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:3]) + b"\n")
    ran = flowbench("rerun", "r1", "--quiet", cwd=place)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "3 of 3 episodes came out as in r1; the rerun lies in results/runs/r1-rerun.",
        "1 episodes have no result in r1, such as toy/push@front/s001.",
    ]


def test_every_version_that_differs_is_warned_about(place):
    path = place / "r1" / "manifest.json"
    data = json.loads(path.read_text())
    now = data["versions"].pop("numpy")
    data["versions"] |= {"scipy": "0.1", "some-package": "5.0"}
    path.write_text(json.dumps(data))
    ran = flowbench("rerun", "r1", "--limit", 1, "--quiet", cwd=place)
    assert ran.returncode == 0
    assert f"Warning: Package numpy was not installed then and is {now} now." in ran.stderr
    assert "Warning: Package scipy was 0.1 then and is " in ran.stderr
    assert "Warning: Package some-package was 5.0 then and is not installed now." in ran.stderr


AGENT_WITH_CHECKPOINT = """
import numpy as np
from flowbench import Needs

class Agent:
    needs = Needs()
    def __init__(self, checkpoint):
        self.gain = float(open(checkpoint).read())
    def reset(self, task, cameras, seed):
        self.size = task.action_spec.size
    def act(self, observation):
        return np.full(self.size, self.gain)
"""


@pytest.fixture
def trained(tmp_path):
    """A folder with an agent that reads a checkpoint, and its run `r1`."""
    (tmp_path / "agent_with_checkpoint.py").write_text(AGENT_WITH_CHECKPOINT)
    (tmp_path / "gain.txt").write_text("0.5")
    arguments = ("--agent", "agent_with_checkpoint:Agent", "--checkpoint", "gain.txt", "--suite", "toy", "--limit", 2)
    ran = flowbench("eval", *arguments, "--max-steps", 10, "--out", "r1", "--quiet", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    return tmp_path


def test_a_checkpoint_is_checked_by_its_content(trained):
    (trained / "gain.txt").write_text("0.6")
    ran = flowbench("rerun", "r1", "--quiet", cwd=trained)
    assert ran.returncode == 2
    assert "The checkpoint gain.txt, or the agent's file, is not what the run used (sha256 " in ran.stderr
    ran = flowbench("rerun", "r1", "--allow-changed", "--quiet", cwd=trained)
    assert ran.returncode == 1, ran.stderr
    assert "total_reward" in ran.stdout


def test_a_checkpoint_may_have_moved(trained):
    (trained / "moved").mkdir()
    (trained / "gain.txt").rename(trained / "moved" / "gain.txt")
    ran = flowbench("rerun", "r1", "--quiet", cwd=trained)
    assert ran.stderr == (
        "Error: The checkpoint gain.txt does not exist here. Say where it lies with --checkpoint PATH.\n"
    )
    ran = flowbench("rerun", "r1", "--checkpoint", "moved/gain.txt", "--quiet", cwd=trained)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("2 of 2 episodes came out as in r1")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere"], "nowhere holds no run: manifest.json is missing"),
        (["mine.py"], "mine.py is no run; give a run's folder or its manifest.json."),
        (["r1", "--limit", "0"], "--limit is 0; give a whole number from 1."),
        (["empty"], "empty has no finished episode to compare with. Run it by its own command: flowbench eval"),
    ],
)
def test_mistakes_get_one_sentence(place, arguments, sentence):
    (place / "empty").mkdir()
    shutil.copy(place / "r1" / "manifest.json", place / "empty")
    ran = flowbench("rerun", *arguments, cwd=place)
    assert ran.returncode == 2
    assert sentence in ran.stderr and "Traceback" not in ran.stderr


# --- Comparing ----------------------------------------------------------------------------------------------------


@pytest.fixture
def results(write_run):
    return ResultStore.read(write_run("r1")).results


def change(result, **fields):
    from dataclasses import replace

    return replace(result, **fields)


def test_times_may_differ_and_outcomes_may_not(results):
    faster = [change(result, seconds=9.0, agent_seconds=3.0, agent_calls=1) for result in results]
    assert compare_outcomes(results, faster).identical
    other = [change(results[0], status="failure", first_success=None, steps=30), *results[1:]]
    report = compare_outcomes(results, other)
    assert not report.identical
    assert [difference.text for difference in report.differences] == [
        "toy/reach@front/s000: status success -> failure, steps 12 -> 30, first_success 12 -> none"
    ]


def test_a_reward_that_is_no_number_equals_itself(results):
    broken = [change(result, total_reward=float("nan")) for result in results]
    assert compare_outcomes(broken, broken).identical
    assert encode_line(broken[0]).endswith(b"}\n")


def test_nothing_compared_is_not_identical(results):
    report = compare_outcomes(results[:2], results[2:])
    assert (report.compared, len(report.only_again), report.identical) == (0, len(results) - 2, False)


def test_a_difference_shows_rewards_to_the_last_digit():
    difference = Difference("a", {"total_reward": 0.1 + 0.2}, {"total_reward": 0.3})
    assert difference.text == "a: total_reward 0.30000000000000004 -> 0.3"


def test_equal_versions_give_no_warning():
    assert version_differences({"numpy": "2.0"}, {"numpy": "2.0"}) == []


def test_renderer_device_and_source_are_compared(write_run):
    before = read_manifest(write_run("a", renderer={"backend": "egl"}))
    after = change(before, renderer={"backend": "osmesa"}, device="cuda:0", commit="b" * 40, dirty=True)
    found = environment_differences(change(before, commit="a" * 40, dirty=False), after)
    assert found == [
        "Renderer: backend was egl then and is osmesa now.",
        "Run: device was cpu then and is cuda:0 now.",
        "FlowBench's source was at aaaaaaaaaaaa then and is at bbbbbbbbbbbb now.",
        "FlowBench's source had uncommitted changes now.",
    ]
    assert environment_differences(after, after) == [
        "FlowBench's source had uncommitted changes then.",
        "FlowBench's source had uncommitted changes now.",
    ]
