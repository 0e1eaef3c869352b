"""What is particular to LeRobotDataset v3."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from flowbench.data.readers import open_demos
from flowbench.errors import DataError, MissingExtra

needs_lerobot = pytest.mark.skipif(not importlib.util.find_spec("lerobot"), reason="lerobot is not installed")


def write_info(folder, version):
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps({"codebase_version": version}))
    return folder


def test_without_the_package_a_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lerobot", None)
    monkeypatch.setitem(sys.modules, "lerobot.datasets.lerobot_dataset", None)
    with pytest.raises(
        MissingExtra, match=r"is a LeRobotDataset; reading it needs .* pip install 'flowbench\[lerobot\]'"
    ):
        open_demos(write_info(tmp_path / "recorded", "v3.0"))


def test_an_older_version_is_refused_with_the_way_to_convert_it(tmp_path):
    with pytest.raises(DataError, match=r"is a LeRobotDataset v2\.1; v3 is read\. Convert it"):
        open_demos(write_info(tmp_path / "recorded", "v2.1"))


def test_a_damaged_info_file_is_named(tmp_path):
    folder = write_info(tmp_path / "recorded", "v3.0")
    (folder / "meta" / "info.json").write_text('{"codebase')
    with pytest.raises(DataError, match="info.json cannot be read as LeRobot's info.json"):
        open_demos(folder)


@needs_lerobot
def test_missing_data_is_not_looked_for_elsewhere(tmp_path):
    with pytest.raises(DataError, match=r"is not complete: there is no parquet file in data/"):
        open_demos(write_info(tmp_path / "recorded", "v3.0"))


@needs_lerobot
def test_the_sentence_of_an_episode_is_its_instruction(write_recording):
    first, second = open_demos(write_recording("lerobot-v3").path).demos
    assert (first.instruction, second.instruction, first.task) == ("sentence 0", "sentence 1", None)
    assert first.arrays["rewards"].shape == () and first.arrays["proprio"].shape == (5,)


@needs_lerobot
def test_flips_and_mirrors_are_declared_by_the_caller(write_recording):
    path = write_recording("lerobot-v3").path
    reader = open_demos(path, flipped=True, mirrored=True)
    assert reader.image_view == "policy"
    assert reader.read(0, "front/rgb", slice(0, 1))[0, -1, 0, 0] == 200


@needs_lerobot
def test_steps_of_a_video_are_found_in_a_file_shared_by_episodes(tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    feature = {"dtype": "video", "shape": (64, 96, 3), "names": ["height", "width", "channels"]}
    features = {"observation.images.front": feature, "action": {"dtype": "float32", "shape": (2,), "names": None}}
    dataset = LeRobotDataset.create("local/film", fps=10, features=features, root=tmp_path / "film")
    for episode in range(2):
        for step in range(6):
            image = np.full((64, 96, 3), 100 * episode + 10 * step, np.uint8)
            dataset.add_frame(
                {"observation.images.front": image, "action": np.full(2, step, np.float32), "task": "look"}
            )
        dataset.save_episode()
    dataset.finalize()
    images = open_demos(tmp_path / "film").read(1, "front/rgb", slice(1, 6, 2))
    assert images.shape == (3, 64, 96, 3)
    assert images.mean(axis=(1, 2, 3)) == pytest.approx([110, 130, 150], abs=3)
