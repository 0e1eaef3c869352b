import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from flowbench.agents.diffusion_policy.noise import denoise, make_scheduler, noised  # noqa: E402
from flowbench.errors import UnknownName  # noqa: E402


def test_the_schedule_is_the_cosine_of_nichol_and_dhariwal():
    scheduler = make_scheduler(100, "velocity")

    def bar(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    for step in (0, 30, 80):
        assert float(scheduler.alphas_cumprod[step]) == pytest.approx(bar((step + 1) / 100) / bar(0), rel=1e-4)


@pytest.mark.parametrize("target", ["velocity", "epsilon"])
def test_a_network_that_knows_the_answer_gets_back_what_was_noised(target):
    scheduler = make_scheduler(100, target)
    truth = torch.rand(3, 16, 4) * 2 - 1

    def oracle(noisy, steps):
        bar = scheduler.alphas_cumprod[steps].view(-1, 1, 1)
        noise = (noisy - bar.sqrt() * truth) / (1 - bar).sqrt()
        return noise if target == "epsilon" else bar.sqrt() * noise - (1 - bar).sqrt() * truth

    start = torch.randn(3, 16, 4, generator=torch.Generator().manual_seed(0))
    # Where everything is noise, noise alone does not tell the actions: epsilon loses digits in the first of ten steps.
    tolerance = 1e-3 if target == "velocity" else 0.05
    torch.testing.assert_close(denoise(scheduler, oracle, start, 10), truth, atol=tolerance, rtol=0)
    noisy, steps, wanted = noised(scheduler, truth, torch.Generator().manual_seed(1))
    torch.testing.assert_close(oracle(noisy, steps), wanted, atol=2e-2, rtol=1e-2)


def test_the_first_of_ten_steps_starts_from_pure_noise():
    scheduler = make_scheduler(100, "velocity")
    seen = []
    denoise(scheduler, lambda noisy, step: seen.append(int(step[0])) or noisy, torch.zeros(1, 4, 2), 10)
    assert seen == [99, 89, 79, 69, 59, 49, 39, 29, 19, 9]


def test_drawn_actions_stay_in_their_range_whatever_the_network_says():
    drawn = denoise(make_scheduler(100, "velocity"), lambda noisy, step: noisy * 50, torch.randn(2, 8, 4), 10)
    assert drawn.abs().max() <= 1


def test_noise_comes_from_the_generator_alone():
    scheduler, actions = make_scheduler(100, "epsilon"), torch.zeros(4, 8, 2)
    first, again = (noised(scheduler, actions, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], noised(scheduler, actions, torch.Generator().manual_seed(6))[0])


def test_an_unknown_target_names_those_that_exist():
    with pytest.raises(UnknownName, match="A diffusion policy has no target 'x0'. Available: epsilon, velocity"):
        make_scheduler(100, "x0")
