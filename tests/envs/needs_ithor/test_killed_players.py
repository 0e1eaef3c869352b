"""An evaluation whose players are killed again and again: it finishes, says what happened, and leaves nothing behind."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ai2thor", reason="iTHOR: pip install 'flowbench[ithor]'")

from flowbench.store import ResultStore

KILLS = 10
# Enough that ten kills come before the end on a machine several times as fast as the slowest that this was tried on.
EPISODES = 150


def descendants(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(text) for text in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def players(pid):
    """Return the stand-ins that a process and its children have started."""
    found = []
    for child in descendants(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"flowbench.envs.ithor.standin" in command:
            found.append(child)
    return found


@pytest.mark.slow
def test_players_killed_at_ten_random_moments_cost_ten_episodes_at_most(opengl, ends, tmp_path):
    run = tmp_path / "run"
    command = [
        *(
            sys.executable,
            "-m",
            "flowbench",
            "eval",
            "--agent",
            "scripted",
            "--suite",
            "ithor12",
            "--backend",
            "standin",
        ),
        *("--tasks", "Toaster,Laptop,Pillow,Mirror", "--episodes", str(EPISODES), "--workers", "2", "--quiet"),
        *("--out", str(run)),
    ]
    rng = random.Random(0)
    evaluation = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen, killed = set(), []
    while evaluation.poll() is None and len(killed) < KILLS:
        seen |= set(descendants(evaluation.pid))
        # Not the preflight's player: an evaluation that cannot start is not started.
        if not (run / "episodes.jsonl").is_file() or not (run / "episodes.jsonl").stat().st_size:
            time.sleep(0.05)
            continue
        if alive := [pid for pid in players(evaluation.pid) if pid not in killed]:
            time.sleep(rng.uniform(0, 0.5))
            victim = rng.choice(alive)
            try:
                subprocess.run(["kill", f"-{int(signal.SIGKILL)}", str(victim)], check=True, capture_output=True)
            except subprocess.CalledProcessError:
                continue
            killed.append(victim)
        time.sleep(0.05)
    seen |= set(descendants(evaluation.pid))
    _, errors = evaluation.communicate(timeout=300)

    assert len(killed) == KILLS, "the evaluation was over before all kills; give it more episodes"
    results = ResultStore.read(run).results
    assert len(results) == 4 * EPISODES
    broken = [result for result in results if result.status == "error"]
    assert 1 <= len(broken) <= KILLS
    assert all("was killed by SIGKILL" in result.error for result in broken)
    assert all(result.status == "success" for result in results if result not in broken)
    assert evaluation.returncode == 5 and "Run them again with --retry-errors" in errors
    assert all(ends(pid) for pid in seen), "a process was left behind"

    again = subprocess.run([*command, "--retry-errors"], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert {result.status for result in ResultStore.read(run).results} == {"success"}
