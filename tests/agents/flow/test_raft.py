"""RAFT as an estimator: weights from wherever they are, checked; sizes and batches that do not matter."""

import hashlib
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs flowbench[agents]")
pytest.importorskip("torchvision", reason="needs flowbench[agents]")
import torch
from safetensors.torch import save_file

from flowbench.agents.flow import weights
from flowbench.agents.flow.network import RaftConfig, build_raft, enlarged, estimate, shrunk_flow, to_input
from flowbench.agents.flow.raft import RaftSmall
from flowbench.errors import BadValue
from flowbench.flow.estimators import make_estimator


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_raft(RaftConfig(convex=True)).eval()


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 255, (3, 60, 100, 3)).astype(np.uint8)


def test_images_of_any_size_come_back_at_their_size(saved, frames):
    estimator = make_estimator("raft-small", checkpoint=str(saved), updates=2)
    flow_px = estimator(frames, frames[::-1])
    assert flow_px.shape == (3, 60, 100, 2) and flow_px.dtype == np.float32 and np.isfinite(flow_px).all()


def test_a_batch_is_the_same_as_one_after_another(saved, frames):
    estimator = make_estimator("raft-small", checkpoint=str(saved), updates=2)
    together = estimator(frames, frames[::-1].copy())
    alone = np.concatenate([estimator(frames[i : i + 1], frames[2 - i : 3 - i]) for i in range(3)])
    np.testing.assert_allclose(together, alone, atol=2e-3)


def test_pictures_of_a_plan_are_encoded_once_and_the_flow_is_that_of_the_network_itself(network, monkeypatch):
    plan = np.random.default_rng(1).integers(0, 255, (4, 128, 128, 3)).astype(np.uint8)
    first, second = np.concatenate([plan[:-1], plan[1:]]), np.concatenate([plan[1:], plan[:-1]])
    images = [to_input(torch.from_numpy(frames)) for frames in (first, second)]
    with torch.no_grad():
        expected = network(*images, num_flow_updates=3)[-1].permute(0, 2, 3, 1).numpy()
    encoded = []
    encode = network.feature_encoder.forward
    monkeypatch.setattr(network.feature_encoder, "forward", lambda seen: encoded.append(len(seen)) or encode(seen))
    found = estimate(network, first, second, upsample=1, updates=3, device=torch.device("cpu"), batch_size=4)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert sum(encoded) == 4, "each picture once, though it belongs to up to four pairs"
    nothing = estimate(network, first[:0], second[:0], upsample=1, updates=3, device=torch.device("cpu"), batch_size=4)
    assert nothing.shape == (0, 128, 128, 2)


def test_flow_of_a_part_is_that_of_the_whole_and_is_refined_from_a_part(frames, monkeypatch):
    estimator = make_estimator("raft-small")
    still = np.kron(frames[0, :12, :12], np.ones((8, 8, 1))).astype(np.uint8)
    moving = np.stack([still, np.roll(still, 2, axis=1), np.roll(still, 4, axis=1)])
    box = (40, 30, 12, 10)
    refined = []
    refine = estimator._network.update_block.forward
    monkeypatch.setattr(
        estimator._network.update_block,
        "forward",
        lambda hidden, *rest: refined.append(hidden.shape) or refine(hidden, *rest),
    )
    whole = estimator(moving[[1, 1]], moving[[2, 0]])
    everything = refined[-1][-2] * refined[-1][-1]
    part = estimator.open(moving)([1, 1], [2, 0], box)
    inside = np.zeros(still.shape[:2], bool)
    inside[30:40, 40:52] = True
    assert np.abs(whole[0, inside] - [2, 0]).mean() < 0.5, "what moves is found"
    np.testing.assert_allclose(part[:, inside], whole[:, inside], atol=0.35)
    assert np.abs(part[:, inside] - whole[:, inside]).mean() < 0.1
    assert not part[:, ~inside].any(), "nothing is said about the rest"
    assert refined[-1][-2] * refined[-1][-1] < everything / 2


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (99, 59, 1, 1), (0, 0, 100, 60)])
def test_any_part_of_an_image_may_be_asked_for(saved, frames, box):
    left, top, width, height = box
    flow_px = make_estimator("raft-small", checkpoint=str(saved)).open(frames)([0], [1], box)
    assert flow_px.shape == (1, 60, 100, 2)
    assert flow_px[0, top : top + height, left : left + width].any()


def test_flow_is_measured_in_pixels_of_the_given_image():
    flow_px = torch.zeros(1, 2, 128, 256) + torch.tensor([6.0, 4.0])[:, None, None]
    np.testing.assert_allclose(shrunk_flow(flow_px, 32, 128)[0, :, 5, 5], [3.0, 1.0], atol=1e-6)
    assert enlarged(torch.zeros(1, 3, 96, 128), 2.0).shape == (1, 3, 192, 256)
    assert enlarged(torch.zeros(1, 3, 30, 40), 1.0).shape == (1, 3, 128, 128), "RAFT takes no less"


def test_the_convex_network_starts_from_published_weights_but_for_its_own_part(network):
    plain = set(build_raft(RaftConfig()).state_dict())
    own = set(network.state_dict()) - plain
    assert plain < set(network.state_dict())
    assert all(name.startswith("mask_predictor.") for name in own)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert 1_100_000 < count < 1_250_000, "about 4.7 MB"


def test_published_weights_without_a_network_say_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*arguments, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(
        BadValue, match=r"weights C_T_V2 of raft-small cannot be downloaded \(Name or service not known\)"
    ):
        RaftSmall(checkpoint="C_T_V2")


def test_published_weights_are_checked_by_their_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = build_raft(RaftConfig()).state_dict()
    torch.save(state, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setitem(weights.PUBLISHED["raft-small"], "C_T_V2", (f"raft_small-{digest}.pth", digest))
    cached = tmp_path / "hub" / "checkpoints" / f"raft_small-{digest}.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    assert RaftSmall(checkpoint="C_T_V2", updates=1).name == "raft-small(C_T_V2)"
    cached.write_bytes(content[:-3] + b"abc")
    with pytest.raises(BadValue, match="is damaged, or another file: its SHA-256 starts with"):
        RaftSmall(checkpoint="C_T_V2")


def test_wrong_weights_are_refused(tmp_path, saved):
    with pytest.raises(BadValue, match="There are no weights at .*nowhere.pth: no such file"):
        make_estimator("raft-small", checkpoint=str(tmp_path / "nowhere.pth"))
    torch.save({"x": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(BadValue, match="other.pth are not those of raft-small"):
        make_estimator("raft-small", checkpoint=str(tmp_path / "other.pth"))
    with pytest.raises(BadValue, match="are not those of raft-large"):
        make_estimator("raft-large", checkpoint=str(saved))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(BadValue, match="text.pth holds no weights that can be read"):
        make_estimator("raft-small", checkpoint=str(tmp_path / "text.pth"))
    with pytest.raises(BadValue, match="Published weights of raft-small are: C_T_V1, C_T_V2"):
        make_estimator("raft-small", checkpoint="C_T_V9")


@pytest.mark.skipif(find_spec("ptlflow") is None, reason="needs PTLFlow (docs/flow.md)")
@pytest.mark.parametrize("model", ["neuflow2", "gmflow"])
def test_networks_of_ptlflow_keep_the_interface(model, tmp_path, frames):
    import ptlflow

    torch.save({"state_dict": ptlflow.get_model(model).state_dict()}, tmp_path / "w.ckpt")
    estimator = make_estimator(model, checkpoint=str(tmp_path / "w.ckpt"))
    assert estimator.name == f"{model}(w)"
    flow_px = estimator(frames, frames)
    assert flow_px.shape == (3, 60, 100, 2) and flow_px.dtype == np.float32 and np.isfinite(flow_px).all()
