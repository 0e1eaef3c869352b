"""RAFT's training: what it weighs, how it disturbs images, and that what it leaves behind estimates flow."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs flowbench[agents]")
pytest.importorskip("torchvision", reason="needs flowbench[agents]")
pytest.importorskip("cv2", reason="needs flowbench[data]")
import torch

from flowbench.agents.flow.augment import compressed, degrade, mirrored, photometric
from flowbench.agents.flow.raft import RaftSmall
from flowbench.agents.flow.recipe import FlowConfig, FlowRecipe, _cut, _matching, _weights
from flowbench.agents.training.loop import TrainOptions, train
from flowbench.agents.training.presets import load_settings
from flowbench.agents.training.recipe import Moment
from flowbench.agents.training.sources import Sources
from flowbench.errors import BadValue, DataError
from flowbench.flow.generate import PairSetSpec, generate_pairs
from flowbench.flow.pairs import MOVING, ROBOT, VISIBLE
from flowbench.flow.sampling import SamplingSpec


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 32, generator=generator()) * 1.6 - 0.8


def test_another_light_is_the_same_for_both_images_but_for_a_little(images):
    first, second = photometric(images, images, generator())
    change = (first - images).abs().mean(dim=(1, 2, 3))
    difference = (first - second).abs().mean(dim=(1, 2, 3))
    assert change.max() > 0.1 and (difference < 0.5 * change.max()).all() and (difference > 0).all()


def test_degraded_images_are_still_images(images):
    for seed in range(5):
        degraded = degrade(images, 1.0, generator(seed))
        assert degraded.shape == images.shape and degraded.abs().max() <= 1
    assert not torch.equal(degrade(images, 1.0, generator(0)), degrade(images, 1.0, generator(1)))
    assert torch.equal(degrade(images, 1.0, generator(0)), degrade(images, 1.0, generator(0)))
    assert torch.equal(degrade(images, 0.0, generator(0)), images)


def test_compression_quantises_frequencies_and_keeps_flat_blocks(images):
    nothing = compressed(images, torch.full((3, 1, 1, 1), 1e-6))
    torch.testing.assert_close(nothing, images, atol=1e-4, rtol=0)
    coarse = compressed(images, torch.full((3, 1, 1, 1), 0.3))
    assert 0.02 < (coarse - images).abs().mean() < 0.3
    flat = torch.full((1, 3, 16, 16), 0.25)
    # The mean of a block of 8 x 8 is 8 times larger as a frequency, so it is off by at most step / 16.
    torch.testing.assert_close(compressed(flat, torch.full((1, 1, 1, 1), 0.3)), flat, atol=0.3 / 16, rtol=0)


def test_mirrored_pairs_have_mirrored_flow():
    """A pixel that lands on another still does, whatever was turned."""
    height = width = 8
    first = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    flow = torch.zeros(1, 2, height, width)
    flow[:, 0], flow[:, 1] = 2.0, 1.0
    second = torch.roll(first, (1, 2), dims=(-2, -1))
    seen = set()
    for seed in range(60):
        arrays, turned = mirrored({"first": first, "second": second}, flow, generator(seed))
        seen.add(tuple(turned[0, :, 0, 0].tolist()))
        right, down = (int(value) for value in turned[0, :, 4, 4])
        assert arrays["first"][0, 0, 4, 4] == arrays["second"][0, 0, 4 + down, 4 + right]
    assert len(seen) >= 3


def test_small_moving_things_weigh_more_than_the_robot_and_the_table():
    config = FlowConfig(moving_weight=4.0, thing_area=600, relative_px=1e9)
    masks = torch.full((1, 64, 64), VISIBLE, dtype=torch.uint8)
    flow = torch.zeros(1, 2, 64, 64)
    masks[:, :20, :20] |= MOVING | ROBOT
    masks[:, 40:50, 40:50] |= MOVING
    flow[:, 0, :20, :20] = flow[:, 0, 40:50, 40:50] = 3.0
    masks[:, 60:] = 0
    weight = _weights(config, masks, flow)[0]
    assert weight[30, 30] == 1 and weight[5, 5] == 4 and weight[45, 45] == pytest.approx(24.0)
    assert weight[62, 5] == pytest.approx(1 / 3), "hidden in the second image"


def test_windows_are_cut_around_what_moves():
    masks = torch.full((64, 1, 64, 64), VISIBLE, dtype=torch.uint8)
    flow = torch.zeros(64, 2, 64, 64)
    masks[..., 50:56, 8:14] |= MOVING
    flow[..., 50:56, 8:14] = 4.0
    arrays, cut = _cut({"masks": masks}, flow, 24, 0.0, generator())
    assert cut.shape == (64, 2, 24, 24) and arrays["masks"].shape == (64, 1, 24, 24)
    shows_it = (cut.norm(dim=1) > 0.5).flatten(1).any(dim=1)
    assert shows_it.float().mean() > 0.6
    assert torch.equal(cut.norm(dim=1) > 0.5, (arrays["masks"][:, 0] & MOVING) > 0)


def test_far_motion_does_not_drown_near_motion():
    """A departure from RAFT: a pixel's weight falls with how far it moves."""
    config = FlowConfig(moving_weight=1.0, relative_px=8.0)
    masks = torch.full((1, 1, 3), VISIBLE | ROBOT, dtype=torch.uint8)
    flow = torch.tensor([0.0, 8.0, 24.0]).expand(1, 1, 1, 3) * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert _weights(config, masks, flow).flatten().tolist() == pytest.approx([1, 1 / 2, 1 / 4])


def test_a_pair_shrunk_as_a_whole_keeps_what_moves_far():
    masks = torch.full((2, 1, 64, 64), VISIBLE, dtype=torch.uint8)
    masks[..., 8:16, 8:16] |= MOVING
    flow = torch.zeros(2, 2, 64, 64)
    flow[:, 0, 8:16, 8:16] = 40.0
    first = torch.zeros(2, 3, 64, 64)
    first[..., 8:16, 8:16] = 1.0
    second = first.roll(40, -1)
    arrays, shrunk = _cut({"first": first, "second": second, "masks": masks}, flow, 32, 1.0, generator())
    assert torch.equal((arrays["masks"][:, 0] & MOVING) > 0, arrays["first"][:, 0] > 0.5)
    down, right = 4, 4
    there = right + int(shrunk[0, 0, down, right])
    assert there == 24 and arrays["second"][0, 0, down, there] == 1.0


def batch_of(flow_px=6.0):
    rng = np.random.default_rng(0)
    frame = torch.from_numpy(rng.integers(0, 255, (2, 64, 64, 3)).astype(np.uint8))
    flow = torch.zeros(2, 64, 64, 2, dtype=torch.float16)
    flow[:, 20:30, 20:30, 0] = flow_px
    masks = torch.full((2, 64, 64), VISIBLE, dtype=torch.uint8)
    masks[:, 20:30, 20:30] |= MOVING
    return {"first": frame, "second": frame, "flow_px": flow, "masks": masks}


def test_large_motion_comes_in_gradually():
    """A departure from RAFT: at first, points that move far do not count."""
    config = FlowConfig(
        crop=0, upsample=1.0, training_updates=1, first_limit_px=5.0, last_limit_px=50.0, curriculum_steps=100
    )
    torch.manual_seed(0)
    model = FlowRecipe().build(config, {})
    model.train()

    def loss(step, flow_px):
        moment = Moment("train", step, True, generator())
        return FlowRecipe().loss(model, batch_of(flow_px), moment)[0].item()

    assert loss(1, 30.0) < loss(100, 30.0), "30 px do not count at step 1"


def test_features_are_asked_to_find_each_cell_where_its_flow_ends():
    """A departure from RAFT: the features learn to match by themselves, too."""
    cells = torch.eye(36).reshape(1, 36, 6, 6) * 40
    moved = torch.roll(cells, (1, 2), dims=(2, 3))
    weight = torch.ones(1, 24, 24)

    def loss(right, down, weight=weight):
        flow_px = torch.tensor([right, down], dtype=torch.float32)[None, :, None, None].expand(1, 2, 24, 24)
        return _matching(torch.cat([cells, moved]), flow_px, weight).item()

    # A cell is 4 px wide; what leaves the image does not count.
    assert loss(8, 4) < 1e-6
    assert loss(4, 4) > 10 < loss(8, 0)
    assert loss(8, 2) == pytest.approx(loss(8, 6), rel=1e-4) and 0.4 < loss(8, 2) / loss(8, 0) < 0.6
    assert loss(0, 0, weight * 0) == 0


def test_matching_is_asked_for_in_training_alone():
    batch, losses = batch_of(), {}
    for matching in (0.0, 1.0):
        torch.manual_seed(0)
        config = FlowConfig(crop=0, upsample=1.0, training_updates=1, updates=1, degraded=0.0, matching=matching)
        model = FlowRecipe().build(config, {})
        for training in (True, False):
            model.train(training)
            moment = Moment("train", 5000, training, generator())
            losses[matching, training] = FlowRecipe().loss(model, batch, moment)[0].item()
    assert losses[1.0, True] > losses[0.0, True] + 1 and losses[1.0, False] == losses[0.0, False]


def test_validation_says_the_error_of_what_moves():
    config = FlowConfig(crop=0, upsample=1.0, updates=1)
    torch.manual_seed(0)
    model = FlowRecipe().build(config, {}).eval()
    with torch.no_grad():
        loss, logged = FlowRecipe().loss(model, batch_of(), Moment("train", 1, False, generator()))
    assert set(logged) == {"epe", "epe_moving", "epe_things"} and loss > 0
    assert logged["epe_moving"] == logged["epe_things"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    sampling = SamplingSpec(views_per_scene=1, window=64, near_pairs=2, windows_per_pair=1, most_steps=60)
    spec = PairSetSpec(("toy",), {"toy": ("push",)}, {"toy": ("front",)}, 4, sampling=sampling)
    assert generate_pairs(spec, folder / "pairs", workers=0, progress=False) == []
    recipe = FlowRecipe()
    settings = load_settings(recipe, "tiny", None, ["updates=2"], steps=3)
    sources = Sources(paths=(folder / "pairs",))
    return train(recipe, settings, sources, TrainOptions(folder / "raft", progress=False))


def test_training_leaves_a_checkpoint_that_estimates(trained):
    assert trained.recipe == "flow" and trained.facts["suites"] == ["toy"] and trained.facts["cameras"] == ["front"]
    assert {"val_epe", "val_epe_moving", "val_epe_things"} <= set(trained.training["metrics"])
    estimator = RaftSmall(checkpoint=str(trained.folder))
    assert estimator.name == "raft-small(raft)" and estimator.config.updates == 2 and estimator.config.upsample == 1.0
    frames = np.random.default_rng(0).integers(0, 255, (2, 48, 64, 3)).astype(np.uint8)
    assert estimator(frames, frames).shape == (2, 48, 64, 2)
    assert RaftSmall(checkpoint=str(trained.folder), upsample=2).name == "raft-small(raft)-2x"
    refined = RaftSmall(checkpoint=str(trained.folder), dis_px=5)
    assert refined.name == "raft-small(raft)-dis5"
    assert not np.array_equal(refined(frames, frames[::-1]), estimator(frames, frames[::-1]))
    with pytest.raises(BadValue, match="dis_px is -1; expected 0"):
        RaftSmall(checkpoint=str(trained.folder), dis_px=-1)


def test_training_needs_one_folder_of_pairs(tmp_path):
    with pytest.raises(DataError, match="Flow is trained on one folder of pairs: make it with flowbench flow-pairs"):
        FlowRecipe().facts(FlowConfig(), Sources(paths=()))
