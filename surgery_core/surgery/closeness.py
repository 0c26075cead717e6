"""How far apart two ways to the same logits are."""

from __future__ import annotations

import torch


def relative_difference(left: torch.Tensor, right: torch.Tensor, *, blind: bool = False) -> float:
    """Return the largest difference over the spread of `right`, in float32.

    It is infinite where shapes differ, where one side is not finite in the same places as the other, and where
    anything is NaN or plus infinity: equal nonsense is no agreement. Minus infinity, with which models rule tokens out,
    may stand on both sides.

    Args:
        left, right: logits of the same shape, on any device.
        blind: leave out what is nonsense on both sides; 0 where nothing else is left.
    """
    left, right = left.detach().float().cpu(), right.detach().float().cpu()
    finite = torch.isfinite(right)
    if left.shape != right.shape or not torch.equal(torch.isfinite(left), finite):
        return float("inf")
    if not blind and bool((~finite & ~torch.isneginf(right)).any()):
        return float("inf")
    left, right = left[finite], right[finite]
    return float((left - right).abs().max() / right.std().clamp_min(1e-6)) if right.numel() > 1 else 0.0
