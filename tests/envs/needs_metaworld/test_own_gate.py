"""Meta-World's experts are held to the baseline that is committed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_experts_of_metaworld11_hold(tmp_path):
    def flowbench(*arguments):
        command = [sys.executable, "-m", "flowbench", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500)

    ran = flowbench(
        *["eval", "--agent", "scripted", "--suite", "metaworld11", "--cameras", "corner", "--out", "run", "--quiet"]
    )
    assert ran.returncode == 0, ran.stderr
    gate = flowbench("gate", "run", "--baseline", ROOT / "results" / "baselines" / "metaworld11-scripted.json")
    assert gate.returncode == 0, gate.stdout
    assert gate.stdout.splitlines()[1].startswith("held: ")
