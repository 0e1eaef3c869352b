"""Batches hold what `DemoDataset` says they hold, and frames are decoded once."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.training.images import ImageFit  # noqa: E402
from flowbench.agents.training.sources import Sources  # noqa: E402
from flowbench.agents.training.windows import WindowedDemos  # noqa: E402
from flowbench.camera import CameraParams  # noqa: E402
from flowbench.data.dataset import Window  # noqa: E402
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5  # noqa: E402
from flowbench.errors import BadValue, DataError, ShapeError  # noqa: E402
from flowbench.registry import get_suite  # noqa: E402

WINDOW = Window(horizon=4, offsets={"camera/rgb": (-2, 0), "proprio": (0,)})
KEYS = ("camera/rgb", "actions", "proprio")


@pytest.fixture
def sources(toy_demos, tmp_path):
    return Sources((toy_demos,), get_suite("toy"), cache=tmp_path / "frames")


def opened(sources, cache=True, fit=ImageFit((32, 24)), **options):  # noqa: B008 - frozen
    dataset = sources.open(KEYS, window=options.pop("window", WINDOW), cameras="each", **options)
    labels = {"camera": np.arange(len(dataset.infos)) * 10}
    return dataset, WindowedDemos(dataset, {"camera/rgb": fit}, labels, sources.frame_cache if cache else None)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("padding", ["repeat", "drop"])
def test_a_batch_is_what_the_data_set_gives_sample_by_sample(sources, cache, padding):
    window = Window(horizon=4, stride=2, padding=padding, offsets=WINDOW.offsets)
    dataset, data = opened(sources, cache, window=window)
    assert len(data) == len(dataset) > 20
    indices = np.array([0, len(dataset) - 1, 7, 7])
    batch = data.batch(indices)
    for row, index in enumerate(indices):
        sample = dataset[int(index)]
        for key in (*KEYS, *(f"{key}_is_pad" for key in KEYS)):
            np.testing.assert_array_equal(batch[key][row].numpy(), sample[key], err_msg=key)
        assert batch["camera"][row] == sample["demo"] * 10
    assert batch["camera/rgb"].dtype == torch.uint8
    assert batch["actions"].dtype == torch.float32


def test_frames_are_decoded_once_for_every_split_and_limit(sources, monkeypatch):
    read, original = [], FlowBenchHdf5.read

    def counting(self, demo, key, steps):
        read.append(key)
        return original(self, demo, key, steps)

    monkeypatch.setattr(FlowBenchHdf5, "read", counting)
    _, data = opened(sources)
    assert sum(key.endswith("rgb") for key in read) == 8  # four demonstrations, two cameras
    assert data.cached_bytes == sum(data._steps) * 24 * 32 * 3
    read.clear()
    for split in ("train", "validation"):
        _, data = opened(sources, split=split)
        data.batch(np.array([0, 1, 2]))
    assert not any(key.endswith("rgb") for key in read)
    opened(sources, fit=ImageFit((16, 12)), split="train")
    assert sum(key.endswith("rgb") for key in read) == 4, "another size is decoded anew"


def test_cached_frames_belong_to_the_content_of_a_file(sources, tmp_path, toy_demos):
    import shutil

    opened(sources)
    folders = set((tmp_path / "frames").iterdir())
    copy = shutil.copy(toy_demos, tmp_path / "renamed.h5")
    opened(Sources((copy,), get_suite("toy"), cache=tmp_path / "frames"))
    assert set((tmp_path / "frames").iterdir()) == folders
    import h5py

    with h5py.File(copy, "a") as file:
        file.attrs["changed"] = 1
    opened(Sources((copy,), get_suite("toy"), cache=tmp_path / "frames"))
    assert set((tmp_path / "frames").iterdir()) > folders


def test_a_full_disk_is_named(sources, monkeypatch, tmp_path):
    def full(file, frames):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError) as error:
        opened(sources)
    assert str(error.value) == (
        f"Decoded frames cannot be kept in {tmp_path / 'frames'}: No space left on device. Name a larger disk with --cache "
        "FOLDER, or decode at every step with --cache none."
    )
    assert not [path for path in (tmp_path / "frames").rglob("*") if path.is_file()]


# --- images


def test_a_crop_is_cut_out_of_the_middle_and_then_resized():
    frame = np.zeros((24, 32, 3), np.uint8)
    frame[8:16, 12:20] = 200
    assert (ImageFit((8, 8), (8, 8))(frame) == 200).all()
    assert (ImageFit((4, 4), (8, 8))(frame) == 200).all()
    np.testing.assert_array_equal(ImageFit((32, 24))(frame), frame)


def test_one_frame_is_fitted_as_many_are():
    frames = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), np.uint8)
    fit = ImageFit((10, 9), (20, 18))
    np.testing.assert_array_equal(fit(frames)[3], fit(frames[3]))
    assert fit(frames).dtype == np.uint8


def test_the_camera_of_a_fitted_image_is_fitted_too():
    camera = CameraParams.from_fovy(45.0, np.eye(4), 32, 24)
    fitted = ImageFit((10, 10), (20, 20)).camera(camera)
    assert (fitted.width, fitted.height) == (10, 10)
    np.testing.assert_allclose(fitted.intrinsics[:2, 2], [4.5, 4.5])
    np.testing.assert_allclose(fitted.intrinsics[0, 0], camera.intrinsics[0, 0] / 2)


def test_a_crop_larger_than_the_frame_is_refused():
    with pytest.raises(ShapeError, match="A crop of 40x20 does not fit into a frame of 32x24. Choose a smaller one"):
        ImageFit((8, 8), (40, 20))(np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(ShapeError, match=r"size of an image is \(8,\); expected \(width, height\)"):
        ImageFit((8,))


# --- sources


def test_only_a_fraction_of_the_demonstrations_gives_actions_and_all_of_them_images(toy_demos):
    sources = Sources((toy_demos,), get_suite("toy"), label_fraction=0.5, validation_fraction=0.0)
    videos = sources.open(("front/rgb",), labelled=False)
    labelled = sources.open(("front/rgb", "actions"))
    assert len(videos.infos) == 4
    assert len(labelled.infos) == 2
    assert {info.name for info in labelled.infos} < {info.name for info in videos.infos}
    assert sources.count() == 4


def test_tasks_and_limits_choose_demonstrations(toy_demos):
    sources = Sources((toy_demos,), get_suite("toy"), tasks=("lift",), limit_per_task=1, validation_fraction=0.0)
    assert [info.task for info in sources.open(("actions",)).infos] == ["lift"]


def test_data_without_actions_is_named(toy_demos, tmp_path):
    import shutil

    import h5py

    copy = Path(shutil.copy(toy_demos, tmp_path / "videos.h5"))
    with h5py.File(copy, "a") as file:
        for demo in file["data"].values():
            del demo["actions"]
    sources = Sources((copy,), get_suite("toy"))
    assert len(sources.open(("front/rgb",), labelled=False, split="train").infos) == 2
    with pytest.raises(DataError) as error:
        sources.open(("actions",))
    assert str(error.value) == f"There are no actions to learn from in {copy}. Collect without --action-free."
    both = Sources((copy, toy_demos), get_suite("toy"), validation_fraction=0.0)
    assert len(both.open(("front/rgb",), labelled=False).infos) == 8
    assert len(both.open(("actions",)).infos) == 4


def test_data_of_another_simulator_is_refused(toy_demos):
    with pytest.raises(BadValue) as error:
        Sources((toy_demos,), get_suite("metaworld11")).open(("actions",))
    assert str(error.value) == (
        f"{toy_demos} was recorded in suite toy, and the training is for metaworld11: another simulator with other actions. "
        "Name the suite of the data, e.g. --suite toy."
    )
    with pytest.raises(DataError, match=r"There is no data to learn from. Give it with --data FILE\[,FILE...\]"):
        Sources((), get_suite("toy")).open(("actions",))
