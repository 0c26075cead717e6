"""Figures of single positions: loss, KL and the place of the base's prediction, from logits of any part of the vocabulary.

Ties, which are frequent in half precision, are broken as `argmax` breaks them: of two tokens with the same logit the one
with the lower id comes first. A position where the logits are not finite has no figures: all of them are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from surgery_core.measure.divergence import count_above, next_below


class Logits(Protocol):
    """What makes the logits of positions: a readout."""

    model: Any
    vocab: int
    adapters: tuple[str, ...]

    @property
    def slices(self) -> bool:
        """Whether the vocabulary can be walked in slices."""

    @property
    def whole(self) -> bool:
        """Whether the model has to run whole."""

    def logits(self, entered: torch.Tensor, columns: slice = ...) -> torch.Tensor:
        """Return logits `[n, columns]` in float32 for a slice of the vocabulary."""


@dataclass(frozen=True, eq=False)
class BaseSide:
    """The base's predictions at n scored positions, as far as comparisons need them.

    Attributes:
        readout: of the base; makes its logits again where they were not kept.
        entered: `[n, width]`, of `Readout.read`.
        lse: `[n]`, log of the sum of exp over the base's logits.
        entropy: `[n]` in nats.
        top: `[n]`, the base's prediction: its likeliest token, of several the one with the lowest id.
        targets, nll: `[n]`, the right next tokens and their losses in nats; NaN where logits are not finite.
        p: `[n, vocab]`, the base's probabilities, or None where they are made again.
    """

    readout: Logits
    entered: torch.Tensor
    targets: torch.Tensor
    nll: torch.Tensor
    lse: torch.Tensor
    entropy: torch.Tensor
    top: torch.Tensor
    p: torch.Tensor | None

    @property
    def shift(self) -> torch.Tensor:
        """Return what logits are lessened by before they are summed, `[n]`: the base's log-sum-exp where it is a number."""
        return torch.where(self.lse.isfinite(), self.lse, 0.0)

    @property
    def nothing(self) -> torch.Tensor:
        """Return 0 where the base's logits are numbers, and NaN elsewhere, `[n]`."""
        return torch.where(self.lse.isfinite(), 0.0, torch.nan)

    def on(self, device: torch.device) -> BaseSide:
        """Return the side with its figures on a device; the states stay where the base's head is."""
        if self.lse.device == device:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("targets", "nll", "lse", "entropy", "top")}
        return replace(self, **moved, p=None if self.p is None else self.p.to(device))

    def part(self, rows: slice) -> BaseSide:
        """Return the side of some of the positions."""
        kept = {name: getattr(self, name)[rows] for name in ("entered", "targets", "nll", "lse", "entropy", "top")}
        return replace(self, **kept, p=None if self.p is None else self.p[rows])

    def probabilities(self, columns: slice = slice(None)) -> torch.Tensor:
        """Return the base's probabilities `[n, columns]` of a slice of the vocabulary."""
        if self.p is not None:
            return self.p[:, columns]
        logits = self.readout.logits(self.entered, columns).to(self.lse.device)
        return (logits - self.lse[:, None]).exp_()


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures of n positions; NaN where logits are not finite.

    Attributes:
        nll: `[n]`, loss of the right token in nats.
        kl: `[n]`, KL(base || this) in nats, or None where there is no base side.
        ahead: `[n]`, how many tokens come before the base's prediction here: likelier ones, and equally likely ones
            with a lower id; or None.
    """

    nll: torch.Tensor
    kl: torch.Tensor | None = None
    ahead: torch.Tensor | None = None

    def kept(self, most: int) -> torch.Tensor:
        """Return, `[n]`, 1 where the base's prediction is among this model's first `most`, 0 elsewhere, or NaN."""
        if self.ahead is None:
            return torch.zeros_like(self.nll)
        return torch.where(self.ahead.isnan(), self.ahead, (self.ahead < most).to(self.ahead.dtype))


class SliceSums:
    """What the slices of a vocabulary add up to, a position each."""

    def __init__(self, n: int, targets: torch.Tensor, base: BaseSide | None, guess: torch.Tensor | None) -> None:
        self.targets, self.base, self.guess = targets, base, guess
        zeros = torch.zeros(n, device=targets.device)
        # logits less the base's own log-sum are close to log-probabilities: sums of those are exact where both agree
        self.shift = zeros if base is None else base.shift
        # of every slice one, put together at the end: sums that grow slice by slice would be rounded as often
        self.exps: list[torch.Tensor] = []
        self.means: list[torch.Tensor] = []
        self.target, self.own = zeros.clone(), zeros.clone()
        self.ahead = zeros.clone()

    def add(self, columns: slice, logits: torch.Tensor) -> None:
        """Take in the logits `[n, columns]` of a slice; they are overwritten."""
        _take(self.target, logits, self.targets - columns.start)
        if self.base is not None and self.guess is not None:
            place = self.base.top - columns.start
            _take(self.own, logits, place)
            self.ahead += ahead_in(logits, place, self.guess)
            logits = logits.sub_(self.shift[:, None])
            self.means.append(torch.linalg.vecdot(self.base.probabilities(columns), logits))
        self.exps.append(logits.logsumexp(-1))

    @property
    def doubtful(self) -> torch.Tensor:
        """Return the positions whose guess was not the logit that its slice has."""
        wrong: torch.Tensor = self.own != self.guess if self.guess is not None else torch.zeros(0, dtype=torch.bool)
        return wrong.nonzero()[:, 0]

    def figures(self) -> Figures:
        """Return the figures."""
        lse = torch.stack(self.exps).logsumexp(0)
        nll = lse - (self.target - self.shift)
        if self.base is None:
            return _seen(lse, Figures(nll))
        # of a base that computes no numbers the entropy is NaN, and so is the divergence from it
        kl = lse + self.shift - self.base.lse - torch.stack(self.means).sum(0) - self.base.entropy
        return _seen(lse, Figures(nll, kl, self.ahead + self.base.nothing))


def of_logits(logits: torch.Tensor, targets: torch.Tensor, base: BaseSide | None = None) -> Figures:
    """Return the figures of whole rows of logits `[n, vocab]` in float32.

    With z the logits less the base's log-sum-exp and p the base's probabilities, KL(base || this) is
    lse(z) - sum(p z) - H(p).

    Args:
        logits: whole rows.
        targets: `[n]`.
        base: the base's side of the same positions.
    """
    if base is None:
        lse = logits.logsumexp(-1)
        return _seen(lse, Figures(lse - _picked(logits, targets)))
    ahead = ahead_of(logits, base.top)
    shifted = logits - base.shift[:, None]
    lse, p = shifted.logsumexp(-1), base.probabilities()
    mean = torch.linalg.vecdot(p, shifted)
    if mean.isnan().any():
        # a logit of minus infinity where the base has probability 0
        mean = torch.where(p > 0, p * shifted, 0.0).sum(-1)
    kl = lse + base.shift - base.lse - mean - base.entropy
    return _seen(lse, Figures(lse - _picked(shifted, targets), kl, ahead + base.nothing))


def _seen(lse: torch.Tensor, figures: Figures) -> Figures:
    """Return the figures with NaN where the sum over the vocabulary is not finite: some logit is NaN or infinite."""
    broken = ~lse.isfinite()
    if not broken.any():
        return figures
    parts = (figures.nll, figures.kl, figures.ahead)
    return Figures(*(None if part is None else part.masked_fill(broken, torch.nan) for part in parts))  # type: ignore[arg-type]


def joined(parts: Sequence[Figures]) -> Figures:
    """Return the figures of several parts as those of all their positions."""
    columns = [[getattr(part, name) for part in parts] for name in ("nll", "kl", "ahead")]
    return Figures(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]


def _picked(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return logits.gather(-1, tokens[:, None])[:, 0]


def _take(into: torch.Tensor, logits: torch.Tensor, places: torch.Tensor) -> None:
    """Write the logits at `places` `[n]` into a vector, for the positions whose place is in this slice."""
    inside = (places >= 0) & (places < logits.shape[-1])
    found = logits.gather(-1, places.clamp(0, logits.shape[-1] - 1)[:, None])[:, 0]
    into.copy_(torch.where(inside, found, into))


def ahead_of(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return, `[n]`, how many tokens come before `tokens` `[n]`: likelier, or as likely with a lower id."""
    return ahead_in(logits, tokens, _picked(logits, tokens))


def ahead_in(logits: torch.Tensor, places: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return how many logits of a slice come before `own` `[n]`, which stands in column `places` `[n]`.

    The column may lie before the slice (negative) or behind it. Before it, equal logits come first: above `own` and
    equal to it is above the next smaller number. Within it that tells where others are equal, which is seldom.
    """
    behind = places >= logits.shape[-1]
    below = next_below(own)
    ahead = count_above(logits, torch.where(behind, below, own))
    inside, lowest = (places >= 0) & ~behind, own.isneginf()
    if inside.any():
        # nothing is below the smallest of all numbers
        inside &= (count_above(logits, below) > ahead + 1) | lowest
    if (lowest & behind).any():
        ahead[lowest & behind] = (~logits[lowest & behind].isnan()).sum(-1).float()
    inside = inside.nonzero()[:, 0]
    if len(inside):
        rows, columns = logits[inside], torch.arange(logits.shape[-1], device=logits.device)
        place, mine = places[inside][:, None], own[inside][:, None]
        before = (rows > mine) | ((rows == mine) & (columns < place))
        ahead[inside] = (before & (columns != place)).sum(-1).float()
    return ahead


def summary(logits: torch.Tensor, targets: torch.Tensor, keep: bool) -> tuple[torch.Tensor, ...]:
    """Return loss, log-sum-exp, entropy, prediction and, with `keep`, probabilities of whole rows of logits."""
    lse = logits.logsumexp(-1)
    logp = logits - lse[:, None]
    p = logp.exp()
    entropy = -torch.where(p == 0, 0.0, p * logp).sum(-1)
    nll = torch.where(lse.isfinite(), -_picked(logp, targets), torch.nan)
    found = (nll, lse, entropy, logits.argmax(-1))
    return (*found, p) if keep else found
