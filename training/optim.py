"""Muon for stacked matrices, split over the processes, and Adam for the rest."""

import torch
import torch.distributed as dist
from torch import Tensor

from training.settings import OptimSettings


def orthogonalise(matrices: Tensor, steps: int) -> Tensor:
    """Move each of `[..., rows, columns]` towards the nearest semi-orthogonal matrix.

    Newton-Schulz iteration with the quintic of Muon (Jordan et al., 2024).
    """
    x = matrices.to(torch.bfloat16).reshape(-1, *matrices.shape[-2:])
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = 3.4445 * x + torch.bmm(-4.7750 * gram + 2.0315 * torch.bmm(gram, gram), x)
    x = x.transpose(1, 2) if tall else x
    return x.reshape(matrices.shape).float()


class Muon:
    """Momentum, orthogonalised; each process treats its share of the layers."""

    def __init__(self, params: list[Tensor], settings: OptimSettings) -> None:
        """Keep one momentum buffer a parameter."""
        self.params, self.settings = params, settings
        self.momentum = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Take one step with the learning rate times `scale`."""
        settings, lr = self.settings, self.settings.muon_lr * scale
        for param, momentum in zip(self.params, self.momentum, strict=True):
            momentum.lerp_(param.grad, 1 - settings.muon_momentum)
            direction = param.grad.lerp(momentum, settings.muon_momentum)
            update = spread(direction, settings.newton_schulz_steps)
            shape_factor = max(1.0, param.shape[-2] / param.shape[-1]) ** 0.5
            param.mul_(1 - lr * settings.muon_weight_decay).add_(update, alpha=-lr * shape_factor)


def spread(direction: Tensor, steps: int) -> Tensor:
    """Orthogonalise `[layers, ...]`, a part of the layers in each process."""
    count = dist.get_world_size()
    parts = list(torch.empty_like(direction).chunk(count))
    mine = direction.chunk(count)[dist.get_rank()]
    dist.all_gather(parts, orthogonalise(mine, steps).contiguous())
    return torch.cat(parts)
