"""What is noised, what stands beside it, and how it is drawn: AVDC's choices, and where ours differ."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from flowbench.agents.training.images import ImageFit  # noqa: E402
from flowbench.agents.video_diffusion.diffusion import draw, make_scheduler, min_snr_weights, noised  # noqa: E402
from flowbench.agents.video_diffusion.model import VideoDiffusion, VideoDiffusionConfig  # noqa: E402
from flowbench.agents.video_diffusion.planner import to_uint8  # noqa: E402
from flowbench.errors import BadValue, UnknownName  # noqa: E402

FACTS = {"instructions": ["door close", "door open"]}
SMALLEST = {
    "frames": 4, "image_size": (8, 8), "channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_at": (),
    "head_width": 8, "text": "vocab", "text_width": 8, "text_heads": 1, "text_latents": 2, "sample_steps": 4,
}  # fmt: skip


def build(**changes):
    torch.manual_seed(0)
    return VideoDiffusion(VideoDiffusionConfig(**(SMALLEST | changes)), FACTS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=2, size=8, **more):
    frames = torch.randint(0, 256, (count, 4, size, size, 3), generator=generator(), dtype=torch.uint8)
    return {"camera/rgb": frames, "sentence": torch.arange(count) % 2, **more}


# --- schedule


def test_the_schedule_is_the_cosine_one():
    steps = torch.arange(101, dtype=torch.float64) / 100
    curve = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    assert torch.allclose(make_scheduler(100).alphas_cumprod.double(), torch.cumprod(1 - betas, 0), atol=1e-5)


def test_velocity_and_noisy_sample_give_the_clean_one_back():
    scheduler = make_scheduler(100)
    clean = torch.randn(3, 2, 5)
    noisy, steps, velocity = noised(scheduler, clean, generator())
    signal = scheduler.alphas_cumprod[steps].sqrt()[:, None, None]
    assert torch.allclose(signal * noisy - (1 - signal**2).sqrt() * velocity, clean, atol=1e-5)


def test_min_snr_weights_are_those_of_velocity_targets():
    scheduler = make_scheduler(100)
    signal = scheduler.alphas_cumprod.double()
    snr = signal / (1 - signal)
    expected = [min(float(ratio), 5.0) / (float(ratio) + 1) for ratio in snr]
    assert np.allclose(min_snr_weights(scheduler, 5.0).numpy(), expected, rtol=1e-3)
    assert min_snr_weights(scheduler, 5.0).max() < 0.9


def test_all_steps_are_ddpm_and_fewer_are_ddim_from_pure_noise():
    assert type(make_scheduler(100)).__name__ == "DDPMScheduler"
    assert make_scheduler(100).timesteps.tolist() == list(range(99, -1, -1))
    fewer = make_scheduler(100, 10)
    assert type(fewer).__name__ == "DDIMScheduler"
    assert fewer.timesteps.tolist() == [99, 89, 79, 69, 59, 49, 39, 29, 19, 9]
    with pytest.raises(BadValue, match="steps of a diffusion planner is 101; it is from 1 to the 100 steps"):
        make_scheduler(100, 101)


@pytest.mark.parametrize("steps", [100, 10])
def test_clipping_keeps_values_possible_and_avdc_s_ddim_does_not_clip(steps):
    def overshooting(noisy, step):
        signal = make_scheduler(100).alphas_cumprod[step[0]]
        return (signal.sqrt() * noisy - 1.5) / (1 - signal).sqrt()  # denoises to 1.5

    clipped = draw(make_scheduler(100, steps, clip=1.0), overshooting, (1, 4), generator(), torch.device("cpu"))
    assert clipped.abs().max() <= 1.001
    free = draw(make_scheduler(100, steps, clip=None), overshooting, (1, 4), generator(), torch.device("cpu"))
    assert torch.allclose(free, torch.full((1, 4), 1.5), atol=0.01)


def test_too_bright_a_pixel_is_white_where_avdc_s_cast_makes_it_black():
    assert np.array([256.5]).astype(np.int64).astype(np.uint8)[0] == 0
    assert to_uint8(np.array([-0.2, 0.5, 1.006])).tolist() == [0, 128, 255]


# --- what the network sees


def seen_by(model, **inputs):
    """Return what the U-Net is given in a loss."""
    seen = []
    model.unet.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    model.loss(batch(**inputs), False, generator())
    return seen[0]


def test_the_first_frame_stands_beside_every_frame_and_is_not_normalised_as_in_avdc():
    first = batch()["camera/rgb"][:, 0].movedim(-1, 1).float() / 255
    beside = seen_by(build())[:, :, 3:]
    assert beside.shape == (2, 3, 3, 8, 8)
    assert torch.allclose(beside, first[:, None].expand(-1, 3, -1, -1, -1))
    assert torch.allclose(seen_by(build(symmetric_condition=True))[:, 1, 3:], 2 * first - 1)


@pytest.mark.parametrize("content", ["frames", "changes", "flow"])
def test_what_is_encoded_is_decoded(content):
    model = build(content=content, content_range=0.25)
    first, frames = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 3, 8, 8)
    flow_px = torch.randn(2, 3, 2, 8, 8)
    decoded = model.decode(model.encode(frames, first, flow_px), first)
    assert torch.allclose(decoded, flow_px if content == "flow" else frames, atol=1e-6)


def test_frames_are_noised_in_minus_one_to_one_and_flow_as_a_share_of_the_frame():
    model = build()
    assert model.encode(torch.tensor([0.0, 1.0]), torch.zeros(1)).tolist() == [-1, 1]
    flow_px = torch.zeros(1, 1, 2, 4, 8)
    flow_px[:, :, 0], flow_px[:, :, 1] = 4.0, 1.0
    encoded = build(content="flow").encode(flow_px, flow_px, flow_px)
    assert encoded[0, 0, :, 0, 0].tolist() == [0.5, 0.25]


def test_frames_and_flow_are_cut_alike_at_random_in_training_and_in_the_middle_otherwise():
    model = build(content="flow", crop=(8, 8), random_crop=(10, 10))
    assert model.config.training_fit == ImageFit((10, 10), (10, 10))
    place = torch.arange(10.0)
    frames = (place[:, None] * 10 + place).expand(1, 4, 3, 10, 10)
    flow_px = frames[:, 1:, :2].clone()
    seen = set()
    for seed in range(20):
        cut, cut_flow = model._cropped(frames, flow_px, True, generator(seed))
        assert cut.shape == (1, 4, 3, 8, 8) and cut_flow.shape == (1, 3, 2, 8, 8)
        assert torch.equal(cut[:, 1:, :2], cut_flow)
        seen.add(float(cut[0, 0, 0, 0, 0]))
    assert len(seen) > 4
    assert float(model._cropped(frames, flow_px, False, generator())[0][0, 0, 0, 0, 0]) == 11


def test_a_dropped_sentence_says_nothing():
    losses = {}
    for dropped in (0.0, 1.0):
        model = build(text_dropout=dropped)
        sentences = [batch() | {"sentence": torch.tensor(pair)} for pair in ([0, 0], [1, 1])]
        losses[dropped] = [model.loss(one, True, generator())[0].item() for one in sentences]
    assert losses[1.0][0] == losses[1.0][1]
    assert losses[0.0][0] != losses[0.0][1]
    # Validation drops none.
    model = build(text_dropout=1.0)
    held_out = [(model.loss(batch() | {"sentence": torch.tensor(p)}, False, generator())[0]) for p in ([0, 0], [1, 1])]
    assert held_out[0] != held_out[1]


def test_guidance_goes_away_from_what_no_sentence_says():
    model = build(text_dropout=0.0)
    asked = []

    def told(noisy, steps, first, tokens, mask):
        asked.append(bool(tokens.any()))
        return torch.full_like(noisy, 3.0 if tokens.any() else 1.0)

    used = []
    model.forward = told
    original = draw

    def watched(scheduler, velocity, shape, generator, device):
        used.append(float(velocity(torch.zeros(shape), torch.tensor([5]))[0, 0, 0, 0, 0]))
        return original(scheduler, velocity, shape, generator, device)

    import flowbench.agents.video_diffusion.model as module

    module.draw = watched
    try:
        for guidance in (0.0, 0.5):
            model.imagine(torch.rand(1, 3, 8, 8), ["door open"], generator(), guidance=guidance)
    finally:
        module.draw = original
    assert used == [3.0, (1 + 0.5) * 3.0 - 0.5 * 1.0]
    assert asked[:5] == [True] * 5  # without guidance, one model call per step
    assert asked[5:] == [True, False] * 5


def test_a_clip_is_a_function_of_frame_sentence_and_seed():
    model = build().eval()
    first = torch.rand(1, 3, 8, 8)
    clips = [
        model.imagine(first, [sentence], generator(seed))
        for sentence, seed in (("door open", 0), ("door open", 0), ("door open", 1), ("door close", 0))
    ]
    assert clips[0].shape == (1, 3, 3, 8, 8)
    assert torch.equal(clips[0], clips[1])
    assert not torch.equal(clips[0], clips[2])
    assert not torch.equal(clips[0], clips[3])


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(UnknownName, match="frames"):
        VideoDiffusionConfig(content="frame")
    with pytest.raises(BadValue, match=r"random_crop is \[100, 160\]; it holds crop, which is \[128, 128\]"):
        VideoDiffusionConfig(crop=(128, 128), random_crop=(100, 160))
    with pytest.raises(BadValue, match="sample_steps is 200"):
        VideoDiffusionConfig(sample_steps=200)
