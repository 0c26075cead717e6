"""The map of one cut, by least squares: what the projection before it has to add more, for the stream to be the base's.

ReplaceMe (Shopkhoev et al., arXiv 2505.02819, section 3) looks for a matrix T with T·M + Y closest to L, where M is what
the MLP before the cut adds, Y the stream that it is added to, and L the base's stream behind the cut; T·W then takes the
place of the MLP's last weight W. Here the weight itself is fitted, W + D with D·x closest to what L lacks, where x is what
that projection reads: T·W is one such matrix, so the best of them is no worse, and it goes into the same place.

A token's squared error is divided by the size of its wanted state. In most models a few tokens (the first of a text) have
states a hundred times larger, to which many others attend: undivided, they would be all that is fitted, and divided by
the square of their size, as the norm behind a layer reads them, they would hardly count. Both was measured to cost most
of what a stitch gives back (`docs/suture.md`).

The map that brings the stream closest is not the one with the least loss: a part of it mostly does better, for what it
cannot explain of the missing layers is not spread evenly over what the rest reads. So a share of it is put in, the one
with the least loss on texts held out (`best_share`); which share that is a parabola through three of them tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from surgery_core.states.least_squares import NormalEquations
from surgery_core.suture.projection import Projection
from surgery_core.suture.reading import Pairs

RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Penalties that are tried, as a share of each input's second moment; from one to the next the map hardly changes."""

USUAL_RIDGE = 0.1
"""That of a single text, of which nothing can be held out."""


@dataclass(frozen=True, eq=False)
class Fit:
    """The map of one cut.

    Attributes:
        change: `[width, d_model]` in double precision, what is added to the projection (with a bias, its last row).
        ridge: penalty that it was fitted with.
        error_before, error_after: squared distance to the wanted states over their size, a mean over values, without and
            with a map of the same ridge: on the texts held out, or on all where there are none.
        n_tokens: over how many tokens it was fitted.
    """

    change: torch.Tensor
    ridge: float
    error_before: float
    error_after: float
    n_tokens: int


def best_share(none: float, half: float, whole: float) -> float:
    """Return at which share of a map the loss is least, 0 to 1, by the parabola through its loss at 0, 1/2 and 1."""
    bend = 2 * (none - 2 * half + whole)
    if not math.isfinite(bend):
        return 0.5 if half < none else 0.25
    if bend <= 0:
        return 1.0 if whole < none else 0.0
    return min(1.0, max(0.0, (3 * none - 4 * half + whole) / (2 * bend)))


class CutSums:
    """The sums of one cut, of texts that are fitted and of those held out.

    Args:
        projection: where the map goes.
        width: of what that reads.
        d_model: width of the residual stream.
    """

    def __init__(self, projection: Projection, width: int, d_model: int) -> None:
        self.projection = projection
        size = width + projection.has_bias
        # in double precision on the CPU: Apple's GPU has none
        self.fitted, self.held = (NormalEquations(size, d_model, torch.device("cpu"), torch.float64) for _ in range(2))

    def add(self, pairs: Pairs, *, held: bool) -> None:
        """Take in the tokens of a batch."""
        wanted, left, inputs = (state.cpu().double() for state in (pairs.wanted, pairs.left, pairs.inputs))
        weight = wanted.pow(2).mean(-1, keepdim=True).clamp_min(1e-12).pow(-0.25)
        if self.projection.has_bias:
            inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
        sums = self.held if held else self.fitted
        sums.add(inputs, (wanted - left) / self.projection.gain, weight)

    def solve(self, look: Callable[[], None] = lambda: None) -> Fit | None:
        """Return the map over all tokens with the ridge that is best on those held out; None where none is finite.

        `look` is called before each ridge; it may raise to stop the work.
        """
        tried, errors = self.held if self.held.n_tokens else self.fitted, []
        for ridge in RIDGES if self.held.n_tokens else (USUAL_RIDGE,):
            look()
            if (found := self.fitted.solve(ridge)) is not None:
                errors.append((tried.error(found), ridge))
        if not errors:
            return None
        after, ridge = min(errors)
        scale = self.projection.gain**2 / (tried.n_tokens * tried.products.shape[1])
        before = tried.error() * scale
        self.fitted.absorb(self.held)
        change = self.fitted.solve(ridge)
        return None if change is None else Fit(change, ridge, before, after * scale, self.fitted.n_tokens)
