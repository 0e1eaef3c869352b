"""What `open_demos` says about files that are no demonstrations."""

import h5py
import numpy as np
import pytest

from flowbench.data.readers import FORMATS, LOOKS_LIKE, open_demos
from flowbench.errors import DataError, UnknownName


def test_every_format_says_what_it_looks_like():
    assert set(LOOKS_LIKE) == set(FORMATS)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"There are no demonstrations at .*absent\.h5: no such file or folder"):
        open_demos(tmp_path / "absent.h5")


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name.endswith("hdf5")])
def test_nothing_there_of_a_named_format(tmp_path, format_name):
    with pytest.raises(DataError, match=r"There are no demonstrations at .*absent\.h5"):
        open_demos(tmp_path / "absent.h5", format=format_name)


def test_an_empty_file(tmp_path):
    (tmp_path / "d.h5").touch()
    with pytest.raises(DataError, match=r"d\.h5 is empty \(0 bytes\)"):
        open_demos(tmp_path / "d.h5")


def test_a_file_of_another_kind_lists_the_formats(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError) as caught:
        open_demos(tmp_path / "notes.txt")
    assert "notes.txt is a file that is not HDF5" in str(caught.value)
    assert all(name in str(caught.value) for name in FORMATS)


def test_hdf5_of_another_kind_says_what_is_in_it(tmp_path):
    with h5py.File(tmp_path / "weather.h5", "w") as file:
        file["temperature"] = np.zeros(3)
    with pytest.raises(DataError, match=r"without the group /data \(it holds temperature\)"):
        open_demos(tmp_path / "weather.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data/run"] = np.zeros(3)
    with pytest.raises(DataError, match=r"whose /data holds no demo_<number> \(it holds run\)"):
        open_demos(tmp_path / "other.h5")


def test_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="is an empty folder"):
        open_demos(tmp_path)


def test_a_folder_of_other_things_says_what_is_in_it(tmp_path):
    (tmp_path / "papers").mkdir()
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=r"is a folder that holds a\.csv, papers/, which is no format"):
        open_demos(tmp_path)


def test_a_folder_of_hdf5_files_points_to_one_of_them(write_recording, tmp_path):
    write_recording("libero-hdf5")
    with pytest.raises(DataError, match=r"is a folder of 1 HDF5 files, .* DemoDataset takes the folder"):
        open_demos(tmp_path)


def test_a_misspelt_format_gets_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match=r"There is no format 'libero_hdf'\. Did you mean 'libero-hdf5'"):
        open_demos(tmp_path, format="libero_hdf")
