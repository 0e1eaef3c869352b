"""Fixtures shared by tests of flow."""

import pytest

from flowbench.flow.generate import PairSetSpec, generate_pairs
from flowbench.flow.sampling import SamplingSpec

#: Two scenes of two toy tasks, in little windows.
SPEC = PairSetSpec(
    suites=("toy",),
    tasks={"toy": ("push", "lift")},
    views={"toy": ("front", "side", "wrist")},
    scenes_per_task=2,
    sampling=SamplingSpec(views_per_scene=1, window=48, near_pairs=2, windows_per_pair=1, most_steps=60),
)


@pytest.fixture(scope="session")
def toy_pairs(tmp_path_factory):
    """Give the folder of a small set of pairs."""
    pytest.importorskip("cv2", reason="needs flowbench[data]")
    folder = tmp_path_factory.mktemp("pairs")
    assert generate_pairs(SPEC, folder, workers=0, progress=False) == []
    return folder
