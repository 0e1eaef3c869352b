"""Pickles of strangers are read without running them."""

import collections
import os
import pickle

import numpy as np
import pytest

from flowbench.data.readers import open_demos
from flowbench.data.safe_pickle import load_npy, load_pickle
from flowbench.errors import DataError


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["posix.system", "builtins.eval", "builtins.exec"])
def test_a_pickle_that_calls_something_is_refused_and_nothing_runs(tmp_path, name, protocol):
    marker = tmp_path / "ran"
    write = f"open({str(marker)!r}, 'w')"
    calls = {
        "posix.system": (os.system, f"touch {marker}"),
        "builtins.eval": (eval, write),
        "builtins.exec": (exec, write),
    }
    path = tmp_path / "action.pkl"
    path.write_bytes(pickle.dumps([Attack(*calls[name])], protocol=protocol))
    with path.open("rb") as file:
        pickle.load(file)
    assert marker.exists(), "the attack works where nothing stops it"
    marker.unlink()
    with pytest.raises(DataError) as caught:
        load_pickle(path)
    assert f"action.pkl was not loaded: it is a pickle that wants to use {name}" in str(caught.value)
    assert "may be an attack" in str(caught.value)
    assert not marker.exists()


def test_an_attack_in_calvins_annotations_is_refused(tmp_path, write_recording):
    recording = write_recording("calvin-npz")
    marker = tmp_path / "ran"
    np.save(
        recording.path / "lang_annotations" / "auto_lang_ann.npy",
        {"language": Attack(os.system, f"touch {marker}"), "info": {}},
    )
    with pytest.raises(DataError, match=r"auto_lang_ann\.npy was not loaded: .*posix\.system"):
        open_demos(recording.path)
    assert not marker.exists()


def test_an_attack_in_a_calvin_step_is_refused(tmp_path, write_recording):
    recording = write_recording("calvin-npz")
    marker = tmp_path / "ran"
    with np.load(recording.victim) as step:
        arrays = dict(step)
    evil = np.array([Attack(os.system, f"touch {marker}")], dtype=object)
    np.savez(recording.victim, **arrays | {"rgb_static": evil})
    with pytest.raises(DataError, match=r"rgb_static in .*npz cannot be read: Object arrays cannot be loaded"):
        open_demos(recording.path).read(0, "static/rgb", slice(None))
    assert not marker.exists()


def test_an_attack_in_avdcs_actions_is_refused(tmp_path, write_recording):
    recording = write_recording("avdc-png")
    marker = tmp_path / "ran"
    path = recording.path / "door-open/corner/000/action.pkl"
    path.write_bytes(pickle.dumps([Attack(os.system, f"touch {marker}")]))
    with pytest.raises(DataError, match=r"action\.pkl was not loaded"):
        open_demos(recording.path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_numbers_and_containers_survive(tmp_path, protocol):
    value = {
        "arrays": [np.arange(6.0).reshape(2, 3), np.array(["a", "bc"]), np.array([1, "x"], dtype=object)],
        "numbers": (np.float64(1.5), np.int64(3), True, None, 2 + 1j),
        "others": {"set": {1, 2}, "bytes": b"\x00\xff", "ordered": collections.OrderedDict(a=1)},
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
    loaded = load_pickle(tmp_path / "x.pkl")
    np.testing.assert_array_equal(loaded["arrays"][0], value["arrays"][0])
    assert [array.tolist() for array in loaded["arrays"][1:]] == [["a", "bc"], [1, "x"]]
    assert loaded["numbers"] == value["numbers"] and loaded["others"] == value["others"]


def test_pickles_of_numpy_1_are_read(tmp_path):
    content = pickle.dumps(np.arange(3.0), protocol=2)
    assert b"numpy._core" in content
    (tmp_path / "x.pkl").write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    assert load_pickle(tmp_path / "x.pkl").tolist() == [0, 1, 2]


def test_npy_files_of_numbers_and_of_containers_are_read(tmp_path):
    np.save(tmp_path / "numbers.npy", np.arange(4))
    np.save(tmp_path / "dict.npy", {"a": [1, 2]})
    assert load_npy(tmp_path / "numbers.npy").tolist() == [0, 1, 2, 3]
    assert load_npy(tmp_path / "dict.npy") == {"a": [1, 2]}


@pytest.mark.parametrize("load", [load_pickle, load_npy])
def test_damaged_and_missing_files_are_named(tmp_path, load):
    with pytest.raises(DataError, match=r"absent cannot be read: No such file"):
        load(tmp_path / "absent")
    (tmp_path / "broken").write_bytes(b"\x80\x04\x95")
    with pytest.raises(DataError, match=r"broken cannot be read as"):
        load(tmp_path / "broken")
