"""Pairs for flow networks out of walks: neighbours only, of rooms that no list names, and with flow that explains the picture."""

import numpy as np
import pytest
from click.testing import CliRunner

from flowbench.cli.flow_pairs import flow_pairs
from flowbench.flow.pairs import VISIBLE, PairSet


@pytest.fixture(scope="module")
def pairs(opengl, tmp_path_factory):
    pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("pairs")
    ran = CliRunner().invoke(
        flow_pairs,
        [
            *("--suite", "ithor12-standin", "--tasks", "FloorPlan7-Microwave", "--scenes", "1", "--window", "64"),
            *("--workers", "0", "--quiet", "--out", str(folder)),
        ],
    )
    assert ran.exit_code == 0, ran.output
    opened = PairSet(folder)
    yield opened
    opened.close()


def test_pairs_are_neighbours_in_walks(pairs):
    assert len(pairs) > 4 and set(pairs.column("task")) == {"FloorPlan7-Microwave"}
    assert set(np.abs(pairs.column("steps"))) == {1} and pairs.column("plan").all()
    assert pairs.read(range(len(pairs))).first.shape[1:] == (64, 64, 3)
    assert len({(info.camera, info.steps) for info in pairs.infos}) > 1


def test_turns_carry_the_picture_farther_than_a_third_of_its_width(pairs):
    read = pairs.read(range(len(pairs)))
    lengths_px = np.linalg.norm(read.flow_px.astype(np.float32), axis=-1)
    medians = [np.median(length[seen]) for length, seen in zip(lengths_px, read.has(VISIBLE)) if seen.any()]
    assert max(medians) > 20 and min(medians) < 10


def test_a_task_that_does_not_exist_is_named(tmp_path):
    ran = CliRunner().invoke(
        flow_pairs, ["--suite", "ithor12-standin", "--tasks", "Toster", "--out", str(tmp_path / "x")]
    )
    assert "has no task 'Toster'. Did you mean 'Toaster'?" in str(ran.exception)
