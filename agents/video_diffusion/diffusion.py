"""How clips are noised in training and drawn in planning: diffusers' schedulers, set as AVDC set its own.

AVDC (`flowdiffusion/goal_diffusion.py`): cosine schedule, velocity as target, min-SNR weights; as many DDPM steps as in
training, or fewer DDIM steps without added noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, DDPMScheduler

from flowbench.errors import BadValue


def make_scheduler(
    train_steps: int, steps: int | None = None, *, clip: float | None = None
) -> DDPMScheduler | DDIMScheduler:
    """Build the scheduler: DDPM where every training step is taken, DDIM where fewer are.

    Args:
        train_steps: Diffusion steps of training.
        steps: Diffusion steps of drawing; None for all.
        clip: Denoised values are kept in [-clip, clip] at every step; None leaves them. AVDC clips its DDPM steps to
            [-1, 1] and does not clip its DDIM steps (`clip_x_start = False`).

    Raises:
        BadValue: If more steps are asked for than there are.
    """
    steps = steps or train_steps
    if not 1 <= steps <= train_steps:
        raise BadValue(
            f"steps of a diffusion planner is {steps}; it is from 1 to the {train_steps} steps of its training."
        )
    settings = {
        "num_train_timesteps": train_steps,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "clip_sample": clip is not None,
        "clip_sample_range": clip or 1.0,
    }
    if steps == train_steps:
        scheduler = DDPMScheduler(**settings, variance_type="fixed_small")
    else:
        # Steps are spread so that the first one starts from pure noise, as in AVDC.
        scheduler = DDIMScheduler(**settings, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    return scheduler


def noised(
    scheduler: DDPMScheduler, clean: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw a step and noise for each of (B, ...) clean samples.

    Returns:
        The noisy samples (B, ...), the steps (B,) and the velocity (B, ...), which is the network's target.
    """
    noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    steps = torch.randint(scheduler.config.num_train_timesteps, (len(clean),), generator=generator, device=clean.device)
    return scheduler.add_noise(clean, noise, steps), steps, scheduler.get_velocity(clean, noise, steps)


def min_snr_weights(scheduler: DDPMScheduler, gamma: float) -> torch.Tensor:
    """Return the loss weight of every step for velocity targets, min(SNR, gamma) / (SNR + 1) (arXiv 2303.09556)."""
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    return snr.clamp(max=gamma) / (snr + 1)


def draw(
    scheduler: DDPMScheduler | DDIMScheduler,
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
    generator: torch.Generator,
    device: torch.device,
) -> torch.Tensor:
    """Turn Gaussian noise into a sample.

    Args:
        scheduler: As `make_scheduler` builds it.
        velocity: Takes noisy samples (B, ...) and steps (B,).
        shape: Of the samples.
        generator: On the CPU, so that every device starts from the same noise.
        device: Where the network is.
    """
    sample = torch.randn(shape, generator=generator).to(device)
    options = {"generator": generator} if isinstance(scheduler, DDPMScheduler) else {"eta": 0.0}
    for step in scheduler.timesteps.to(device):
        sample = scheduler.step(velocity(sample, step.expand(shape[0])), step, sample, **options).prev_sample
    return sample
