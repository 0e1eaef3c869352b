"""How actions are noised in training and drawn in evaluation: diffusers' schedulers, set as AVDC set its own.

AVDC (`goal_diffusion_policy.py` of AVDC_experiments): 100 steps, cosine schedule, velocity as target, 10 DDIM steps without
added noise, spread so that the first one starts from pure noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from flowbench.errors import missing_extra, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import DDIMScheduler

#: Name here -> name in diffusers.
TARGETS = {"velocity": "v_prediction", "epsilon": "epsilon"}


def make_scheduler(train_steps: int, target: str) -> DDIMScheduler:
    """Build the scheduler.

    Args:
        train_steps: Diffusion steps.
        target: What the network predicts, a key of `TARGETS`.

    Raises:
        UnknownName: If there is no such target.
        MissingExtra: If diffusers is not installed.
    """
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS, "A diffusion policy")
    try:
        from diffusers import DDIMScheduler
    except ImportError as error:
        raise missing_extra("A diffusion policy", "agents", error) from error
    return DDIMScheduler(
        num_train_timesteps=train_steps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=TARGETS[target],
        # Departure: AVDC's DDIM path does not clamp the denoised actions, and its DDPM path clamps them to a range that
        # they do not have (see `ActionRange`). Ours are in [-1, 1] by construction, as Diffusion Policy's are.
        clip_sample=True,
        timestep_spacing="trailing",
    )


def noised(
    scheduler: DDIMScheduler, actions: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw a step and noise for each of (B, T, A) normalised actions.

    Returns:
        The noisy (B, T, A) actions, the (B,) steps and the (B, T, A) target of the network.
    """
    device = actions.device
    noise = torch.randn(actions.shape, generator=generator, device=device, dtype=actions.dtype)
    steps = torch.randint(scheduler.config.num_train_timesteps, (len(actions),), generator=generator, device=device)
    noisy = scheduler.add_noise(actions, noise, steps)
    if scheduler.config.prediction_type == "epsilon":
        return noisy, steps, noise
    return noisy, steps, scheduler.get_velocity(actions, noise, steps)


def loss_weights(scheduler: DDIMScheduler, steps: torch.Tensor, min_snr: float) -> torch.Tensor:
    """Return the (B,) weights of (B,) steps, by signal-to-noise ratio (Hang et al. 2023, equation 7).

    Args:
        scheduler: As `make_scheduler` builds it.
        steps: (B,) diffusion steps.
        min_snr: Ratio above which it no longer counts; 0 weights all steps alike.
    """
    if not min_snr:
        return torch.ones(len(steps), device=steps.device)
    signal = scheduler.alphas_cumprod.to(steps.device)[steps]
    ratio = signal / (1 - signal)
    return ratio.clamp(max=min_snr) / (ratio if scheduler.config.prediction_type == "epsilon" else ratio + 1)


def denoise(
    scheduler: DDIMScheduler,
    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """Turn (B, T, A) Gaussian noise into normalised actions.

    Args:
        scheduler: As `make_scheduler` builds it.
        network: Takes noisy actions (B, T, A) and steps (B,).
        noise: Where to start; the result is a function of it.
        steps: DDIM steps.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    actions = noise
    for step in scheduler.timesteps:
        predicted = network(actions, step.expand(len(actions)))
        actions = scheduler.step(predicted, step, actions, eta=0.0).prev_sample
    return actions
