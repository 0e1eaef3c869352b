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


def device_name(device: torch.device) -> str:
    """Return what a user calls a device, e.g. `NVIDIA H100` or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
