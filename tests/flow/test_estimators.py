"""Estimators of flow: one interface, found by name, sizes kept, mistakes named."""

import importlib.util

import numpy as np
import pytest
from scipy.ndimage import zoom

import flowbench
from flowbench.errors import BadValue, MissingExtra, ShapeError, UnknownName
from flowbench.flow.estimators import FlowEstimator, estimator_names, estimator_summaries, make_estimator
from flowbench.flow.exact import exact_flow
from flowbench.flow.snapshot import take_snapshot

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs flowbench[agents]")


def shifted_pair(height, width, right=2, down=1):
    """A smooth random scene, and the same moved by whole pixels."""
    coarse = np.random.default_rng(0).uniform(0, 255, (height // 4, width // 4, 3))
    scene = np.clip(zoom(coarse, (4, 4, 1), order=3), 0, 255).astype(np.uint8)
    return scene, np.roll(scene, (down, right), axis=(0, 1))


@pytest.mark.parametrize("name, options", [("dis", {}), ("dis", {"upsample": 1}), ("farneback", {"upsample": 2})])
@pytest.mark.parametrize("size", [(96, 128), (24, 32)])
def test_classical_flow_finds_a_shift(name, options, size):
    pytest.importorskip("cv2", reason="needs flowbench[data]")
    first, second = shifted_pair(*size)
    estimator = make_estimator(name, **options)
    assert isinstance(estimator, FlowEstimator)
    flow_px = estimator(np.stack([first, second]), np.stack([second, first]))
    assert flow_px.shape == (2, *size, 2) and flow_px.dtype == np.float32
    np.testing.assert_allclose(np.median(flow_px[0, 6:-6, 6:-6], axis=(0, 1)), [2, 1], atol=0.25)
    np.testing.assert_allclose(np.median(flow_px[1, 6:-6, 6:-6], axis=(0, 1)), [-2, -1], atol=0.25)


def test_another_size_of_enlargement_has_another_name():
    pytest.importorskip("cv2", reason="needs flowbench[data]")
    assert [make_estimator("dis", upsample=scale).name for scale in (4, 1, 2.5)] == ["dis", "dis-1x", "dis-2.5x"]


def test_a_refinement_moves_a_network_s_flow_by_a_little_and_only_where_something_moves():
    pytest.importorskip("cv2", reason="needs flowbench[data]")
    from flowbench.flow.opencv import DisRefinement

    first, second = (frame[None] for frame in shifted_pair(96, 128))

    def refined(right, down, within_px=3.0):
        start_px = np.full((1, 96, 128, 2), (right, down), np.float32)
        flow_px = DisRefinement(within_px).refine(first, second, start_px)
        assert flow_px.shape == (1, 96, 128, 2) and flow_px.dtype == np.float32
        return np.median(flow_px[0, 6:-6, 6:-6], axis=(0, 1))

    np.testing.assert_allclose(refined(1.0, 2.0), [2, 1], atol=0.1)
    np.testing.assert_allclose(refined(1.0, 2.0, within_px=1.0), [1, 2])
    np.testing.assert_allclose(refined(0.1, 0.1), [0.1, 0.1], err_msg="what stands still stays")


def test_exact_flow_takes_snapshots():
    env = flowbench.make("toy", "push", modalities=())
    env.reset(seed=0)
    first = take_snapshot(env)
    env.step(np.array([0.5, 1.0, 0.0, 0.0]))
    second = take_snapshot(env)
    estimator = make_estimator("exact")
    assert estimator.privileged
    found = estimator([first, second], [second, first])
    np.testing.assert_array_equal(found[0], exact_flow(first, second).flow_px)
    with pytest.raises(BadValue, match="Flow exact is read off simulator states: give it snapshots"):
        estimator(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8))


def test_every_estimator_says_what_it_is_or_what_it_needs():
    summaries = estimator_summaries()
    assert list(summaries) == estimator_names()
    assert {"exact", "dis", "farneback", "raft-small", "raft-large", "gmflow", "neuflow2", "flowformer++"} <= set(
        summaries
    )
    assert all(summaries.values())


def test_mistakes_are_named():
    pytest.importorskip("cv2", reason="needs flowbench[data]")
    with pytest.raises(UnknownName, match=r"no flow estimator 'dsi'. Did you mean 'dis'\?.*flowbench list flow"):
        make_estimator("dsi")
    with pytest.raises(UnknownName, match="Flow estimator dis has no option 'scale'. Did you mean 'upsample'"):
        make_estimator("dis", scale=2)
    with pytest.raises(BadValue, match="Flow estimator dis has no weights, but checkpoint x.pth was given"):
        make_estimator("dis", checkpoint="x.pth")
    with pytest.raises(BadValue, match="upsample is 40; expected 1"):
        make_estimator("dis", upsample=40)
    estimator = make_estimator("dis")
    frame = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ShapeError, match=r"first is uint8 \(32, 32, 3\); expected uint8 \(B, H, W, 3\)"):
        estimator(frame[0], frame[0])
    with pytest.raises(ShapeError, match="they must be the same"):
        estimator(frame, np.zeros((2, 32, 32, 3), np.uint8))


@needs_torch
def test_an_estimator_without_its_package_says_what_to_do():
    if importlib.util.find_spec("ptlflow"):
        pytest.skip("PTLFlow is installed")
    with pytest.raises(MissingExtra, match="gmflow needs PTLFlow, which is not installed"):
        make_estimator("gmflow")
