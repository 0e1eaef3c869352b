"""The denoising network is AVDC's: its size, where time is looked at, and what is a view of what."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from flowbench.agents.training.presets import load_settings  # noqa: E402
from flowbench.agents.video_diffusion.model import VideoDiffusion  # noqa: E402
from flowbench.agents.video_diffusion.norm import group_norm  # noqa: E402
from flowbench.agents.video_diffusion.recipe import AvdcRecipe  # noqa: E402
from flowbench.agents.video_diffusion.unet import SpaceTimeUNet, _attention, _groups, _SpaceTimeConv  # noqa: E402
from flowbench.errors import BadValue  # noqa: E402


def small(**changes):
    torch.manual_seed(0)
    settings = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_at": (2,), "head_width": 8} | changes
    return SpaceTimeUNet(6, 3, 4, **settings)


@pytest.mark.parametrize(
    ("suite", "preset", "millions"),
    [("metaworld11", "paper", 201), ("ithor12", "paper", 109), ("metaworld11", "flow-paper", 201)],
)
def test_the_paper_preset_has_the_published_number_of_parameters(suite, preset, millions):
    config = load_settings(AvdcRecipe(), preset, suite).config
    with torch.device("meta"):
        model = VideoDiffusion(config, {"instructions": ["door open"]})
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions


def test_at_first_a_convolution_over_time_changes_nothing():
    conv = _SpaceTimeConv(3, 5, frames=4)
    maps = torch.randn(8, 3, 6, 6)
    assert torch.allclose(conv(maps), conv.space(maps), atol=1e-6)


def test_a_convolution_over_time_looks_one_frame_back_and_one_ahead_and_into_no_other_clip():
    conv = _SpaceTimeConv(3, 3, frames=4)
    torch.nn.init.normal_(conv.time.weight)
    maps = torch.randn(8, 3, 6, 6)
    other = maps.clone()
    other[2] += 1  # the third frame of the first clip
    changed = (conv(maps) - conv(other)).abs().amax(dim=(1, 2, 3)) > 1e-4
    # Not causal: AVDC's code pads both sides.
    assert changed.tolist() == [False, True, True, True, False, False, False, False]


def test_attention_sees_one_frame():
    attention = _attention(8, 8)
    maps = torch.randn(4, 8, 3, 3)
    other = maps.clone()
    other[1] += torch.randn(8, 3, 3)
    changed = (attention(maps) - attention(other)).detach().abs().amax(dim=(1, 2, 3)) > 1e-5
    assert changed.tolist() == [False, True, False, False]


def test_only_height_and_width_are_halved():
    network = small(multipliers=(1, 2, 3))
    clips = torch.randn(2, 4, 6, 8, 12)
    shapes = []
    network.middle[0].register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    out = network(clips, torch.tensor([0, 99]), torch.zeros(2, network.embedding_width))
    assert out.shape == (2, 4, 3, 8, 12)
    assert shapes == [(2 * 4, 24, 2, 3)]


def test_step_and_sentence_matter():
    network = small()
    clips = torch.randn(1, 4, 6, 8, 8).expand(3, -1, -1, -1, -1)
    embedding = torch.zeros(3, network.embedding_width)
    embedding[2] = 1.0
    with torch.no_grad():
        out = network(clips, torch.tensor([5, 50, 5]), embedding)
    # Groups of single channels, which 32 groups are in a narrow network, would norm the embedding away.
    assert (out[0] - out[1]).abs().max() > 0.01
    assert (out[0] - out[2]).abs().max() > 0.01


def test_norms_have_the_published_groups_and_none_of_less_than_four_channels():
    groups = [_groups(channels) for channels in (128, 160, 256, 640, 1280)]
    assert groups == [32] * 5
    assert [_groups(channels) for channels in (4, 8, 32, 48, 64, 96)] == [1, 2, 8, 8, 16, 16]


def test_a_size_that_cannot_be_halved_is_named():
    network = small(multipliers=(1, 2, 3))
    with pytest.raises(
        BadValue, match="Frames of 10x8 cannot be halved 2 times. Choose an image_size in multiples of 4"
    ):
        network(torch.randn(1, 4, 6, 8, 10), torch.tensor([0]), torch.zeros(1, network.embedding_width))
    with pytest.raises(BadValue, match="heads of 5 channels do not divide a width of 16"):
        small(head_width=5)


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_the_norm_and_its_gradient_are_torch_s(memory):
    torch.manual_seed(0)
    maps = torch.randn(2, 8, 6, 5).contiguous(memory_format=memory).requires_grad_()
    weight, bias = torch.randn(8, requires_grad=True), torch.randn(8, requires_grad=True)
    expected = torch.nn.functional.group_norm(maps, 4, weight, bias, 1e-5)
    found = group_norm(maps, 4, weight, bias, 1e-5)
    assert torch.allclose(found, expected, atol=1e-6)
    given = torch.randn_like(expected)
    gradients = [torch.autograd.grad(out, (maps, weight, bias), given) for out in (found, expected)]
    for ours, theirs in zip(*gradients):
        assert torch.allclose(ours, theirs, atol=1e-4)
