"""What is particular to CALVIN's folders."""

import shutil

import numpy as np
import pytest

from flowbench.data.readers import open_demos
from flowbench.errors import BadValue, DataError


def test_there_is_one_demonstration_per_annotation(write_recording):
    first, second = open_demos(write_recording("calvin-npz").path).demos
    assert (first.task, first.instruction, first.steps) == ("open_drawer", "open the drawer", 7)
    assert (second.name, second.instruction) == ("annotation_1", "push the red block to the left")
    assert first.cameras == ("static", "gripper")
    assert first.success is None


def test_uninterrupted_recordings_are_an_option(write_recording):
    recording = write_recording("calvin-npz")
    reader = open_demos(recording.path, segments="episodes")
    assert [(info.name, info.steps, info.task) for info in reader.demos] == [
        ("episode_0", 11, None),
        ("episode_1", 9, None),
    ]
    assert reader.read(1, "actions", slice(None))[:, 0].tolist() == list(range(11, 20))


def test_without_annotations_recordings_are_the_default_and_the_folder_above_will_do(write_recording):
    recording = write_recording("calvin-npz", annotated=False)
    reader = open_demos(recording.path)
    assert reader.path.name == "training"
    assert [info.steps for info in reader.demos] == [11, 9]
    with pytest.raises(DataError, match=r"has no language annotations: .* Use segments='episodes'"):
        open_demos(recording.path, segments="language")


def test_without_any_list_the_steps_themselves_are_counted(write_recording):
    recording = write_recording("calvin-npz", annotated=False)
    folder = recording.path / "training"
    (folder / "ep_start_end_ids.npy").unlink()
    sorted(folder.glob("episode_*.npz"))[4].unlink()
    assert [info.steps for info in open_demos(recording.path).demos] == [4, 15]


def test_actions_are_relative_unless_asked(write_recording):
    path = write_recording("calvin-npz").path
    relative = open_demos(path).read(0, "actions", slice(0, 2))
    absolute = open_demos(path, actions="absolute").read(0, "actions", slice(0, 2))
    assert relative[:, 0].tolist() == [2, 3] and absolute[:, 0].tolist() == [102, 103]
    with pytest.raises(BadValue, match="actions 'relative' or 'absolute'"):
        open_demos(path, actions="joint")


def test_proprio_is_robot_obs_and_the_scene_keeps_its_name(write_recording):
    reader = open_demos(write_recording("calvin-npz").path)
    assert reader.demos[0].arrays["proprio"].shape == (15,)
    assert reader.demos[0].arrays["scene_obs"].shape == (24,)
    assert not any("tactile" in key for key in reader.demos[0].arrays)


def test_a_missing_step_is_named(write_recording):
    recording = write_recording("calvin-npz")
    reader = open_demos(recording.path)
    recording.victim.unlink()
    with pytest.raises(DataError, match=r"episode_0358488\.npz is missing: the folder is not complete"):
        reader.read(0, "static/rgb", slice(None))


def test_a_step_of_another_resolution_is_named(write_recording):
    recording = write_recording("calvin-npz")
    with np.load(recording.victim) as step:
        arrays = dict(step)
    np.savez(recording.victim, **arrays | {"rgb_static": np.zeros((12, 16, 3), np.uint8)})
    with pytest.raises(DataError, match=r"rgb_static has shape \(12, 16, 3\) in .*0358488.npz, but \(24, 32, 3\) in"):
        open_demos(recording.path).read(0, "static/rgb", slice(None))


def test_annotations_of_another_layout_are_refused(write_recording):
    recording = write_recording("calvin-npz")
    np.save(recording.path / "lang_annotations" / "auto_lang_ann.npy", {"info": {"indx": [(0, 1)]}, "language": {}})
    with pytest.raises(DataError, match="has not the layout of auto_lang_ann.npy"):
        open_demos(recording.path)


def test_a_folder_without_steps_says_so(tmp_path):
    with pytest.raises(DataError, match=r"holds no steps: there is no episode_<number>.npz in it or in training/"):
        open_demos(tmp_path, format="calvin-npz")


def test_only_the_asked_steps_are_opened(write_recording):
    recording = write_recording("calvin-npz")
    reader = open_demos(recording.path)
    for path in recording.path.glob("episode_*.npz"):
        if path.name not in ("episode_0358486.npz", "episode_0358487.npz"):
            shutil.move(path, path.with_suffix(".gone"))
    assert reader.read(0, "static/rgb", slice(2, 4))[:, 5, 5, 1].tolist() == [4, 5]
