"""Least squares between states, from sums over tokens: memory does not grow with the texts, which are read once.

What is kept of the inputs x, the wanted outputs y and the weights w of all tokens is the sum of w² xᵀx, of w² xᵀy and of
w² y². From these the best linear map follows for any ridge penalty, and so does its error, without the tokens.
"""

from __future__ import annotations

import torch


class NormalEquations:
    """The sums from which one linear map is solved.

    Args:
        n_inputs, n_outputs: of the map.
        device: where tokens are summed.
        dtype: of the sums.
    """

    def __init__(self, n_inputs: int, n_outputs: int, device: torch.device, dtype: torch.dtype) -> None:
        self.moments = torch.zeros(n_inputs, n_inputs, device=device, dtype=dtype)
        self.products = torch.zeros(n_inputs, n_outputs, device=device, dtype=dtype)
        self.square = torch.zeros((), device=device, dtype=dtype)
        self.n_tokens = 0

    def add(self, inputs: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor) -> None:
        """Take in some tokens.

        Args:
            inputs: `[tokens, n_inputs]`, in the number format in which their products are to be made.
            wanted: `[tokens, n_outputs]`.
            weight: `[tokens, 1]`, on each token's error before it is squared.
        """
        entering, leaving = inputs * weight, wanted * weight
        self.moments += entering.T @ entering
        self.products += entering.T @ leaving
        self.square += leaving.pow(2).sum()
        self.n_tokens += len(inputs)

    def absorb(self, other: NormalEquations) -> None:
        """Take in all tokens of other sums."""
        self.moments += other.moments
        self.products += other.products
        self.square += other.square
        self.n_tokens += other.n_tokens

    def solve(self, ridge: float) -> torch.Tensor | None:
        """Return the map `[n_inputs, n_outputs]` in double precision on the CPU, or None where none is finite.

        Args:
            ridge: penalty, as a share of each input's own second moment, so that no coordinate's size matters.
        """
        # Apple's GPU has no float64
        left, right = self.moments.cpu().double(), self.products.cpu().double()
        scale = left.diagonal().clamp_min(torch.finfo(torch.float32).tiny).rsqrt()
        left = left * scale[:, None] * scale + ridge * torch.eye(len(left), dtype=left.dtype)
        factor, failed = torch.linalg.cholesky_ex(left)
        found = scale[:, None] * torch.cholesky_solve(scale[:, None] * right, factor)
        return None if failed.item() or not bool(found.isfinite().all()) else found

    def error(self, solution: torch.Tensor | None = None) -> float:
        """Return the squared weighted error of a map `[n_inputs, n_outputs]` over the summed tokens; None maps to 0."""
        square = float(self.square)
        if solution is None:
            return square
        moments, products = self.moments.cpu().double(), self.products.cpu().double()
        return square + float(((moments @ solution - 2 * products) * solution).sum())
