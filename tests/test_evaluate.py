"""Evaluations as a user runs them: same outcomes however they are run, and nothing lost when they are stopped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowbench.errors import StoreError
from flowbench.recording import video_path, write_video
from flowbench.store import EPISODES_NAME, ResultStore

AGENTS = Path(__file__).with_name("misbehaving_agents.py")


def flowbench(*arguments, timeout=120, **options):
    return subprocess.run(
        [sys.executable, "-m", "flowbench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )


def evaluate(out, agent, *arguments, code=0):
    done = flowbench("eval", "--agent", f"{AGENTS}:{agent}", "--suite", "toy", "--out", out, *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


def outcomes(folder):
    return {result.id: result.outcome for result in ResultStore.read(folder).results}


SMALL = ("--episodes", 3, "--max-steps", 25)


@pytest.mark.parametrize("agent", ["Polite", "Chunks", "GlobalDice"])
def test_outcomes_do_not_depend_on_the_number_of_workers_or_the_order(tmp_path, agent):
    cameras = ("--cameras", "front,side+yaw10")
    evaluate(tmp_path / "one", agent, *SMALL, *cameras, "--workers", 1)
    evaluate(tmp_path / "two", agent, *SMALL, *cameras, "--workers", 2)
    evaluate(tmp_path / "here", agent, *SMALL, *cameras, "--workers", 0)
    # A shard of the same episodes, run after nothing else.
    evaluate(tmp_path / "shard", agent, "--seeds", "2", "--max-steps", 25, *cameras, "--tasks", "push")
    one = outcomes(tmp_path / "one")
    assert len(one) == 3 * 3 * 2
    assert outcomes(tmp_path / "two") == one
    assert outcomes(tmp_path / "here") == one
    shard = outcomes(tmp_path / "shard")
    assert shard == {identifier: one[identifier] for identifier in shard}


def test_a_camera_pose_changes_what_a_looking_agent_does(tmp_path):
    evaluate(tmp_path / "r", "Polite", *SMALL, "--cameras", "front,side")
    rewards = {result.id: result.total_reward for result in ResultStore.read(tmp_path / "r").results}
    assert rewards["toy/reach@front/s000"] != rewards["toy/reach@side/s000"]


def test_running_the_same_command_again_runs_nothing(tmp_path):
    evaluate(tmp_path / "r", "Polite", *SMALL)
    before = (tmp_path / "r" / EPISODES_NAME).read_bytes()
    again = evaluate(tmp_path / "r", "Polite", *SMALL)
    assert (tmp_path / "r" / EPISODES_NAME).read_bytes() == before
    assert "success" in again.stdout.lower() or "%" in again.stdout


def test_another_command_in_the_same_folder_is_refused(tmp_path):
    evaluate(tmp_path / "r", "Polite", *SMALL)
    refused = evaluate(tmp_path / "r", "Polite", "--episodes", 4, code=2)
    assert "holds another evaluation" in refused.stderr
    assert "seeds: [0, 1, 2] != [0, 1, 2, 3]" in refused.stderr
    assert "--no-resume" not in refused.stderr
    assert "already holds this evaluation" in evaluate(tmp_path / "r", "Polite", *SMALL, "--no-resume", code=2).stderr


def start(out, agent, *arguments):
    command = [
        sys.executable,
        "-m",
        "flowbench",
        "eval",
        "--agent",
        f"{AGENTS}:{agent}",
        "--suite",
        "toy",
        "--out",
        str(out),
    ]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A test run in the background of a script inherits that Ctrl-C is ignored; an evaluation at a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_lines(folder, count, process, timeout=60):
    deadline = time.monotonic() + timeout
    path = folder / EPISODES_NAME
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no episodes were stored"
        time.sleep(0.02)


def processes_of(marker):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker in (entry / "environ").read_bytes().decode(errors="ignore"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_minus_nine_and_the_same_command_give_the_uninterrupted_store(tmp_path, workers):
    arguments = ("--episodes", 6, "--max-steps", 30, "--workers", workers)
    evaluate(tmp_path / "whole", "Slow", *arguments)
    process = start(tmp_path / "killed", "Slow", *arguments)
    for lines in (2, 5, 9):
        wait_for_lines(tmp_path / "killed", lines, process)
        process.kill()
        # Until the workers have left, too: they share its standard error.
        assert "Traceback" not in process.communicate(timeout=30)[1]
        process = start(tmp_path / "killed", "Slow", *arguments)
    assert process.wait(timeout=120) == 0
    assert outcomes(tmp_path / "killed") == outcomes(tmp_path / "whole")
    assert not ResultStore.read(tmp_path / "killed").torn


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_no_worker_outlives_a_killed_evaluation(tmp_path, monkeypatch):
    marker = f"FLOWBENCH_TEST_MARK={os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(*marker.split("="))
    process = start(tmp_path / "r", "Hangs", "--episodes", 2, "--workers", 2, "--max-steps", 30)
    deadline = time.monotonic() + 60
    # The evaluation, its two workers and their resource tracker.
    while len(set(processes_of(marker)) - {os.getpid()}) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while set(processes_of(marker)) - {os.getpid()} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not set(processes_of(marker)) - {os.getpid()}


def test_ctrl_c_exits_with_130_and_the_run_goes_on_later(tmp_path):
    # Long enough that a busy machine notices the third episode before the last one ends.
    arguments = ("--episodes", 12, "--max-steps", 50, "--workers", 2)
    process = start(tmp_path / "r", "Slow", *arguments)
    wait_for_lines(tmp_path / "r", 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    evaluate(tmp_path / "r", "Slow", *arguments)
    assert not ResultStore.read(tmp_path / "r").missing()


@pytest.mark.parametrize(
    "agent, sentence",
    [
        (
            "WrongShape",
            "after 4 steps: The action of step 5 of reach has shape (3,); expected (4,) = (dx, dy, dz, gripper)",
        ),
        ("NotANumber", "after 4 steps: The action of step 5 of reach has dy = nan; every component must be finite"),
        ("OutOfRange", "after 4 steps: The action of step 5 of reach has dx = 3, outside [-1, 1]"),
        ("Raises", "after 4 steps: RuntimeError: planner found no plan (misbehaving_agents.py:"),
        ("Cheats", "after 4 steps: This agent reads the simulator's state but did not declare it"),
    ],
)
def test_an_episode_that_breaks_is_an_error_with_its_cause_and_the_run_goes_on(tmp_path, agent, sentence):
    done = evaluate(tmp_path / "r", agent, "--tasks", "reach", "--episodes", 2, "--max-steps", 25, code=5)
    results = ResultStore.read(tmp_path / "r").results
    assert [result.status for result in results] == ["error", "error"]
    assert f"{agent}, {sentence}" in results[0].error
    assert "2 episodes could not be carried out" in done.stderr
    assert results[0].id in (tmp_path / "r" / "errors.log").read_text()
    evaluate(tmp_path / "r", agent, "--tasks", "reach", "--episodes", 2, "--max-steps", 25, "--max-errors", 2)


def test_clipping_is_an_option_that_is_recorded(tmp_path):
    evaluate(tmp_path / "r", "OutOfRange", *SMALL, "--clip-actions")
    run = ResultStore.read(tmp_path / "r")
    assert run.manifest.spec.clip_actions
    assert {result.status for result in run.results} == {"failure"}


def test_a_dying_worker_costs_its_episode_alone(tmp_path):
    evaluate(tmp_path / "r", "KillsItsProcess", "--episodes", 2, "--max-steps", 25, "--workers", 2, code=5)
    results = {result.id: result for result in ResultStore.read(tmp_path / "r").results}
    assert len(results) == 6
    for identifier, result in results.items():
        assert (result.status == "error") == ("/push@" in identifier)
    assert "its worker process was killed by SIGKILL" in results["toy/push@front/s000"].error


def test_a_hanging_episode_is_stopped_at_its_time_limit(tmp_path):
    arguments = ("--tasks", "reach", "--episodes", 1, "--max-steps", 25, "--episode-timeout", 2)
    evaluate(tmp_path / "r", "Hangs", *arguments, code=5)
    (result,) = ResultStore.read(tmp_path / "r").results
    assert "took more than --episode-timeout 2 s and was stopped" in result.error


def test_errors_are_run_again_when_asked(tmp_path):
    agent = tmp_path / "agent.py"
    shutil.copy(AGENTS, agent)
    flag = tmp_path / "mended"
    agent.write_text(
        agent.read_text() + f"\n\nclass Mended(Raises):\n    def misbehave(self, observation, action):\n"
        f"        return action if os.path.exists({str(flag)!r}) else super().misbehave(observation, action)\n"
    )
    command = ("eval", "--agent", f"{agent}:Mended", "--suite", "toy", "--out", tmp_path / "r", *SMALL)
    assert flowbench(*command).returncode == 5
    flag.touch()
    assert flowbench(*command).returncode == 5
    assert flowbench(*command, "--retry-errors").returncode == 0
    assert {result.status for result in ResultStore.read(tmp_path / "r").results} == {"failure"}


@pytest.mark.parametrize(
    "agent, sentence",
    [
        ("WrongFromTheStart", "has shape (9,); expected (4,) = (dx, dy, dz, gripper)"),
        ("RaisesAtOnce", "fails on its first look at toy/reach@front/s000"),
        ("OtherRobot", "returns actions of convention 'drone-thrust'; suite toy takes 'toy-xyz-gripper'"),
        ("WantsMore", "This observation has no key 'front/segmentation'"),
        ("HalfAnAgent", "has no 'reset'; an agent has `needs`"),
        ("NoSuchClass", "defines no 'NoSuchClass'"),
    ],
)
def test_the_preflight_refuses_what_cannot_work(tmp_path, agent, sentence):
    done = evaluate(tmp_path / "r", agent, *SMALL, code=2)
    assert sentence in done.stderr
    assert done.stderr.count("\n") <= 2
    assert not (tmp_path / "r").exists()


def test_a_dry_run_describes_and_stores_nothing(tmp_path):
    done = evaluate(tmp_path / "r", "Polite", *SMALL, "--cameras", "front,side+yaw5", "--dry-run")
    assert "18 episodes of 3 tasks x 2 cameras x 3 scenarios" in done.stdout
    assert "Camera side+yaw5: depth" in done.stdout
    assert not (tmp_path / "r").exists()


def test_a_camera_that_sees_nothing_is_refused(tmp_path):
    done = evaluate(tmp_path / "r", "Polite", *SMALL, "--cameras", "front+pitch120", code=2)
    assert "Camera 'front+pitch120' of toy/reach shows a blank image" in done.stderr


def test_a_camera_inside_an_object_is_refused(tmp_path):
    done = evaluate(tmp_path / "r", "Polite", *SMALL, "--cameras", "front+z1.5", code=2)
    assert "Camera 'front+z1.5' of toy/" in done.stderr


def test_videos_of_failures_are_stored_when_asked(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    evaluate(tmp_path / "r", "Polite", "--tasks", "push", "--episodes", 2, "--max-steps", 10, "--record", "failures")
    videos = sorted(path.name for path in (tmp_path / "r" / "videos").iterdir())
    assert videos == ["toy_push@front_s000.mp4", "toy_push@front_s001.mp4"]
    assert all(path.stat().st_size > 500 for path in (tmp_path / "r" / "videos").iterdir())


def test_a_video_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "videos").write_text("a file where the folder should be")
    path = video_path(tmp_path, "toy/push@front/s000")
    with pytest.raises(StoreError, match=r"toy_push@front_s000.mp4 could not be written: .*run the same command again"):
        write_video(path, [])
