import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.nets.perceiver import AVDC_PERCEIVER, GR1_PERCEIVER, PerceiverConfig, PerceiverResampler  # noqa: E402
from flowbench.errors import ShapeError  # noqa: E402

SMALL = PerceiverConfig(depth=2, heads=2, head_width=8, latents=5, pooled_latents=2, max_tokens=12, inner_norms=True)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("config, width, tokens", [(AVDC_PERCEIVER, 512, 68), (GR1_PERCEIVER, 768, 9), (SMALL, 16, 7)])
def test_any_number_of_tokens_gives_the_same_number(config, width, tokens):
    resampler = PerceiverResampler(width, config)
    for count in (1, 12):
        assert resampler(torch.randn(2, count, width)).shape == (2, tokens, width)


def test_avdcs_resampler_has_the_parameters_of_its_dimensions():
    width, inner = 512, 8 * 64
    attention = 2 * 2 * width + width * inner + width * 2 * inner + inner * width + 2 * width + 2 * 64
    feedforward = 2 * width + 2 * width * 4 * width + 2 * 4 * width
    once = 64 * width + 512 * width + 2 * width + width * 4 * width + 4 * width
    assert parameters(PerceiverResampler(width, AVDC_PERCEIVER)) == 2 * (attention + feedforward) + once


@pytest.mark.parametrize("config", [SMALL, PerceiverConfig(depth=2, heads=2, head_width=8, latents=5)])
def test_what_is_masked_is_not_seen(config):
    resampler = PerceiverResampler(16, config)
    tokens = torch.randn(3, 9, 16)
    mask = torch.arange(9) < torch.tensor([4, 9, 1])[:, None]
    before = resampler(tokens, mask)
    tokens[~mask] = 100.0
    torch.testing.assert_close(resampler(tokens, mask), before)
    assert not torch.allclose(resampler(tokens), before)


def test_order_counts_only_where_positions_are_learned():
    tokens = torch.randn(1, 6, 16)
    ordered = PerceiverResampler(16, SMALL)
    assert not torch.allclose(ordered(tokens), ordered(tokens.flip(1)), atol=1e-4)
    unordered = PerceiverResampler(16, PerceiverConfig(depth=2, heads=2, head_width=8, latents=5))
    torch.testing.assert_close(unordered(tokens), unordered(tokens.flip(1)), rtol=1e-4, atol=1e-5)


def test_too_many_tokens_are_refused():
    with pytest.raises(ShapeError, match="13 tokens came to a Perceiver with max_tokens=12"):
        PerceiverResampler(16, SMALL)(torch.randn(1, 13, 16))
