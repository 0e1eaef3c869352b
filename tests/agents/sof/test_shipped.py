"""`flowbench eval --agent sof` works on the suites that a trained checkpoint comes for, without being told anything."""

import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="needs flowbench[agents]")
pytest.importorskip("vector_quantize_pytorch", reason="needs flowbench[agents]")
from flowbench.agents.training.checkpoint import shipped_checkpoints
from flowbench.store import ResultStore


@pytest.mark.parametrize(("package", "suite"), [("metaworld", "metaworld11"), ("libero", "libero10")])
def test_sof_acts_out_of_the_box(package, suite, tmp_path):
    pytest.importorskip(package, reason=f"needs flowbench[{package}]")
    if f"sof-{suite}" not in shipped_checkpoints():
        pytest.skip(f"sof-{suite} does not come with this tree")
    command = ["eval", "--agent", "sof", "--suite", suite, "--limit", "1", "--max-steps", "16", "--out", "r"]
    ran = subprocess.run(
        [sys.executable, "-m", "flowbench", *command], cwd=tmp_path, capture_output=True, text=True, timeout=500
    )
    assert ran.returncode == 0, ran.stderr
    assert f"sof trained for {suite}" in ran.stdout + ran.stderr
    (result,) = ResultStore.read(tmp_path / "r").results
    assert (result.status, result.steps, result.metrics["plans"]) == ("failure", 16, 2)
