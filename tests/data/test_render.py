"""Pictures after the fact are the pictures of the moment."""

import h5py
import numpy as np
import pytest

from flowbench.data.layout import data_sets
from flowbench.data.readers import open_demos
from flowbench.data.render import RenderRequest, render_file
from flowbench.data.verify import verify_demos, verify_file
from flowbench.errors import BadValue, DataError, UnknownName


def render(source, out, workers=0, **request):
    with open_demos(source) as reader:
        return list(render_file(reader, RenderRequest(**request), out, command="as typed", workers=workers))


@pytest.fixture(scope="module")
def numbers_only(collect_toy):
    return collect_toy(modalities=())


@pytest.mark.parametrize("workers", [0, 2])
def test_rendering_later_gives_the_file_that_collecting_would_have(collected_toy, numbers_only, tmp_path, workers):
    names = render(numbers_only, tmp_path / "later.h5", workers)
    assert sorted(names) == ["demo_0", "demo_1", "demo_2", "demo_3"]
    with h5py.File(collected_toy) as then, h5py.File(tmp_path / "later.h5") as later:
        for name, group in then["data"].items():
            expected, found = dict(data_sets(group)), dict(data_sets(later["data"][name]))
            assert found.keys() == expected.keys()
            for path, array in expected.items():
                assert found[path].dtype == array.dtype, path
                np.testing.assert_array_equal(found[path][()], array[()], err_msg=path)
            assert dict(later["data"][name].attrs) == dict(group.attrs), "checksums included"
        assert list(later["mask"]) == list(then["mask"])


def test_other_cameras_sizes_and_formats_replace_those_that_were_there(collected_toy, tmp_path):
    out = tmp_path / "new" / "other.h5"
    render(
        collected_toy,
        out,
        cameras=("side", "front+yaw5"),
        modalities=("rgb", "depth"),
        image_size=(32, 24),
        depth_format="float32",
    )
    with open_demos(out) as reader:
        info = reader.demos[0]
        assert info.cameras == ("side", "front+yaw5")
        assert info.arrays["side/rgb"].shape == (24, 32, 3)
        assert "side/segmentation" not in info.arrays
        assert reader.stored(0, "side/depth").dtype == np.float32
        assert reader.attributes["provenance"]["rendered_from"] == collected_toy.name
        assert verify_file(reader) == []
        for verdict in verify_demos(reader, range(4), workers=0):
            assert (verdict.problems, verdict.warnings, verdict.replay.pictures_compared) == ((), (), 4)


def test_mistakes_are_one_sentence_and_leave_nothing(collected_toy, collect_toy, write_recording, tmp_path):
    out = tmp_path / "out.h5"
    with pytest.raises(UnknownName, match="Suite toy has no camera 'frnt'. Did you mean 'front'"):
        render(collected_toy, out, cameras=("frnt",))
    with pytest.raises(UnknownName, match="There is no modality 'rbg'. Did you mean 'rgb'"):
        render(collected_toy, out, modalities=("rbg",))
    with pytest.raises(UnknownName, match="There is no depth format 'int'"):
        render(collected_toy, out, depth_format="int")
    with pytest.raises(BadValue, match="image_size is"):
        render(collected_toy, out, image_size=(2, 2))
    with pytest.raises(DataError, match="demo_0 has no states, so it cannot be rendered again"):
        render(collect_toy(action_free=True, tasks=("push",)), out)
    with pytest.raises(
        DataError, match="is libero-hdf5; only files of flowbench collect hold all that rendering needs"
    ):
        render(write_recording("libero-hdf5", "libero").path, out)
    with pytest.raises(DataError, match="exists. It is the file that is read"):
        render(collected_toy, collected_toy)
    with pytest.raises(DataError, match="is a folder"):
        render(collected_toy, tmp_path)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["libero"]


def test_a_damaged_state_ends_it_without_a_file(toy_copy, tmp_path):
    with h5py.File(toy_copy, "r+") as file:
        states = file["data/demo_2/states"][:, :5]
        del file["data/demo_2/states"]
        file["data/demo_2/states"] = states
    with pytest.raises(DataError, match="The stored states have 5 numbers and this simulator's have 12"):
        render(toy_copy, tmp_path / "out.h5", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == [toy_copy.name]
