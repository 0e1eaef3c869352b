"""Where networks run."""

from __future__ import annotations

import torch

from flowbench.errors import BadValue


def checked_device(name: str) -> torch.device:
    """Return a device that exists.

    Raises:
        BadValue: If it does not.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise BadValue(f"--device {name} cannot be used: {reason}. Use --device cpu.") from error
    return device


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; where it is emulated it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # AMX; torch 2.6 and later say so, and before that nobody knows.
    return device.type == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", bool)()


def device_name(device: torch.device) -> str:
    """Return what a user calls a device, e.g. `NVIDIA H100` or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
