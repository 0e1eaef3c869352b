"""What is missing on this machine, and the exact command that installs it.

Each suite is tried for real, in a child process with a time limit: the first step of its first task and one small frame.
A simulator that crashes, prints or hangs therefore cannot take the report with it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from flowbench.errors import FlowBenchError, RenderingUnavailable
from flowbench.registry import get_suite, suite_names
from flowbench.suite import Suite, load_object

#: Debian and Ubuntu packages that rendering without a display needs: EGL (brings Mesa's), the OpenGL entry points that
#: MuJoCo and PyOpenGL load, and Mesa's software rasteriser. GLib and libGL are loaded by OpenCV's wheel, a dependency of
#: robosuite. tools/install_system_packages.sh installs the same list.
APT_PACKAGES = ("libegl1", "libgl1", "libopengl0", "libgl1-mesa-dri", "libglib2.0-0")
APT_COMMAND = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {' '.join(APT_PACKAGES)}"

#: A cold first import of a simulator, with two of them sharing a slow disk and one core, takes less.
PROBE_TIMEOUT_S = 60.0
_PROBE_CODE = "from flowbench.doctor import probe_and_report; probe_and_report('{suite}')"

#: Environment variables that decide how images are made and where programs run.
SHOWN_VARIABLES = (
    "MUJOCO_GL",
    "PYOPENGL_PLATFORM",
    "MUJOCO_EGL_DEVICE_ID",
    "CUDA_VISIBLE_DEVICES",
    "DISPLAY",
    "LP_NUM_THREADS",
    "OMP_NUM_THREADS",
)

#: Why a version range is not a matter of taste.
VERSION_REASONS = {
    "mujoco": "from 3.3.3 on the floors of LIBERO's scenes are drawn darker, so published checkpoints see other pixels",
    "metaworld": "its scenes, seeds and experts are those of this release",
}


@dataclass(frozen=True)
class SuiteCheck:
    """Whether the suites of one simulator work here.

    Attributes:
        family: Name of the simulator.
        suites: Names of its suites.
        status: `ok`, `missing` (not installed, which is no fault) or `broken`.
        problems: One sentence each; the first names the cause.
        next_steps: Commands that mend them.
        versions: Installed distributions of its extra.
        renderer: What draws its images, and how they compare with the reference.
        seconds: Time from the start of a Python process to the first frame.
    """

    family: str
    suites: tuple[str, ...]
    status: str
    problems: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    renderer: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What `flowbench doctor` found.

    Attributes:
        machine: Facts about this machine, in the order in which they are shown.
        suites: One check per simulator.
        problems: What is wrong apart from the suites.
    """

    machine: Mapping[str, str]
    suites: tuple[SuiteCheck, ...]
    problems: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether everything that is installed works."""
        return not self.problems and all(check.status != "broken" for check in self.suites)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"healthy": self.healthy, **asdict(self)}


def diagnose(suite: str | None = None, *, timeout_s: float = PROBE_TIMEOUT_S) -> Diagnosis:
    """Check this machine.

    Args:
        suite: Check this one alone, and call it broken if it is not installed; None checks one suite per simulator.
        timeout_s: Time limit of each simulator's trial.

    Raises:
        UnknownName: If the suite does not exist.
    """
    families: dict[str, list[Suite]] = {}
    checks: list[SuiteCheck] = []
    for name in [suite] if suite else suite_names():
        try:
            found = get_suite(name)
        except ImportError as error:
            checks.append(SuiteCheck(name, (name,), "broken", (f"Suite {name} cannot be imported: {error}.",)))
        else:
            families.setdefault(found.family, []).append(found)
    with ThreadPoolExecutor(max_workers=_usable_cpus()) as pool:
        futures = [pool.submit(_check_family, suites, timeout_s, bool(suite)) for suites in families.values()]
        torch = None if suite else pool.submit(_torch_problems, timeout_s)
        machine = _machine()
        checks = [future.result() for future in futures] + checks
        problems = [*_folder_problems(), *(torch.result() if torch else [])]
    return Diagnosis(machine, tuple(checks), tuple(problems))


def _check_family(suites: list[Suite], timeout_s: float, asked_for: bool) -> SuiteCheck:
    first = suites[0]
    names = tuple(suite.name for suite in suites)
    missing = first.missing_modules()
    install = f"pip install 'flowbench[{first.extra}]'"
    if missing:
        problem = f"Not installed: no module named {missing[0]!r}."
        return SuiteCheck(first.family, names, "broken" if asked_for else "missing", (problem,), (install,))
    if (sentence := first.missing_setup()) is not None:
        # The command stands after the colon.
        command = sentence.rpartition(": ")[2]
        return SuiteCheck(first.family, names, "broken" if asked_for else "missing", (sentence,), (command,))
    versions, problems = check_versions(first.extra)
    next_steps = [install] if problems else []
    result = run_probe(first.name, timeout_s)
    if "error" in result:
        problems.append(result["error"])
        if result.get("rendering"):
            # With a back end chosen by hand, the choice is the first suspect.
            next_steps.append("unset MUJOCO_GL" if os.environ.get("MUJOCO_GL") else APT_COMMAND)
    if first.content_versions:
        versions |= load_object(first.content_versions)()
    return SuiteCheck(
        first.family,
        names,
        "broken" if problems else "ok",
        tuple(problems),
        tuple(next_steps),
        versions,
        result.get("renderer", {}),
        result.get("seconds"),
    )


def check_versions(extra: str) -> tuple[dict[str, str], list[str]]:
    """Compare the installed versions of an extra's distributions with the ranges that FlowBench declares.

    A distribution that is not installed is no problem: another one may provide the same module.

    Returns:
        Installed versions by distribution, and one sentence for each that is out of range.
    """
    from packaging.requirements import Requirement

    versions, problems = {}, []
    for text in metadata.requires("flowbench") or ():
        requirement = Requirement(text)
        if not extra or requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        versions[requirement.name] = version
        if not requirement.specifier.contains(version, prereleases=True):
            reason = VERSION_REASONS.get(requirement.name, "")
            problems.append(
                f"{requirement.name} {version} is installed; flowbench[{extra}] needs {requirement.specifier}"
                + (f" ({reason})." if reason else ".")
            )
    return versions, problems


# --- The trial of one suite ---------------------------------------------------------------------------------------


def run_probe(suite: str, timeout_s: float) -> dict[str, Any]:
    """Try a suite in a child process.

    Returns:
        `seconds`, `renderer`, `task` and `camera`; or `error`, one sentence, and `rendering`, whether it is OpenGL's.
    """
    command = [sys.executable, "-c", _PROBE_CODE.format(suite=suite)]
    try:
        child = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return {
            "error": f"Making one frame of {suite} took more than {timeout_s:g} s and was stopped. If a display server or GPU "
            "driver hangs, choose another back end with MUJOCO_GL=egl or MUJOCO_GL=osmesa.",
            "rendering": True,
        }
    try:
        return json.loads(child.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        last = (child.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        return {"error": f"The trial of {suite} ended with {how}: {last}"}


def probe_and_report(suite: str) -> None:
    """Print the result of `probe` as the only line on standard output, whatever the simulator prints."""
    report_fd = os.dup(1)
    os.dup2(2, 1)
    result = probe(suite)
    with os.fdopen(report_fd, "w") as report:
        report.write(json.dumps(result) + "\n")


def probe(name: str) -> dict[str, Any]:
    """Start the first task of a suite, take one step, render, and compare a known frame, in this process."""
    import time

    import numpy as np

    from flowbench.fingerprint import describe_deviation
    from flowbench.preflight import compare_pixels
    from flowbench.registry import make

    start = time.monotonic()
    try:
        suite = get_suite(name)
        env = make(name, modalities=("rgb", "depth"))
        env.reset(seed=0)
        spec = env.task.action_spec
        action = np.clip(np.zeros(spec.size), spec.low, spec.high)
        observation = env.step(action)[0]
        camera = next(iter(env.poses))
        rgb, depth_m = observation[f"{camera}/rgb"], observation[f"{camera}/depth"]
        if rgb.std() < 1 or not np.all(np.isfinite(depth_m)) or not (depth_m > 0).any():
            return {"error": f"Camera {camera} of {name} shows a blank image.", "rendering": True}
        task = env.task.name
        grey_levels = compare_pixels(env)
        env.close()
        # Afterwards, because it makes a context of its own.
        renderer = _renderer(suite)
        if grey_levels is not None:
            renderer["known frame"] = describe_deviation(suite, grey_levels)
    except RenderingUnavailable as error:
        return {"error": str(error), "rendering": True}
    except FlowBenchError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    seconds = round(time.monotonic() - start, 2)
    return {"seconds": seconds, "renderer": renderer, "task": task, "camera": camera}


def _renderer(suite: Suite) -> dict[str, str]:
    if not suite.describe_renderer:
        return {}
    info = load_object(suite.describe_renderer)()
    return {key: str(value) for key, value in (info._asdict() if hasattr(info, "_asdict") else dict(info)).items()}


# --- The machine --------------------------------------------------------------------------------------------------


def _machine() -> dict[str, str]:
    facts = {
        "flowbench": f"{_version('flowbench')} at {Path(__file__).resolve().parent}",
        "python": f"{platform.python_version()} at {sys.executable}",
        "system": platform.platform(),
        "cpus": str(_usable_cpus()),
        "gpu": _gpu(),
        "torch": _version("torch"),
    }
    for name in SHOWN_VARIABLES:
        if name in os.environ:
            facts[name] = os.environ[name]
    return facts


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu() -> str:
    # torch knows too, but importing it takes longer than everything else here.
    query = ["nvidia-smi", "--query-gpu=index,name,driver_version", "--format=csv,noheader"]
    try:
        child = subprocess.run(query, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return "none found"
    return "; ".join(child.stdout.split("\n")).strip("; ") if child.returncode == 0 and child.stdout else "none found"


def _folder_problems() -> list[str]:
    """Check that the default folder for runs could be made and written."""
    target = Path("results") / "runs"
    existing = next(folder for folder in (target, target.parent, Path(".")) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return []
    except OSError as error:
        return [
            f"{existing.resolve()} cannot be written ({error.strerror}); give runs a folder with flowbench eval --out."
        ]


def _torch_problems(timeout_s: float) -> list[str]:
    """Check that torchvision finds the torch that it was built for; version numbers do not say so."""
    versions = [_version(name) for name in ("torch", "torchvision")]
    if "not installed" in versions:
        return []
    try:
        child = subprocess.run(
            [sys.executable, "-c", "import torchvision"], capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return [
            f"Importing torchvision took more than {timeout_s:g} s and was stopped. Try it: python -c 'import torchvision'"
        ]
    if child.returncode == 0:
        return []
    last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
    # A folder of wheels in pip's settings is where half of such a pair comes from; the current folder has none.
    return [
        f"torch {versions[0]} and torchvision {versions[1]} cannot be imported together ({last}), because they are not of one "
        "build. Install both from one place: PIP_FIND_LINKS=. pip install --force-reinstall torch torchvision"
    ]
