"""Group norm whose gradient is fast in channels-last memory on a CPU.

torch 2.15 takes 130 ms on one core for the gradient of a bf16 (4, 32, 448, 64) norm in channels-last memory, forty times
what the norm itself takes, and 5 ms in contiguous memory; it was 42 % of a training step. The gradient below takes 20 ms.
"""

from __future__ import annotations

import torch
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional


def group_norm(maps: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """Return what `torch.nn.functional.group_norm` returns for (B, C, H, W) maps, on a CPU with another gradient."""
    if maps.device.type == "cpu":
        return _GroupNorm.apply(maps, groups, weight, bias, eps)
    return functional.group_norm(maps, groups, weight, bias, eps)


class _GroupNorm(torch.autograd.Function):
    """The gradient is an affine function of map and incoming gradient, with one pair of sums per sample and channel."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, maps: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> torch.Tensor:
        count, channels, height, width = maps.shape
        weight, bias = weight.to(maps.dtype), bias.to(maps.dtype)
        normed, mean, scale = torch.native_group_norm(maps, weight, bias, count, channels, height * width, groups, eps)
        ctx.save_for_backward(maps, weight, mean, scale)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, weight, mean, scale = ctx.saved_tensors
        count, channels, height, width = maps.shape
        groups = mean.shape[1]
        mean, scale = (row.float().repeat_interleave(channels // groups, dim=1) for row in (mean, scale))  # (B, C)
        seen = maps.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H * W, C)
        given = gradient.permute(0, 2, 3, 1).flatten(1, 2)
        given_sum = given.sum(1, dtype=torch.float32)
        # Sum of the incoming gradient times the normalised map.
        normed_sum = ((given * seen).sum(1, dtype=torch.float32) - mean * given_sum) * scale

        def group_mean(sums: torch.Tensor) -> torch.Tensor:
            total = (sums * weight).unflatten(1, (groups, -1)).sum(-1)
            return (total / (height * width * (channels // groups))).repeat_interleave(channels // groups, dim=1)

        of_given = scale * weight
        of_seen = -(scale**2) * group_mean(normed_sum)
        constant = -scale * group_mean(given_sum) - of_seen * mean
        of_given, of_seen, constant = (row[:, None].to(maps.dtype) for row in (of_given, of_seen, constant))
        back = torch.addcmul(constant, given, of_given).addcmul_(seen, of_seen)
        back = back.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return back, None, normed_sum.sum(0), given_sum.sum(0), None
