"""The one way from a model that runs to figures about the next token: loss, KL, agreement.

Three strategies, chosen by trying and not by the model's class. Most models end in a norm and a linear unembedding:
the model runs up to its last layer, and the vocabulary is walked in slices, so that a slice's logits for all positions
stay in the processor's cache and losses, KL and ranks need only sums over the slices. Where something else comes
behind the layers (a scale, a soft cap, a block), the model's own tail makes whole rows of logits, some positions at a
time. Where the last layer's state is not enough, the model runs whole.

Ties, which are frequent in half precision, are broken as `argmax` breaks them: of two tokens with the same logit the one
with the lower id comes first. So a prediction is kept exactly when greedy decoding would write the same token.

A position where the logits are not finite has no figures: all of them are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import text_config
from surgery_core.errors import AnatomyError, PlanError
from surgery_core.last_state import last_state
from surgery_core.lens_statistics import count_above, next_below
from surgery_core.slots import become
from surgery_core.tail import CHUNK_ELEMENTS, Tail
from surgery_core.view import root_of
from surgery_core.windows import Batch

SLICE_ELEMENTS = {"cpu": 2**21, "cuda": 2**26}
"""Logits of one slice of the vocabulary: 8 MB in float32 on a CPU, which its cache holds; more on a GPU."""

NARROWEST_SLICE = 512
"""Columns of a slice at least, however many positions there are."""

Look = Callable[[], None]


def _never() -> None:
    """Do not stop."""


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

    readout: Readout
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


class Passing:
    """An unembedding that hands on what it is given."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return `hidden` `[..., d_model]`."""
        return hidden


class Readout:
    """What a model does behind its layers, for figures of many positions.

    Args:
        model: a causal language model, or a view of one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model
        self.unembed: Any = model.get_output_embeddings()  # type: ignore[operator]
        self.vocab = int(self.unembed.weight.shape[0]) if self.unembed is not None else _stated_vocab(model)
        weight = getattr(self.unembed, "weight", None)
        self.home = None if weight is None or weight.device.type == "meta" else weight.device
        self.tail = _tail(model)
        self._norm: Tail | None = None if self.tail is None else self._split(model, self.tail)

    @property
    def slices(self) -> bool:
        """Whether the vocabulary can be walked in slices."""
        return self._norm is not None

    @property
    def whole(self) -> bool:
        """Whether the model has to run whole."""
        return self.tail is None

    def read(self, batch: Batch, look: Look = _never, model: nn.Module | None = None) -> torch.Tensor:
        """Run the model on a batch and return what `figures` takes of its n scored positions, `[n, width]`.

        Args:
            batch: padded windows and their scored positions.
            look: called between layers; it may raise to stop the work.
            model: a view of the same base to run instead; what stands behind its layers is the same.
        """
        look()
        runs = self.model if model is None else model
        with torch.inference_mode():
            if self.tail is None:
                logits = runs(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
                return logits[batch.rows.to(logits.device), batch.columns.to(logits.device)].float()  # type: ignore[no-any-return]
            return self.scored(batch, last_state(runs, batch.input_ids, batch.attention_mask, look))

    def scored(self, batch: Batch, states: torch.Tensor) -> torch.Tensor:
        """Return what `figures` takes, `[n, width]`, of states `[batch, seq, width]` as they leave the last layer."""
        rows, columns = batch.rows.to(states.device), batch.columns.to(states.device)
        return self.enter(states[rows, columns])

    def enter(self, states: torch.Tensor, *, grad: bool = False) -> torch.Tensor:
        """Return what `figures` takes for states `[..., width]` as they leave the last layer: normed where sliced.

        With `grad`, gradients flow back to the states.
        """
        if self._norm is None:
            return states.to(self.home or states.device)
        # where layers are spread over devices, a tied unembedding can be on another one than the norm
        return self._norm.logits(states[None], grad=grad)[0].to(self.home)

    def logits(self, entered: torch.Tensor, columns: slice = slice(None)) -> torch.Tensor:
        """Return logits `[n, columns]` in float32 for a slice of the vocabulary, by default all of it."""
        with torch.inference_mode():
            if self._norm is not None:
                bias = None if self.unembed.bias is None else self.unembed.bias[columns]
                sliced: torch.Tensor = nn.functional.linear(entered, self.unembed.weight[columns], bias)
                return sliced.float()
            whole = entered if self.tail is None else self.tail.logits(entered[None])[0]
            return whole[:, columns].float().to(entered.device)

    def base_side(self, entered: torch.Tensor, targets: torch.Tensor, *, keep: bool, look: Look = _never) -> BaseSide:
        """Return the base's side at n positions; with `keep`, its probabilities are kept.

        Args:
            entered: `[n, width]`, of `read`.
            targets: `[n]`, the right next tokens.
            keep: whether the probabilities `[n, vocab]` stay in memory.
            look: called between chunks; it may raise to stop the work.
        """
        targets = targets.to(entered.device)
        with torch.inference_mode():
            parts = [
                _summary(self.logits(entered[part]), targets[part], keep) for part in self._parts(len(entered), look)
            ]
            nll, lse, entropy, top = (torch.cat([part[at] for part in parts]) for at in range(4))
            p = torch.cat([part[4] for part in parts]) if keep else None
            return BaseSide(self, entered, targets, nll, lse, entropy, top, p)

    def figures(
        self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide | None = None, look: Look = _never
    ) -> Figures:
        """Return the figures of n positions.

        Args:
            entered: `[n, width]`, of `read`.
            targets: `[n]`, the right next tokens.
            base: the base's side of the same positions, or None for the loss alone.
            look: called between chunks; it may raise to stop the work.
        """
        targets = targets.to(entered.device)
        if base is not None and base.readout.vocab != self.vocab:
            raise PlanError(
                f"One model has a vocabulary of {base.readout.vocab:,} tokens and the other of {self.vocab:,}, so their "
                "predictions cannot be compared; compare models with the same tokenizer."
            )
        with torch.inference_mode():
            if base is not None and self._is_base(entered, targets, base):
                return Figures(base.nll, base.nothing, base.nothing)
            base = None if base is None else base.on(entered.device)
            if self._norm is not None:
                return self._sliced(entered, targets, base, look)
            parts = [
                of_logits(self.logits(entered[part]), targets[part], None if base is None else base.part(part))
                for part in self._parts(len(entered), look)
            ]
        return _joined(parts)

    def _is_base(self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide) -> bool:
        """Whether these are the base's own states before the same head: everything is the same then, to the bit."""
        shared = root_of(self.model) is root_of(base.readout.model) and self.slices == base.readout.slices
        if not shared or entered.device != base.entered.device:
            return False
        return torch.equal(entered, base.entered) and torch.equal(targets, base.targets)

    def _sliced(self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide | None, look: Look) -> Figures:
        sums = _Sums(len(entered), targets, base, self._guess(entered, base))
        for columns in self._columns(len(entered)):
            look()
            sums.add(columns, self.logits(entered, columns))
        doubtful = sums.doubtful
        if base is not None and len(doubtful):
            # the products with single columns were rounded otherwise than those in the slices
            for rows in doubtful.split(max(1, CHUNK_ELEMENTS // self.vocab)):  # type: ignore[no-untyped-call]
                sums.ahead[rows] = _ahead(self.logits(entered[rows]), base.top[rows])
        return sums.figures()

    def _guess(self, entered: torch.Tensor, base: BaseSide | None) -> torch.Tensor | None:
        """Return the logits `[n]` of the base's predictions, which are needed before their slices are reached."""
        if base is None:
            return None
        tokens, places = base.top.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        bias = None if self.unembed.bias is None else self.unembed.bias[tokens]
        logits = nn.functional.linear(entered, self.unembed.weight[tokens], bias).float()
        return logits.gather(-1, places[:, None])[:, 0]

    def _parts(self, n: int, look: Look) -> Iterator[slice]:
        step = max(1, CHUNK_ELEMENTS // self.vocab)
        for at in range(0, n, step):
            look()
            yield slice(at, at + step)

    def _columns(self, rows: int) -> Iterator[slice]:
        elements = SLICE_ELEMENTS["cpu" if self.unembed.weight.device.type == "cpu" else "cuda"]
        width = max(NARROWEST_SLICE, elements // max(1, rows))
        for at in range(0, self.vocab, width):
            yield slice(at, min(at + width, self.vocab))

    def _split(self, model: nn.Module, tail: Tail) -> Tail | None:
        """Return a tail that ends before the unembedding, or None where logits are not that linear map's output."""
        if type(self.unembed) is not nn.Linear or self.unembed.weight.device.type == "meta":
            return None
        norm = Tail(model)
        head: Any = norm.model.get_output_embeddings()
        become(head, Passing)
        # a last layer's output has about this size; a soft cap or a scale shows at any
        generator = torch.Generator().manual_seed(0)
        probe = 8 * torch.randn((1, 4, norm.width), generator=generator)
        probe = probe.to(self.unembed.weight.device, self.unembed.weight.dtype)
        with torch.inference_mode():
            normed = norm.logits(probe)[0]
            if normed.shape[-1] != self.unembed.weight.shape[1]:
                return None
            ours, own = self.unembed(normed).float(), tail.logits(probe)[0].float()
        close = 1e-5 if normed.dtype == torch.float32 else 2e-2
        # weights that are not numbers say nothing about how they are used
        return norm if not float((ours - own).abs().max()) > close * float(own.abs().max()) else None


class _Sums:
    """What the slices of a vocabulary add up to, a position each."""

    def __init__(self, n: int, targets: torch.Tensor, base: BaseSide | None, guess: torch.Tensor | None) -> None:
        self.targets, self.base, self.guess = targets, base, guess
        zeros = torch.zeros(n, device=targets.device)
        # logits less the base's own log-sum are close to log-probabilities: sums of those are exact where both agree
        self.shift = zeros if base is None else base.shift
        self.exps: list[torch.Tensor] = []
        self.target, self.own = zeros.clone(), zeros.clone()
        self.mean, self.ahead = zeros.clone(), zeros.clone()

    def add(self, columns: slice, logits: torch.Tensor) -> None:
        """Take in the logits `[n, columns]` of a slice; they are overwritten."""
        _take(self.target, logits, self.targets - columns.start)
        if self.base is not None and self.guess is not None:
            place = self.base.top - columns.start
            _take(self.own, logits, place)
            self.ahead += _ahead_in(logits, place, self.guess)
            logits = logits.sub_(self.shift[:, None])
            self.mean += torch.linalg.vecdot(self.base.probabilities(columns), logits)
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
        kl = lse + self.shift - self.base.lse - self.mean - self.base.entropy
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
    ahead = _ahead(logits, base.top)
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


def _joined(parts: Sequence[Figures]) -> Figures:
    columns = [[getattr(part, name) for part in parts] for name in ("nll", "kl", "ahead")]
    return Figures(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]


def _picked(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return logits.gather(-1, tokens[:, None])[:, 0]


def _take(into: torch.Tensor, logits: torch.Tensor, places: torch.Tensor) -> None:
    """Write the logits at `places` `[n]` into a vector, for the positions whose place is in this slice."""
    inside = (places >= 0) & (places < logits.shape[-1])
    found = logits.gather(-1, places.clamp(0, logits.shape[-1] - 1)[:, None])[:, 0]
    into.copy_(torch.where(inside, found, into))


def _ahead(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return, `[n]`, how many tokens come before `tokens` `[n]`: likelier, or as likely with a lower id."""
    return _ahead_in(logits, tokens, _picked(logits, tokens))


def _ahead_in(logits: torch.Tensor, places: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return how many logits of a slice come before `own` `[n]`, which stands in column `places` `[n]`.

    The column may lie before the slice (negative) or behind it. Before it, equal logits come first: above `own` and
    equal to it is above the next smaller number.
    """
    behind = places >= logits.shape[-1]
    ahead = count_above(logits, torch.where(behind, next_below(own), own))
    inside = ((places >= 0) & ~behind).nonzero()[:, 0]
    if len(inside):
        rows, columns = logits[inside], torch.arange(logits.shape[-1], device=logits.device)
        place, mine = places[inside][:, None], own[inside][:, None]
        before = (rows > mine) | ((rows == mine) & (columns < place))
        ahead[inside] = (before & (columns != place)).sum(-1).float()
    return ahead


def _summary(logits: torch.Tensor, targets: torch.Tensor, keep: bool) -> tuple[torch.Tensor, ...]:
    """Return loss, log-sum-exp, entropy, prediction and, with `keep`, probabilities of whole rows of logits."""
    lse = logits.logsumexp(-1)
    logp = logits - lse[:, None]
    p = logp.exp()
    entropy = -torch.where(p == 0, 0.0, p * logp).sum(-1)
    nll = torch.where(lse.isfinite(), -_picked(logp, targets), torch.nan)
    found = (nll, lse, entropy, logits.argmax(-1))
    return (*found, p) if keep else found


def _tail(model: nn.Module) -> Tail | None:
    """Return what stands behind the layers, or None where that needs more than the last layer's state."""
    try:
        return Tail(model)
    except (AnatomyError, PlanError):
        return None


def _stated_vocab(model: nn.Module) -> int:
    return int(text_config(model).vocab_size)


__all__ = ["BaseSide", "Figures", "Readout", "of_logits"]
