"""Where the training of a tuned lens goes on from: the affine maps that bring each state closest to the last one.

The logit lens is a poor place to descend from: what a layer's state lacks is mostly a linear function of it, and
coordinates of the residual stream differ in size by orders of magnitude, which slows down every first-order method.
Least squares have a closed form and need forward passes only. They do not minimise the KL divergence, so the descent
goes on from there, and a translator for which they are worse than the logit lens keeps the latter.

In the notation of the tuned-lens paper (Belrose et al., arXiv 2303.08112, equation 8) they are the affine translator
that minimises the squared error of the final state instead of the divergence, each token weighted by one over its
final state's mean square, as the final norm does.
"""

from __future__ import annotations

import torch

from surgery_core.states.least_squares import NormalEquations

DAMPING = 1e-3
"""Ridge penalty, as a share of each coordinate's own second moment, so that no coordinate's size matters."""

TOKENS_A_COORDINATE = 16
"""Tokens for each coordinate of a state that are enough; more hardly lower the divergence (`docs/log.md`)."""


class LeastSquares:
    """Sums over tokens from which the translators of all layers are solved.

    Args:
        n_layers: how many translators.
        d_model: width of the residual stream.
        device: where the states are.
    """

    def __init__(self, n_layers: int, d_model: int, device: torch.device) -> None:
        self.sums = [NormalEquations(d_model + 1, d_model, device, torch.float32) for _ in range(n_layers)]

    def add(self, states: torch.Tensor, last: torch.Tensor) -> None:
        """Take in some tokens.

        Args:
            states: `[n_layers, tokens, d_model]`, what enters each layer.
            last: `[tokens, d_model]`, what leaves the last one.
        """
        weight = last.pow(2).mean(-1, keepdim=True).clamp_min(1e-12).rsqrt()
        for sums, state in zip(self.sums, states, strict=True):
            sums.add(torch.cat([state, torch.ones_like(state[:, :1])], dim=1), last - state, weight)

    def solve(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the translators' matrices `[n_layers, d_model, d_model]` and biases `[n_layers, d_model]`.

        A layer for which there is no finite solution gets zeros, which is the logit lens.
        """
        solved = torch.stack([_solved(sums) for sums in self.sums])
        return solved[:, :-1].transpose(1, 2).contiguous(), solved[:, -1].contiguous()


def _solved(sums: NormalEquations) -> torch.Tensor:
    """Return the solution `[d_model + 1, d_model]` of one layer, where and as its sums are."""
    found = sums.solve(DAMPING)
    return torch.zeros_like(sums.products) if found is None else found.to(sums.products)
