"""Importing LIBERO asks nothing, prints nothing and writes nothing, on machines as bare as a cluster node."""

import os
import pickle
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

from flowbench.errors import BadValue, FlowBenchError

pytest.importorskip("libero", reason="needs flowbench[libero]")

from flowbench.envs.libero import upstream
from flowbench.envs.libero.init_states import load_init_states


def run_python(script, *, first_on_path=None, **variables):
    """Run a script in a new process with stdin closed; a variable of None is removed."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    if first_on_path is not None:
        environment["PYTHONPATH"] = str(first_on_path)
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$0" "$@" <&-', sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


EPISODE = """
import flowbench
env = flowbench.make("libero-object", "pick_up_the_milk_and_place_it_in_the_basket", cameras={cameras}, image_size=(32, 32))
env.reset(seed=0)
env.step(env.action_space.sample())
{end}
"""


@pytest.mark.parametrize("home", ["", "/dev/null", "/proc/nobody"])
def test_an_episode_is_silent_without_home_and_stdin(home):
    script = EPISODE.format(cameras="()", end="env.close()")
    assert run_python(script, HOME=home, XDG_CACHE_HOME=None, XDG_CONFIG_HOME=None) == (0, "", "")


def test_an_episode_with_images_is_silent_even_when_nobody_closes_it(opengl):
    assert run_python(EPISODE.format(cameras="('agentview',)", end="")) == (0, "", "")


def test_robosuite_logs_to_no_file_and_leaves_the_opengl_backend_alone():
    script = """
    import logging, os
    from flowbench.envs.libero import upstream
    upstream.load()
    import robosuite, robosuite.macros
    assert robosuite.macros.FILE_LOGGING_LEVEL is None
    files = [h for h in logging.getLogger("robosuite_logs").handlers if isinstance(h, logging.FileHandler)]
    assert files == [], files
    assert os.environ.get("MUJOCO_GL") == {expected!r}, os.environ.get("MUJOCO_GL")
    """
    for backend in (None, "disable"):
        assert run_python(textwrap.dedent(script).format(expected=backend), MUJOCO_GL=backend) == (0, "", "")


def test_libero_imports_where_opencv_lacks_its_system_libraries(tmp_path):
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({message!r})")
    script = """
    import sys
    from flowbench.envs.libero import upstream
    upstream.load()
    assert "cv2" not in sys.modules
    """
    assert run_python(script, first_on_path=tmp_path) == (0, "", "")


# What matters of the original package's __init__: it reads a file, and asks on stdin where there is none.
ASKING_PACKAGE = """
import os, yaml
config_file = os.path.join(os.environ.get("LIBERO_CONFIG_PATH", os.path.expanduser("~/.libero")), "config.yaml")
if not os.path.exists(config_file):
    answer = input("Do you want to specify a custom path for the dataset folder? (Y/N): ")
def get_libero_path(key):
    print("[Warning]: datasets path does not exist!")
    return yaml.safe_load(open(config_file))[key]
"""

ASK = """
from flowbench.envs.libero import upstream
upstream._answer_config_question()
upstream.load = lambda: None
print(upstream.bddl_file("turn_on_the_stove"))
"""


@pytest.fixture
def asking_package(tmp_path):
    root = tmp_path / "packages" / "libero" / "libero"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text(ASKING_PACKAGE)
    # The original has no outer __init__; an installed distribution that has one must not win over it here.
    (root.parent / "__init__.py").write_text("")
    return root


def test_the_original_packages_question_is_answered_before_it_is_asked(asking_package, tmp_path):
    outcome = run_python(ASK, first_on_path=asking_package.parent.parent, HOME=str(tmp_path), LIBERO_CONFIG_PATH=None)
    assert outcome == (0, f"{asking_package}/bddl_files/libero_goal/turn_on_the_stove.bddl\n", "")
    assert not (tmp_path / ".libero").exists()


def test_a_users_own_configuration_of_the_original_package_is_used(asking_package, tmp_path):
    (tmp_path / ".libero").mkdir()
    (tmp_path / ".libero" / "config.yaml").write_text("bddl_files: /data/bddl\n")
    outcome = run_python(ASK, first_on_path=asking_package.parent.parent, HOME=str(tmp_path), LIBERO_CONFIG_PATH=None)
    assert outcome == (0, "/data/bddl/libero_goal/turn_on_the_stove.bddl\n", "")


def test_numba_is_told_not_to_cache_where_it_cannot_write(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    assert not upstream._numba_can_cache(tmp_path.__class__("/dev/null/robosuite"))
    assert upstream._numba_can_cache(tmp_path / "robosuite")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "yet"))
    assert upstream._numba_can_cache(tmp_path.__class__("/dev/null/robosuite"))


def write_torch_archive(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")


def test_original_initial_states_are_read_without_torch(tmp_path):
    states = np.random.default_rng(0).normal(size=(50, 79))
    path = tmp_path / "task.pruned_init"
    write_torch_archive(path, pickle.dumps(states, protocol=2))
    np.testing.assert_array_equal(load_init_states(path), states)
    # A converted file beside it goes first.
    np.savez(f"{path}.npz", states=states + 1)
    np.testing.assert_array_equal(load_init_states(path), states + 1)


def test_torchs_own_archive_of_an_array_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    states = np.random.default_rng(0).normal(size=(3, 5))
    torch.save(states, tmp_path / "task.pruned_init")
    np.testing.assert_array_equal(load_init_states(tmp_path / "task.pruned_init"), states)


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed",)


def test_initial_states_that_would_run_code_are_refused(tmp_path, capfd):
    path = tmp_path / "task.pruned_init"
    write_torch_archive(path, pickle.dumps(Evil(), protocol=2))
    with pytest.raises(BadValue, match=r"could not be read as an array \(\w+\.system is not part of an array\)"):
        load_init_states(path)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"not a zip archive"])
def test_broken_initial_states_are_named(content, tmp_path):
    path = tmp_path / "task.pruned_init"
    path.write_bytes(content)
    with pytest.raises(BadValue, match=r"task\.pruned_init' could not be read as an array"):
        load_init_states(path)


def test_initial_states_of_another_shape_are_refused(tmp_path):
    np.savez(tmp_path / "task.pruned_init.npz", states=np.zeros(7))
    with pytest.raises(BadValue, match="not a float64 matrix"):
        load_init_states(tmp_path / "task.pruned_init")


def test_missing_initial_states_say_how_to_get_them(tmp_path):
    with pytest.raises(FlowBenchError, match=r"'task\.pruned_init' do not exist .* Reinstall LIBERO"):
        load_init_states(tmp_path / "task.pruned_init")
