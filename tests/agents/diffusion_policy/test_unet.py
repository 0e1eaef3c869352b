import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.diffusion_policy.unet import ConditionalUNet1D  # noqa: E402
from flowbench.errors import BadValue  # noqa: E402


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_it_has_as_many_parameters_as_the_published_network():
    """The count of AVDC_experiments' ConditionalUnet1D for four actions and a condition of 1536, layer by layer."""

    def conv(entering, leaving, kernel):
        return entering * leaving * kernel + leaving

    def block(entering, leaving):
        residual = conv(entering, leaving, 1) if entering != leaving else 0
        condition = (256 + 1536) * leaving + leaving
        return conv(entering, leaving, 3) + conv(leaving, leaving, 3) + 4 * leaving + condition + residual

    step = 256 * 1024 + 1024 + 1024 * 256 + 256
    down = sum(block(a, b) + block(b, b) for a, b in ((4, 256), (256, 512), (512, 1024)))
    shorten = conv(256, 256, 3) + conv(512, 512, 3)
    middle = 2 * block(1024, 1024)
    up = block(2048, 512) + block(512, 512) + block(1024, 256) + block(256, 256)
    lengthen = conv(512, 512, 4) + conv(256, 256, 4)
    head = conv(256, 256, 3) + 2 * 256 + conv(256, 4, 1)
    assert parameters(ConditionalUNet1D(4, 1536)) == step + down + shorten + middle + up + lengthen + head


@pytest.mark.parametrize("widths, horizon", [((16,), 3), ((16, 32), 6), ((16, 32, 64), 16)])
def test_actions_keep_their_shape(widths, horizon):
    network = ConditionalUNet1D(7, 5, widths, step_width=16)
    out = network(torch.randn(2, horizon, 7), torch.tensor([0, 99]), torch.randn(2, 5))
    assert out.shape == (2, horizon, 7)


def test_the_answer_depends_on_step_and_condition():
    torch.manual_seed(0)
    network = ConditionalUNet1D(4, 5, (16, 32), step_width=16)
    actions, condition = torch.randn(1, 8, 4), torch.randn(1, 5)
    first = network(actions, torch.tensor([3]), condition)
    assert not torch.allclose(first, network(actions, torch.tensor([4]), condition))
    assert not torch.allclose(first, network(actions, torch.tensor([3]), condition + 1))


def test_a_horizon_that_cannot_be_halved_is_refused():
    with pytest.raises(BadValue, match="A horizon of 6 actions is no multiple of 4"):
        ConditionalUNet1D(4, 5, (16, 32, 64), step_width=16)(torch.randn(1, 6, 4), torch.zeros(1), torch.zeros(1, 5))


def test_widths_that_do_not_divide_into_groups_are_refused():
    with pytest.raises(BadValue, match=r"widths of a U-Net are \(12,\); each is a multiple of 8"):
        ConditionalUNet1D(4, 5, (12,))
