"""The wheel holds what the tree holds, under one name, and works without the tree."""

import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Folder in the repository -> folder in the wheel.
FOLDERS = {"flowbench": "flowbench", "envs": "flowbench/envs", "agents": "flowbench/agents"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_SHIPPED = {"__pycache__", ".DS_Store"}


def run(*command, cwd, **options):
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300, **options
    )


def tree_files(folder):
    """Return the files below a folder, relative to it, not following links."""
    top = ROOT / folder
    return {
        path.relative_to(top).as_posix()
        for path in top.rglob("*")
        if path.is_file()
        and not NOT_SHIPPED & set(path.parts)
        and path.suffix != ".pyc"
        and not any((top / parent).is_symlink() for parent in path.relative_to(top).parents)
    }


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the tree, so that an old build folder cannot add files to it."""
    copy = tmp_path_factory.mktemp("source") / "flowbench"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "results", "*.egg-info", "__pycache__", "venv*")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    out = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=copy)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """Unpack the wheel somewhere and return a function that runs Python there, away from the repository."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def python(*arguments):
        return run(sys.executable, *arguments, cwd=elsewhere, env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"})

    return python


def test_the_wheel_has_one_top_level_package(wheel):
    top_level = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert top_level == {"flowbench", f"flowbench-{PROJECT['version']}.dist-info"}


@pytest.mark.parametrize("folder, place", FOLDERS.items())
def test_the_wheel_holds_every_file_of(wheel, folder, place):
    expected = {f"{place}/{name}" for name in tree_files(folder)}
    assert f"{place}/__init__.py" in expected
    missing = expected - set(zipfile.ZipFile(wheel).namelist())
    assert not missing, f"add its package or package-data to pyproject.toml: {sorted(missing)}"


def test_the_wheel_holds_nothing_else(wheel):
    expected = {f"{place}/{name}" for folder, place in FOLDERS.items() for name in tree_files(folder)}
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped <= expected


def test_the_wheel_imports_as_itself(installed):
    code = "import flowbench, flowbench.envs, flowbench.agents; print(flowbench.__file__, flowbench.envs.__file__)"
    ran = installed("-c", code)
    assert ran.returncode == 0, ran.stderr
    core, envs = ran.stdout.split()
    assert "site" in core
    assert envs == core.replace("__init__.py", "envs/__init__.py")


def test_the_wheel_runs_an_evaluation(installed):
    ran = installed("-m", "flowbench", "eval", "--agent", "scripted", "--suite", "toy", "--limit", "1", "--out", "r1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "| overall" in ran.stdout
    table = installed("-m", "flowbench", "table", "r1", "--format", "csv")
    assert table.stdout.startswith("# flowbench table r1 --format csv\n")


def test_the_wheel_brings_published_rows(installed):
    table = installed("-m", "flowbench", "table", "--layout", "avdc-ithor", "--format", "csv")
    assert ",31.3,percent," in table.stdout, table.stderr


@pytest.mark.parametrize("group", ["console_scripts", *PROJECT["entry-points"]])
def test_every_entry_point_loads(group):
    ours = PROJECT["scripts"] if group == "console_scripts" else PROJECT["entry-points"][group]
    found = {entry.name: entry for entry in entry_points(group=group) if entry.value.startswith("flowbench")}
    assert {name: entry.value for name, entry in found.items()} == ours, "reinstall: pip install -e ."
    for entry in found.values():
        assert entry.load() is not None


@pytest.mark.parametrize("folder", ["envs", "agents"])
def test_importing_a_folder_by_its_short_name_says_what_to_import_instead(folder):
    ran = run(sys.executable, "-c", f"import {folder}", cwd=ROOT)
    assert ran.returncode == 1
    assert f"import flowbench.{folder}, not {folder}: this folder is installed as flowbench.{folder}." in ran.stderr


@pytest.mark.parametrize("folder", ["envs", "agents"])
def test_the_links_are_committed_as_links(folder):
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs git and a checkout")
    entry = run("git", "ls-files", "--stage", f"flowbench/{folder}", cwd=ROOT).stdout.split()
    assert entry[0] == "120000"
    assert run("git", "cat-file", "blob", entry[1], cwd=ROOT).stdout == f"../{folder}"


def test_no_file_of_a_result_run_is_committed():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs git and a checkout")
    assert run("git", "ls-files", "results/runs", cwd=ROOT).stdout == ""


def test_help_comes_at_once(tmp_path):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert run(sys.executable, "-m", "flowbench", "--help", cwd=tmp_path).returncode == 0
        times.append(time.perf_counter() - start)
    # 0.2 s when nothing else runs.
    assert min(times) < 3


def test_every_dependency_is_explained():
    requirements = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    for requirement in requirements:
        name = requirement.split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip()
        if name != "flowbench":
            assert f"`{name}`" in page, f"docs/dependencies.md does not say why {name} is needed"
