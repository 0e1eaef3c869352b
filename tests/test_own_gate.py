"""This project holds itself to its committed baselines, and its gate sees a real agent break."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASELINES = ROOT / "results" / "baselines"

BROKEN = """
import numpy as np

from flowbench.agents.scripted import ScriptedAgent


class Forgetful(ScriptedAgent):
    def reset(self, task, cameras, seed):
        super().reset(task, cameras, seed)
        self.idle = task.name == "push" and seed % 3 == 0
        self.size = task.action_spec.size

    def act(self, observation):
        return np.zeros(self.size) if self.idle else super().act(observation)
"""


def flowbench(*arguments, cwd):
    command = [sys.executable, "-m", "flowbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def evaluate(agent, cwd):
    ran = flowbench("eval", "--agent", agent, "--suite", "toy", "--episodes", 40, "--out", "run", "--quiet", cwd=cwd)
    assert ran.returncode == 0, ran.stderr


def test_the_toy_expert_ends_every_episode_as_in_its_baseline(tmp_path):
    evaluate("scripted", tmp_path)
    exact = flowbench("gate", "run", "--baseline", BASELINES / "toy-scripted.json", "--exact", cwd=tmp_path)
    assert exact.returncode == 0, exact.stdout
    assert "held: all 120 episodes end as in the baseline, in as many steps." in exact.stdout
    held = flowbench("gate", "run", "--baseline", BASELINES / "toy-scripted.json", cwd=tmp_path)
    assert held.returncode == 0, held.stdout


def test_an_agent_that_fails_a_third_of_one_task_does_not_pass(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    evaluate("broken.py:Forgetful", tmp_path)
    ran = flowbench("gate", "run", "--baseline", BASELINES / "toy-scripted.json", "--json", "v.json", cwd=tmp_path)
    assert ran.returncode == 1, ran.stdout
    verdict = json.loads((tmp_path / "v.json").read_text())
    assert verdict["verdict"] == "regression"
    assert "push" in verdict["sentence"] and "reach" not in verdict["sentence"] and "lift" not in verdict["sentence"]
    lost = [flip["id"] for flip in verdict["flips"]]
    assert len(lost) == verdict["overall"]["lost"] > 5
    assert all(identifier.startswith("toy/push@") for identifier in lost)


@pytest.mark.parametrize("name", sorted(path.name for path in BASELINES.glob("*.json")))
def test_every_committed_baseline_can_be_read_and_is_explained(name):
    from flowbench.baseline import Baseline

    baseline = Baseline.read(BASELINES / name)
    assert baseline.cells and baseline.scenarios
    assert f"`{name}`" in (BASELINES / "README.md").read_text()
