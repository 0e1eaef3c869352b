"""What every reader promises, on a small recording in each format's own layout."""

import pickle
import shutil

import numpy as np
import pytest

from flowbench.data.readers import FORMATS, open_demos
from flowbench.errors import DataError, UnknownName

SLICES = (
    slice(None),
    slice(2, 5),
    slice(-3, None),
    slice(0, 100),
    slice(1, 6, 2),
    slice(5, 1, -2),
    slice(None, None, -1),
    slice(3, 3),
)


def test_every_format_has_a_recording(recording):
    assert recording.format in FORMATS


def test_the_format_is_found_from_the_content(recording, tmp_path):
    moved = tmp_path / "no_hint"
    shutil.move(recording.path, moved)
    with_name = open_demos(moved, format=recording.format)
    found = open_demos(moved)
    assert found.format == with_name.format == recording.format
    assert [info.steps for info in found.demos] == [len(moments) for moments in recording.moments]


def test_arrays_are_as_declared(recording):
    reader = open_demos(recording.path)
    assert len(reader.demos) == 2
    for demo, info in enumerate(reader.demos):
        assert f"{recording.camera}/rgb" in info.arrays
        assert ("actions" in info.arrays) == recording.actions
        for key, spec in info.arrays.items():
            values = reader.read(demo, key, slice(None))
            assert values.shape == (info.steps, *spec.shape), key
            assert values.dtype == spec.dtype, key
            assert values.flags.writeable and values.flags.c_contiguous, key


def test_conventional_keys_have_their_conventional_types(recording):
    info = open_demos(recording.path).demos[0]
    for key, spec in info.arrays.items():
        modality = key.rpartition("/")[2]
        expected = {"rgb": ("uint8", 3), "depth": ("float32", 2), "proprio": ("float32", 1)}.get(modality)
        if expected:
            assert (spec.dtype, len(spec.shape)) == expected, key


def test_images_are_upright_or_declared_to_be_mirrored(recording):
    reader = open_demos(recording.path)
    for demo, moments in enumerate(recording.moments):
        images = reader.read(demo, f"{recording.camera}/rgb", slice(None))
        if reader.image_view == "policy":
            images = images[:, :, ::-1]
        assert (images[:, 0, 0, 0] == 200).all(), "red is in the upper left corner"
        assert (images[:, -1, 0, 0] == 0).all() and (images[:, 0, -1, 0] == 0).all()
        assert images[:, 5, 5, 1].tolist() == list(moments)


def test_depth_is_in_metres_and_lies_on_the_image(recording):
    reader = open_demos(recording.path)
    key = f"{recording.camera}/depth"
    if key not in reader.demos[0].arrays:
        pytest.skip(f"{recording.format} has no depth")
    depth_m = reader.read(1, key, slice(0, 2))
    assert depth_m[:, 0, 0] == pytest.approx([0.5, 0.5])
    assert depth_m[:, -1, -1] == pytest.approx([2 + moment / 10 for moment in recording.moments[1][:2]], abs=1e-3)


def test_a_row_holds_what_was_seen_and_the_action_that_followed(recording):
    if not recording.actions:
        pytest.skip("no actions")
    reader = open_demos(recording.path)
    seen = reader.read(1, f"{recording.camera}/rgb", slice(None))[:, 5, 5, 1]
    done = reader.read(1, "actions", slice(None))[:, 0]
    assert seen.tolist() == done.tolist() == list(recording.moments[1])


def test_any_slice_equals_the_same_slice_of_the_whole(recording):
    reader = open_demos(recording.path)
    for key in reader.demos[1].arrays:
        whole = reader.read(1, key, slice(None))
        assert len(np.unique(whole, axis=0)) > 1 or key not in (f"{recording.camera}/rgb", "actions")
        for steps in SLICES:
            np.testing.assert_array_equal(reader.read(1, key, steps), whole[steps], err_msg=f"{key} {steps}")


def test_a_reader_can_be_pickled_before_and_after_reading(recording):
    reader = open_demos(recording.path)
    key = f"{recording.camera}/rgb"
    fresh = pickle.loads(pickle.dumps(reader))
    expected = reader.read(0, key, slice(None))
    used = pickle.loads(pickle.dumps(reader))
    for copy in (fresh, used):
        assert [info.name for info in copy.demos] == [info.name for info in reader.demos]
        np.testing.assert_array_equal(copy.read(0, key, slice(None)), expected)


def test_closing_twice_is_fine_and_reading_opens_again(recording):
    reader = open_demos(recording.path)
    key = f"{recording.camera}/rgb"
    before = reader.read(0, key, slice(0, 1))
    reader.close()
    reader.close()
    np.testing.assert_array_equal(reader.read(0, key, slice(0, 1)), before)


def test_an_unknown_key_lists_those_there_are(recording):
    reader = open_demos(recording.path)
    with pytest.raises(UnknownName) as caught:
        reader.read(0, f"{recording.camera}/rbg", slice(None))
    message = str(caught.value)
    assert f"has no array '{recording.camera}/rbg'" in message
    assert f"{recording.camera}/rgb" in message and reader.demos[0].name in message


@pytest.mark.parametrize("kept", [0.8, 0.5, 0.02])
def test_a_truncated_file_is_one_sentence_that_names_it(recording, kept):
    content = recording.victim.read_bytes()
    recording.victim.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError) as caught:
        reader = open_demos(recording.path)
        for demo, info in enumerate(reader.demos):
            for key in info.arrays:
                reader.read(demo, key, slice(None))
    assert str(recording.path) in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_an_unknown_option_lists_those_there_are(recording):
    with pytest.raises(UnknownName, match=f"Format {recording.format} has no option 'upside_down'"):
        open_demos(recording.path, upside_down=True)
