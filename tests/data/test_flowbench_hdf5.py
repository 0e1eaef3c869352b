"""FlowBench's own files, read by FlowBench's own reader."""

import multiprocessing
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowbench.data.layout import STATE_EXTRAS
from flowbench.data.readers import open_demos
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.rendering import observe_states, rendering_env
from flowbench.data.replay import scenario_of
from flowbench.data.states import StateRows
from flowbench.env import EnvConfig
from flowbench.errors import DataError, UnknownName
from flowbench.registry import get_suite

CAMERA = "wrist+yaw10"


@pytest.fixture
def reader(collected_toy):
    with FlowBenchHdf5(collected_toy) as opened:
        yield opened


def test_the_list_says_what_was_collected(reader):
    assert [info.name for info in reader.demos] == ["demo_0", "demo_1", "demo_2", "demo_3"]
    assert [info.task for info in reader.demos] == ["push", "push", "lift", "lift"]
    first = reader.demos[0]
    assert (first.suite, first.scenario, first.success) == ("toy", "s10000", True)
    assert first.instruction == "push the block onto the green disc"
    assert first.cameras == ("front", CAMERA)
    assert set(first.segmentation_names.values()) == {"table", "gripper", "goal", "block"}
    assert reader.attributes["spec"]["cameras"] == ["front", CAMERA]


def test_arrays_are_declared_as_they_are_read_images_first(reader):
    for demo, info in enumerate(reader.demos):
        assert list(info.arrays)[:3] == ["front/rgb", "front/depth", "front/segmentation"]
        assert {"actions", "rewards", "dones", "states", "proprio"} <= set(info.arrays)
        for key, spec in info.arrays.items():
            values = reader.read(demo, key, slice(None))
            assert values.shape == (info.steps, *spec.shape), key
            assert values.dtype == spec.dtype, key


def test_what_is_read_is_what_the_environment_shows(reader):
    suite = get_suite("toy")
    info = reader.demos[0]
    config = EnvConfig(info.cameras, ("rgb", "depth", "segmentation", "calibration"), (64, 48))
    env = rendering_env(suite, suite.task("push"), suite.rules(), config)
    states = StateRows.read(reader.group(0))
    for observation in observe_states(env, states, scenario_of(info), [7]):
        for key in observation:
            stored = reader.read(0, key, slice(7, 8))[0]
            # Depth is stored in whole millimetres.
            tolerance = 0.000501 if key.endswith("/depth") else 0
            np.testing.assert_allclose(stored, observation[key], rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.parametrize(
    "steps", [slice(3, 9), slice(None, None, 4), slice(-3, None), slice(None, None, -2), slice(9, 3), slice(2, 10_000)]
)
@pytest.mark.parametrize("key", ["actions", "front/rgb", "front/depth"])
def test_any_slice_is_the_slice_of_the_whole(reader, key, steps):
    whole = reader.read(1, key, slice(None))
    part = reader.read(1, key, steps)
    np.testing.assert_array_equal(part, whole[steps])
    assert part.dtype == whole.dtype


def test_only_the_steps_asked_for_are_decoded(toy_copy):
    with h5py.File(toy_copy) as file:
        chunk = file["data/demo_0/obs/front_rgb"].id.get_chunk_info_by_coord((5, 0, 0, 0))
    with toy_copy.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with FlowBenchHdf5(toy_copy) as reader:
        assert reader.read(0, "front/rgb", slice(0, 5)).shape == (5, 48, 64, 3)
        assert reader.read(0, "front/rgb", slice(6, 9)).any()
        with pytest.raises(DataError, match="demo_0: front/rgb cannot be read at steps 4 to 6: the file is damaged"):
            reader.read(0, "front/rgb", slice(4, 7))


def test_a_pickled_reader_opens_the_file_for_itself(reader):
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read(2, "front/rgb", slice(4, 5)), reader.read(2, "front/rgb", slice(4, 5)))
    assert list(copy.demos[2].arrays) == list(reader.demos[2].arrays)
    copy.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_while_the_parent_holds_the_file_open(reader, method):
    expected = [reader.read(demo, "front/rgb", slice(3, 4)).sum() for demo in range(4)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap(reader.read, [(demo, "front/rgb", slice(3, 4)) for demo in range(4)])
    assert [images.sum() for images in found] == expected
    assert reader.read(0, "front/rgb", slice(3, 4)).sum() == expected[0]


def test_a_closed_reader_may_be_closed_again_and_read_again(reader):
    reader.close()
    reader.close()
    assert len(reader.read(0, "actions", slice(None))) == reader.demos[0].steps


def test_what_the_agent_asked_for_is_there_where_noise_was_added(collect_toy):
    with FlowBenchHdf5(collect_toy(action_noise=0.05, start_noise=3, tasks=("push",), modalities=())) as reader:
        executed, asked = (reader.read(0, key, slice(None)) for key in ("actions", "expert_actions"))
        assert executed.shape == asked.shape
        assert (executed != asked).any()
        assert reader.group(0)["prefix_actions"].shape == (3, 4)
        assert "prefix_actions" not in reader.demos[0].arrays, "it has not one row per step"


def test_an_action_free_file_has_pictures_only(collect_toy):
    with FlowBenchHdf5(collect_toy(action_free=True, tasks=("push",))) as reader:
        assert not {"actions", "states", "proprio"} & set(reader.demos[0].arrays)
        assert reader.demos[0].cameras == ("front", CAMERA)


def test_other_names_of_the_same_images_are_not_cameras(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        file["data/demo_0/obs/agentview_rgb"] = h5py.SoftLink("front_rgb")
    with FlowBenchHdf5(toy_copy) as reader:
        assert reader.demos[0].cameras == ("front", CAMERA)


def test_demonstrations_are_in_the_order_of_their_numbers(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        for number in (10, 11, 100):
            file.copy("data/demo_0", file["data"], f"demo_{number}")
    with FlowBenchHdf5(toy_copy) as reader:
        names = [info.name for info in reader.demos]
    assert names == ["demo_0", "demo_1", "demo_2", "demo_3", "demo_10", "demo_11", "demo_100"]


def test_checksums_hold_until_a_number_changes(toy_copy):
    with FlowBenchHdf5(toy_copy) as reader:
        assert [reader.checksum_problems(demo) for demo in range(4)] == [[]] * 4
    with h5py.File(toy_copy, "r+") as file:
        file["data/demo_2/actions"][4, 1] += 1e-9
        del file["data/demo_3"].attrs["checksum"]
    with FlowBenchHdf5(toy_copy) as reader:
        assert reader.checksum_problems(1) == []
        assert reader.checksum_problems(2) == ["its arrays were changed or damaged after they were written (checksum)"]
        assert reader.checksum_problems(3) == ["it has no checksum"]


def test_a_state_can_be_restored_from_the_group(reader):
    rows = StateRows.read(reader.group(0))
    np.testing.assert_array_equal(rows.physics, reader.read(0, "states", slice(None)))
    assert STATE_EXTRAS not in reader.demos[0].arrays


def damage_newer(path):
    with h5py.File(path, "r+") as file:
        file["data"].attrs.update(flowbench_format=99, flowbench_version="7.1")


def damage_foreign(path):
    with h5py.File(path, "r+") as file:
        del file["data"].attrs["flowbench_format"]


def damage_list(path):
    with h5py.File(path, "r+") as file:
        del file["data/demo_1"].attrs["num_samples"]


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (damage_newer, "has format 99, written by FlowBench 7.1; this FlowBench reads formats up to 1. Update it"),
        (damage_foreign, "is HDF5, but not of `flowbench collect`: /data has no attribute flowbench_format"),
        (damage_list, "is damaged: its list of demonstrations cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:20_000]), "truncated"),
        (lambda path: path.write_bytes(b"no HDF5 at all" * 100), "cannot be read as HDF5"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(toy_copy, damage, sentence):
    damage(toy_copy)
    with pytest.raises(DataError) as error:
        FlowBenchHdf5(toy_copy)
    assert sentence in str(error.value)
    assert str(toy_copy) in str(error.value)


def test_rows_that_are_missing_are_named(toy_copy):
    with h5py.File(toy_copy, "r+") as file:
        rewards = file["data/demo_0/rewards"][:-2]
        steps = int(file["data/demo_0"].attrs["num_samples"])
        del file["data/demo_0/rewards"]
        file["data/demo_0/rewards"] = rewards
    sentence = f"rewards has {steps - 2} rows, and the demonstration {steps} steps"
    with FlowBenchHdf5(toy_copy) as reader, pytest.raises(DataError, match=sentence):
        reader.read(0, "rewards", slice(0, 1))


def test_an_array_that_does_not_exist_gets_the_nearest_name(reader):
    with pytest.raises(UnknownName, match="has no array 'front/rbg'. Did you mean 'front/rgb'"):
        reader.read(0, "front/rbg", slice(None))


def test_open_demos_finds_it_under_any_name(collected_toy, tmp_path):
    path = Path(shutil.copy(collected_toy, tmp_path / "anything.bin"))
    assert isinstance(open_demos(path), FlowBenchHdf5)
