"""Windows of demonstrations, as a learner asks for them."""

import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowbench.data.dataset import DemoDataset, Subset, Window
from flowbench.data.demonstration import ArraySpec, DemoInfo
from flowbench.data.readers import open_demos
from flowbench.errors import BadValue, DataError, UnknownName


class MadeUp:
    """A reader whose arrays hold the number of their step, and that remembers what was read."""

    format = "made-up"
    path = Path("made-up")
    image_view = "geometric"

    def __init__(self, *steps: int, width: int = 4, task: str = "push", cameras=("front",), **changes):
        arrays = {f"{camera}/rgb": ArraySpec((3, 2, 3), "uint8") for camera in cameras}
        arrays |= {"actions": ArraySpec((width,), "float64"), "proprio": ArraySpec((2,), "float32")}
        info = replace(DemoInfo("", 1, arrays, "toy", task, f"{task} it"), **changes)
        self.demos = tuple(replace(info, name=f"demo_{number}", steps=count) for number, count in enumerate(steps))
        self.asked: list[tuple[int, str, tuple[int, ...]]] = []

    def read(self, demo, key, steps):
        wanted = range(self.demos[demo].steps)[steps]
        self.asked.append((demo, key, tuple(wanted)))
        spec = self.demos[demo].arrays[key]
        return np.stack([np.full(spec.shape, step + 100 * demo, spec.dtype) for step in wanted])

    def close(self):
        pass


def actions(sample):
    return sample["actions"][:, 0].tolist()


def test_every_step_starts_a_window_and_the_ends_are_repeated_and_marked():
    dataset = DemoDataset(MadeUp(5, 3), window=Window(horizon=3, history=2))
    assert len(dataset) == 8
    first, last, other = dataset[0], dataset[4], dataset[5]
    assert first["front/rgb"][:, 0, 0, 0].tolist() == [0, 0]
    assert first["front/rgb_is_pad"].tolist() == [True, False]
    assert actions(first) == [0, 1, 2] and not first["actions_is_pad"].any()
    assert actions(last) == [4, 4, 4] and last["actions_is_pad"].tolist() == [False, True, True]
    assert actions(other) == [100, 101, 102]
    assert (other["demo"], other["step"], other["instruction"], other["task"]) == (1, 0, "push it", "push")


def test_windows_that_do_not_fit_can_be_dropped():
    dataset = DemoDataset(MadeUp(5, 2), window=Window(horizon=3, history=2, padding="drop"))
    assert [dataset[index]["step"] for index in range(len(dataset))] == [1, 2]
    assert not any(dataset[index][f"{key}_is_pad"].any() for index in range(2) for key in dataset.keys)


def test_windows_can_be_some_steps_apart():
    dataset = DemoDataset(MadeUp(7, 4), window=Window(stride=3))
    assert [(dataset[index]["demo"], dataset[index]["step"]) for index in range(len(dataset))] == [
        (0, 0),
        (0, 3),
        (0, 6),
        (1, 0),
        (1, 3),
    ]


def test_a_key_can_have_steps_of_its_own():
    window = Window(horizon=2, offsets={"front/rgb": (0, 4, 8, 12)})
    sample = DemoDataset(MadeUp(10), window=window)[1]
    assert sample["front/rgb"][:, 0, 0, 0].tolist() == [1, 5, 9, 9]
    assert sample["front/rgb_is_pad"].tolist() == [False, False, False, True]
    assert actions(sample) == [1, 2]
    assert sample["proprio"].shape == (1, 2)


def test_unordered_and_repeated_steps_come_as_asked():
    window = Window(offsets={"front/rgb": (5, 0, 1, 1, -9)})
    sample = DemoDataset(MadeUp(10), window=window)[2]
    assert sample["front/rgb"][:, 0, 0, 0].tolist() == [7, 2, 3, 3, 0]


def test_only_the_steps_of_the_window_are_read_and_each_once():
    reader = MadeUp(50, 50)
    dataset = DemoDataset(reader, window=Window(horizon=4, history=2, offsets={"proprio": (0, 10, 20)}))
    assert reader.asked == []
    dataset[60]
    assert sorted(reader.asked) == [
        (1, "actions", (10, 11, 12, 13)),
        (1, "front/rgb", (9, 10)),
        (1, "proprio", (10, 20, 30)),
    ]
    reader.asked.clear()
    dataset[99]
    assert (1, "actions", (49,)) in reader.asked


def test_samples_are_counted_as_sequences_are():
    dataset = DemoDataset(MadeUp(3))
    assert dataset[-1]["step"] == 2
    assert len(list(dataset)) == 3
    with pytest.raises(IndexError, match="sample 3 of 3"):
        dataset[3]


def test_float64_becomes_float32_and_keys_are_chosen():
    dataset = DemoDataset(MadeUp(3), keys=("actions",))
    assert set(dataset[0]) == {"actions", "actions_is_pad", "instruction", "task", "camera", "demo", "step"}
    assert dataset[0]["actions"].dtype == np.float32
    assert dataset.specs == {"actions": ArraySpec((4,), "float32")}


def test_samples_of_every_format_are_windows_of_the_truth(recording):
    dataset = DemoDataset(recording.path, window=Window(horizon=3, history=2))
    assert len(dataset) == sum(len(moments) for moments in recording.moments)
    index = len(recording.moments[0]) + 4
    sample = dataset[index]
    moments = recording.moments[1]
    assert (sample["demo"], sample["step"]) == (1, 4)
    assert sample[f"{recording.camera}/rgb"][:, 5, 5, 1].tolist() == [moments[3], moments[4]]
    if recording.actions:
        assert sample["actions"][:, 0].tolist() == list(moments[4:7])
    for key, spec in dataset.specs.items():
        assert sample[key].shape[1:] == spec.shape and sample[key].dtype == spec.dtype


def test_several_sources_and_folders_of_files_are_one_data_set(write_recording):
    first = write_recording("libero-hdf5", "suite", name="turn_on_the_stove_demo.hdf5")
    write_recording("libero-hdf5", "suite", name="open_the_middle_drawer_of_the_cabinet_demo.hdf5")
    dataset = DemoDataset(first.path.parent)
    assert [info.task for info in dataset.infos] == ["open_the_middle_drawer_of_the_cabinet"] * 2 + [
        "turn_on_the_stove"
    ] * 2
    mixed = DemoDataset([first.path, open_demos(first.path, late_observations=False)])
    assert [info.steps for info in mixed.infos] == [6, 8, 7, 9]


def test_a_camera_of_each_source_can_get_one_name(write_recording):
    ours, calvin = write_recording("flowbench-hdf5"), write_recording("calvin-npz")
    dataset = DemoDataset(
        [ours.path, calvin.path], keys=("view/rgb", "actions"), cameras={"front": "view", "static": "view"}
    )
    assert {info.instruction for info in dataset.infos} == {
        "push it",
        "open the drawer",
        "push the red block to the left",
    }
    assert all(sample["view/rgb"][0, 0, 0, 0] == 200 for sample in dataset)


def test_each_camera_can_be_a_sequence_of_its_own():
    reader = MadeUp(4, 4, cameras=("corner", "corner2", "corner3"))
    dataset = DemoDataset(reader, cameras="each")
    assert len(dataset.infos) == 6 and len(dataset) == 24
    assert dataset.keys == ("camera/rgb", "actions", "proprio")
    assert [dataset[index]["camera"] for index in (0, 4, 8, 12)] == ["corner", "corner2", "corner3", "corner"]
    dataset[5]
    assert reader.asked[-3:][0][1] == "corner2/rgb"


def test_two_cameras_of_one_demonstration_cannot_share_a_name():
    with pytest.raises(BadValue, match=r"two arrays the name view/rgb .*: a/rgb and b/rgb\. Use cameras='each'"):
        DemoDataset(MadeUp(3, cameras=("a", "b")), cameras={"a": "view", "b": "view"})


def test_a_camera_that_some_demonstrations_lack_is_named():
    with pytest.raises(
        DataError, match=r"demo_0 of made-up has no front/rgb, which demo_0 of made-up has; it has side/rgb"
    ):
        DemoDataset([MadeUp(3), MadeUp(3, cameras=("side",))])


def test_mixed_resolutions_are_named():
    other = MadeUp(3, arrays={"front/rgb": ArraySpec((6, 4, 3), "uint8")})
    other.path = Path("other.h5")
    with pytest.raises(DataError) as caught:
        DemoDataset([MadeUp(3), other], keys=("front/rgb",))
    assert "front/rgb of demo_0 of other.h5 is uint8 of shape (6, 4, 3)" in str(caught.value)
    assert "that of demo_0 of made-up is uint8 of shape (3, 2, 3)" in str(caught.value)


def test_mirrored_images_are_not_mixed_with_others(write_recording):
    avdc, ours = write_recording("avdc-png").path, MadeUp(3, cameras=("corner",))
    ours.demos = (replace(ours.demos[0], arrays={"corner/rgb": ArraySpec((24, 32, 3), "uint8")}),)
    with pytest.raises(
        DataError, match=r"Images of door-open/corner/001 of .* are mirrored, and those of demo_0 of made-up"
    ):
        DemoDataset([avdc, ours], keys=("corner/rgb",))
    turned = open_demos(avdc, image_view="geometric")
    assert len(DemoDataset([turned, ours], keys=("corner/rgb",)).infos) == 3


def test_actions_of_another_width_are_named():
    with pytest.raises(DataError, match=r"actions of demo_0 .* shape \(7,\), but that of demo_0 .* shape \(4,\)"):
        DemoDataset([MadeUp(3), MadeUp(3, width=7)], keys=("actions",))


def test_a_key_that_nobody_has_gets_the_nearest():
    with pytest.raises(UnknownName, match=r"has no array 'front/rbg'\. Did you mean 'front/rgb'"):
        DemoDataset(MadeUp(3), keys=("front/rbg",))


@pytest.mark.parametrize(
    "subset, message",
    [
        (Subset(tasks=("pusch",)), r"has no task 'pusch'\. Did you mean 'push'"),
        (Subset(demos=("demo_7",)), r"has no demonstration 'demo_7'"),
    ],
)
def test_a_task_or_demonstration_that_is_not_there_gets_the_nearest(subset, message):
    with pytest.raises(UnknownName, match=message):
        DemoDataset(MadeUp(3), subset=subset)


def test_failed_demonstrations_are_left_out_unless_asked():
    reader = MadeUp(3, 3)
    reader.demos = (replace(reader.demos[0], success=False), reader.demos[1])
    assert [info.name for info in DemoDataset(reader).infos] == ["demo_1"]
    assert len(DemoDataset(reader, subset=Subset(successful=False)).infos) == 2
    with pytest.raises(DataError, match=r"None of the 1 demonstrations in made-up takes part \(1 of them failed\)"):
        DemoDataset(MadeUp(3, success=False))


def test_no_sources_and_no_windows_say_so():
    with pytest.raises(DataError, match="the list of sources is empty"):
        DemoDataset([])
    with pytest.raises(DataError, match=r"No window fits .* longest demonstration has 3 steps"):
        DemoDataset(MadeUp(3), window=Window(horizon=9, padding="drop"))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Window(horizon=0), "horizon of a window is 0; it is at least 1"),
        (lambda: Window(padding="mirror"), "padding of a window is 'mirror'"),
        (lambda: Window(offsets={"actions": ()}), "offsets of 'actions' are empty"),
        (lambda: Subset(split="test"), "split is 'test'"),
        (lambda: Subset(fraction=0), "fraction is 0"),
        (lambda: Subset(limit_per_task=0), "limit_per_task is 0"),
        (lambda: Subset(validation_fraction=1), "validation_fraction is 1"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(BadValue, match=message):
        make()


def names(*readers, **subset):
    return [(info.task, info.name) for info in DemoDataset(readers, subset=Subset(**subset)).infos]


def test_training_and_validation_share_nothing_and_leave_out_nothing():
    readers = MadeUp(*[2] * 20), MadeUp(*[2] * 5, task="lift"), MadeUp(2, task="single")
    train, validation = names(*readers, split="train"), names(*readers, split="validation")
    assert not set(train) & set(validation)
    assert sorted(train + validation) == sorted(names(*readers))
    assert [task for task, _ in validation] == ["push", "push", "lift"]


def test_the_split_is_that_of_the_seed_and_does_not_depend_on_other_tasks():
    push, lift = MadeUp(*[2] * 20), MadeUp(*[2] * 20, task="lift")
    assert names(push, split="validation") == names(push, split="validation")
    assert names(push, split="validation") != names(push, split="validation", seed=1)
    alone, together = names(push, split="validation"), names(lift, push, split="validation")
    assert alone == [name for name in together if name[0] == "push"]


def test_smaller_shares_are_part_of_larger_ones_and_of_the_same_split():
    readers = MadeUp(*[2] * 30), MadeUp(*[2] * 7, task="lift")
    half, tenth = names(*readers, split="train", fraction=0.5), names(*readers, split="train", fraction=0.1)
    assert set(tenth) < set(half) < set(names(*readers, split="train"))
    assert len(tenth) == 3 + 1 and len(half) == 14 + 3
    three = names(*readers, limit_per_task=3)
    assert len(three) == 6 and set(three) < set(names(*readers, limit_per_task=5))


def test_statistics_are_those_of_all_steps_that_take_part():
    rng = np.random.default_rng(0)
    stored = [rng.normal(1e4, 1, (n, 4)) for n in (5, 9, 2)]

    class Random(MadeUp):
        def read(self, demo, key, steps):
            return stored[demo][steps] if key == "actions" else super().read(demo, key, steps)

    dataset = DemoDataset(Random(5, 9, 2), window=Window(horizon=8))
    found = dataset.statistics()
    assert set(found) == {"actions", "proprio"}
    everything = np.concatenate(stored).astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(found["actions"].mean, everything.mean(axis=0))
    np.testing.assert_allclose(found["actions"].std, everything.std(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found["actions"].min, everything.min(axis=0))
    np.testing.assert_array_equal(found["actions"].max, everything.max(axis=0))
    assert found["actions"].count == 16


def test_statistics_are_read_once_and_cameras_do_not_count_twice():
    reader = MadeUp(4, 4, cameras=("a", "b"))
    dataset = DemoDataset(reader, cameras="each")
    assert dataset.statistics()["proprio"].count == 8
    reads = len(reader.asked)
    dataset.statistics()
    assert len(reader.asked) == reads


def test_a_data_set_can_be_pickled(recording):
    dataset = DemoDataset(recording.path, window=Window(horizon=2))
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    for key, value in dataset[3].items():
        np.testing.assert_array_equal(copy[3][key], value)


@pytest.mark.parametrize("layout", ["flowbench-hdf5", "libero-hdf5", "calvin-npz", "avdc-png"])
def test_a_process_that_shares_no_memory_opens_the_files_for_itself(write_recording, layout):
    dataset = DemoDataset(write_recording(layout).path)
    expected = dataset[3]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(DemoDataset.__getitem__, (dataset, 3))
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("layout", ["flowbench-hdf5", "libero-hdf5", "calvin-npz", "avdc-png"])
def test_torchs_loader_takes_it_as_it_is(write_recording, layout, workers):
    data = pytest.importorskip("torch.utils.data", reason="torch is not installed")
    recording = write_recording(layout)
    dataset = DemoDataset(recording.path, window=Window(horizon=4, history=2))
    dataset[0]  # files are open in this process when the workers are forked
    loader = data.DataLoader(dataset, batch_size=4, num_workers=workers)
    seen = []
    for _ in range(2):
        batches = list(loader)
        seen.append(np.concatenate([batch[f"{recording.camera}/rgb"][:, -1, 5, 5, 1].numpy() for batch in batches]))
        assert batches[0]["actions"].shape[:2] == (4, 4)
        assert isinstance(batches[0]["instruction"][0], str)
    expected = [moment for moments in recording.moments for moment in moments]
    assert seen[0].tolist() == seen[1].tolist() == expected


def test_one_damaged_step_leaves_the_others_readable(write_recording):
    recording = write_recording("calvin-npz")
    recording.victim.write_bytes(b"PK broken")
    dataset = DemoDataset(recording.path)
    readable = 0
    for index in range(len(dataset)):
        try:
            dataset[index]
            readable += 1
        except DataError as error:
            assert recording.victim.name in str(error)
    assert readable == len(dataset) - 2, "one step in each of two annotated pieces"


def test_a_file_replaced_by_another_while_open_is_noticed(write_recording):
    recording = write_recording("libero-hdf5")
    dataset = DemoDataset(recording.path)
    with h5py.File(recording.path, "a") as file:
        del file["data/demo_0/actions"]
        file["data/demo_0/actions"] = np.zeros((7, 3))
    with pytest.raises(DataError, match=r"actions of demo_0 in .* has shape \(1, 3\) for 1 steps; expected \(1, 7\)"):
        dataset[0]
