"""What is particular to AVDC's folders."""

import pickle

import numpy as np
import pytest
from PIL import Image

from flowbench.data.readers import open_demos
from flowbench.errors import DataError


def test_each_camera_has_sequences_of_its_own(write_recording):
    recording = write_recording("avdc-png")
    corner2 = recording.path / "door-open" / "corner2" / "000"
    corner2.mkdir(parents=True)
    Image.new("RGB", (32, 24)).save(corner2 / "0.png")
    reader = open_demos(recording.path)
    assert [info.name for info in reader.demos] == [
        "door-open/corner/000",
        "door-open/corner/001",
        "door-open/corner2/000",
    ]
    assert [info.cameras for info in reader.demos] == [("corner",), ("corner",), ("corner2",)]
    assert [set(info.arrays) for info in reader.demos[1:]] == [{"corner/rgb", "actions"}, {"corner2/rgb"}]


def test_tasks_are_those_of_the_eleven(write_recording):
    info = open_demos(write_recording("avdc-png").path).demos[0]
    assert (info.suite, info.task, info.instruction) == ("metaworld11", "door-open", "door open")


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    folder = tmp_path / "assembly" / "corner" / "000"
    folder.mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    reader = open_demos(tmp_path)
    assert reader.read(0, "corner/rgb", slice(None))[:, 0, 0, 0].tolist() == list(range(12))


def test_with_actions_the_last_frame_is_left_out_and_without_it_is_there(write_recording):
    path = write_recording("avdc-png").path
    assert open_demos(path).demos[0].steps == 7
    frames_only = open_demos(path, actions=False)
    assert frames_only.demos[0].steps == 8
    assert frames_only.read(0, "corner/rgb", slice(-1, None))[0, 5, 5, 1] == 7
    assert set(frames_only.demos[0].arrays) == {"corner/rgb"}


def test_mirrored_frames_are_declared_and_can_be_turned_back(write_recording):
    path = write_recording("avdc-png").path
    mirrored, turned = open_demos(path), open_demos(path, image_view="geometric")
    assert (mirrored.image_view, turned.image_view) == ("policy", "geometric")
    assert mirrored.read(0, "corner/rgb", slice(0, 1))[0, 0, -1, 0] == 200
    assert turned.read(0, "corner/rgb", slice(0, 1))[0, 0, 0, 0] == 200


def test_walks_in_ithor_are_not_mirrored(write_recording):
    reader = open_demos(write_recording("avdc-ithor").path)
    assert reader.image_view == "geometric"
    assert (reader.demos[0].name, reader.demos[0].task, reader.demos[0].cameras) == (
        "Bread/000/frames",
        "Bread",
        ("agent",),
    )


def test_a_list_of_one_sequences_actions_is_understood(write_recording):
    recording = write_recording("avdc-png")
    path = recording.path / "door-open/corner/001/action.pkl"
    path.write_bytes(pickle.dumps([np.full(4, moment) for moment in range(9)]))
    assert open_demos(recording.path).read(1, "actions", slice(None))[:, 0].tolist() == list(range(9))


def test_actions_that_do_not_fit_the_frames_are_named(write_recording):
    recording = write_recording("avdc-png")
    path = recording.path / "door-open/corner/001/action.pkl"
    path.write_bytes(pickle.dumps([np.zeros(4)] * 3))
    with pytest.raises(DataError, match=r"has actions of shape \(3, 4\) for the 10 frames in .*expected \(9, A\)"):
        open_demos(recording.path)
    assert open_demos(recording.path, actions=False).demos[1].steps == 10


def test_a_frame_of_another_size_is_named_with_both_sizes(write_recording):
    recording = write_recording("avdc-png")
    Image.new("RGB", (40, 30)).save(recording.victim)
    reader = open_demos(recording.path)
    with pytest.raises(DataError, match=r"001/03\.png is 40 x 30 pixels, but .*001/00\.png is 32 x 24"):
        reader.read(1, "corner/rgb", slice(None))


def test_frames_with_transparency_or_in_grey_become_rgb(tmp_path):
    folder = tmp_path / "assembly" / "corner" / "000"
    folder.mkdir(parents=True)
    Image.new("RGBA", (4, 4), (9, 8, 7, 255)).save(folder / "0.png")
    Image.new("L", (4, 4), 5).save(folder / "1.png")
    assert open_demos(tmp_path).read(0, "corner/rgb", slice(None))[:, 0, 0].tolist() == [[9, 8, 7], [5, 5, 5]]


def test_a_folder_without_sequences_says_so(tmp_path):
    with pytest.raises(DataError, match=r"holds no sequences: there is no <task>/<camera>/<sequence>/<n>.png"):
        open_demos(tmp_path, format="avdc-png")
