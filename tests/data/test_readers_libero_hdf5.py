"""What is particular to LIBERO's and robomimic's files."""

import h5py
import numpy as np
import pytest

from flowbench.data.readers import open_demos
from flowbench.errors import DataError


def test_suite_task_and_instruction_are_those_of_the_suite(write_recording):
    info = open_demos(write_recording("libero-hdf5").path).demos[0]
    assert (info.suite, info.task, info.instruction) == ("libero-goal", "turn_on_the_stove", "turn on the stove")
    assert info.success is True


def test_a_task_of_nobody_has_the_sentence_of_its_file_name(write_recording):
    path = write_recording("libero-hdf5", name="KITCHEN_SCENE12_boil_the_egg_demo.hdf5").path
    with h5py.File(path, "a") as file:
        file["data"].attrs["bddl_file_name"] = "bddl_files/mine/KITCHEN_SCENE12_boil_the_egg.bddl"
    info = open_demos(path).demos[0]
    assert (info.suite, info.task) == (None, "KITCHEN_SCENE12_boil_the_egg")
    assert info.instruction == "boil the egg"


def test_without_a_file_name_the_sentence_is_that_of_problem_info(write_recording):
    path = write_recording("libero-hdf5", name="some.hdf5").path
    with h5py.File(path, "a") as file:
        del file["data"].attrs["bddl_file_name"]
    assert open_demos(path).demos[0].instruction == "Turn on the stove please"


def test_cameras_have_the_names_of_the_suite(write_recording):
    info = open_demos(write_recording("libero-hdf5").path).demos[0]
    assert set(info.cameras) == {"agentview", "robot0_eye_in_hand"}


def test_proprio_is_position_axis_angle_and_fingers_as_seen_before_the_action(write_recording):
    recording = write_recording("libero-hdf5")
    reader = open_demos(recording.path)
    proprio = reader.read(0, "proprio", slice(None))
    assert proprio.shape == (6, 8) and proprio.dtype == np.float32
    position, orientation = reader.read(0, "ee_pos", slice(None)), reader.read(0, "ee_ori", slice(None))
    np.testing.assert_allclose(proprio[:, :6], np.hstack([position, orientation]), rtol=1e-6)
    np.testing.assert_allclose(proprio[:, 6:], reader.read(0, "gripper_states", slice(None)), rtol=1e-6)
    assert np.floor(proprio[:, 0]).tolist() == list(recording.moments[0])


def test_states_belong_to_the_moment_of_the_image(write_recording):
    recording = write_recording("libero-hdf5")
    states = open_demos(recording.path).read(1, "states", slice(None))
    assert np.floor(states[:, 0]).tolist() == list(recording.moments[1])


def test_rows_can_be_paired_as_they_are_stored(write_recording):
    recording = write_recording("libero-hdf5")
    reader = open_demos(recording.path, late_observations=False)
    assert reader.demos[0].steps == 7
    assert reader.read(0, "agentview/rgb", slice(0, 3))[:, 5, 5, 1].tolist() == [1, 2, 3]
    assert reader.read(0, "actions", slice(0, 3))[:, 0].tolist() == [0, 1, 2]


def test_how_images_are_stored_is_declared_by_the_file_and_can_be_overruled(write_recording):
    path = write_recording("libero-hdf5").path
    assert open_demos(path).flipped is True
    assert open_demos(path, flipped=False).read(0, "agentview/rgb", slice(0, 1))[0, -1, 0, 0] == 200
    with h5py.File(path, "a") as file:
        file["data"].attrs["macros_image_convention"] = "opencv"
    assert open_demos(path).flipped is False


def test_files_re_rendered_in_liberos_layout_are_bottom_up_and_paired(write_recording):
    path = write_recording("libero-hdf5").path
    with h5py.File(path, "a") as file:
        for name in list(file["data"].attrs):
            del file["data"].attrs[name]
    reader = open_demos(path)
    assert reader.format == "libero-hdf5"
    assert (reader.flipped, reader.late_observations, reader.demos[0].steps) == (True, False, 7)


def test_robomimic_files_are_upright_and_their_proprio_has_an_axis_angle(write_recording):
    reader = open_demos(write_recording("robomimic").path)
    assert (reader.flipped, reader.late_observations) == (False, False)
    info = reader.demos[0]
    assert (info.suite, info.task, info.instruction, info.success) == (None, "Lift", None, True)
    # A turn of 0.6 rad about z.
    np.testing.assert_allclose(reader.read(0, "proprio", slice(0, 1))[0, 3:6], [0, 0, 0.6], atol=1e-6)


def test_liberos_depth_buffer_is_not_passed_off_as_metres(write_recording):
    path = write_recording("libero-hdf5").path
    with h5py.File(path, "a") as file:
        for name in ("demo_0", "demo_1"):
            steps = len(file[f"data/{name}/actions"])
            file[f"data/{name}/obs/agentview_depth"] = np.full((steps, 24, 32, 1), 0.99, np.float32)
    assert "agentview/depth" not in open_demos(path).demos[0].arrays


def test_demonstrations_are_in_the_order_of_their_numbers(tmp_path):
    with h5py.File(tmp_path / "x_demo.hdf5", "w") as file:
        for number in (10, 2, 0):
            file[f"data/demo_{number}/actions"] = np.zeros((3, 7))
    names = [info.name for info in open_demos(tmp_path / "x_demo.hdf5").demos]
    assert names == ["demo_0", "demo_2", "demo_10"]


def test_arrays_of_different_lengths_are_named(write_recording):
    path = write_recording("libero-hdf5").path
    with h5py.File(path, "a") as file:
        del file["data/demo_1/states"]
        file["data/demo_1/states"] = np.zeros((5, 20))
    with pytest.raises(DataError, match=r"demo_1 of .* has 9 steps of actions but 5 of states"):
        open_demos(path)


def test_a_file_without_demonstrations_says_so(tmp_path):
    with h5py.File(tmp_path / "none.hdf5", "w") as file:
        file.create_group("data").attrs["num_demos"] = 0
    with pytest.raises(DataError, match=r"none.hdf5 holds no demonstrations: there is no group /data/demo_<number>"):
        open_demos(tmp_path / "none.hdf5")
