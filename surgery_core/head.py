"""From what leaves the last layer to figures about the next token, with few logits at a time.

Most models end in a norm and a linear unembedding. Then the vocabulary is walked in slices: a slice's logits for
all positions stay in the processor's cache, and losses, KL and ranks need only sums over the slices. Where something
else comes behind (a scale, a soft cap, a block), the model's own tail makes whole rows of logits, some positions at a
time. Which of the two holds is found by trying, not by the model's class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import find_layers
from surgery_core.slots import become
from surgery_core.tail import CHUNK_ELEMENTS, Tail

SLICE_ELEMENTS = {"cpu": 2**21, "cuda": 2**26}
"""Logits of one slice of the vocabulary: 8 MB in float32 on a CPU, which its cache holds; more on a GPU."""

Look = Callable[[], None]


@dataclass(frozen=True, eq=False)
class BaseSide:
    """The base's predictions at n scored positions, as far as comparisons need them.

    Attributes:
        hidden: `[n, d_model]`, what the base's head is applied to.
        lse: `[n]`, log of the sum of exp over the base's logits.
        entropy: `[n]` in nats.
        top: `[n]`, the base's likeliest token.
        p: `[n, vocab]`, the base's probabilities, or None where they are made again.
    """

    hidden: torch.Tensor
    lse: torch.Tensor
    entropy: torch.Tensor
    top: torch.Tensor
    p: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures of n positions.

    Attributes:
        nll: `[n]`, loss of the right token in nats.
        kl: `[n]`, KL(base || this) in nats, or None where there is no base side.
        above: `[n]`, how many tokens are likelier than the base's likeliest, or None.
    """

    nll: torch.Tensor
    kl: torch.Tensor | None = None
    above: torch.Tensor | None = None


class Passing:
    """An unembedding that hands on what it is given."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return `hidden` `[..., d_model]`."""
        return hidden


class Head:
    """What a model does behind its layers, for figures of many positions.

    Args:
        model: a causal language model, or a view of one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.tail = Tail(model)
        self.unembed: Any = model.get_output_embeddings()  # type: ignore[operator]
        self.vocab = int(self.unembed.weight.shape[0]) if self.unembed is not None else _stated_vocab(model)
        self._norm: Tail | None = self._split(model)

    @property
    def slices(self) -> bool:
        """Whether the vocabulary can be walked in slices."""
        return self._norm is not None

    def enter(self, hidden: torch.Tensor, *, grad: bool = False) -> torch.Tensor:
        """Return what `figures` takes for states `[..., d_model]` as they leave the last layer: normed where sliced.

        With `grad`, gradients flow back to the states.
        """
        return hidden if self._norm is None else self._norm.logits(hidden[None], grad=grad)[0]

    def base_side(self, entered: torch.Tensor, *, keep: bool, look: Look = lambda: None) -> BaseSide:
        """Return the base's side at n positions; with `keep`, its probabilities are kept.

        Args:
            entered: `[n, d_model]`, of `enter`.
            keep: whether the probabilities `[n, vocab]` stay in memory.
            look: called between chunks; it may raise to stop the work.
        """
        with torch.inference_mode():
            parts = [_summary(self._whole(entered[part]), keep) for part in self._parts(entered, look)]
            lse, entropy, top = (torch.cat([part[at] for part in parts]) for at in range(3))
            return BaseSide(entered, lse, entropy, top, torch.cat([part[3] for part in parts]) if keep else None)

    def own_figures(self, base: BaseSide, targets: torch.Tensor) -> Figures:
        """Return the base's figures against itself; only its losses have to be made."""
        if self._norm is None:
            return self.figures(base.hidden, targets, base)
        with torch.inference_mode():
            nothing = torch.zeros_like(base.lse)
            return Figures(base.lse - self._dot(base.hidden, targets), nothing, nothing)

    def figures(
        self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide | None = None, look: Look = lambda: None
    ) -> Figures:
        """Return the figures of n positions.

        Args:
            entered: `[n, d_model]`, of `enter`.
            targets: `[n]`, the right next tokens.
            base: the base's side of the same positions, or None for the loss alone.
            look: called between chunks; it may raise to stop the work.
        """
        with torch.inference_mode():
            if self._norm is not None:
                return self._sliced(entered, targets, base, look)
            parts = [self._part(entered, targets, base, part) for part in self._parts(entered, look)]
        return Figures(
            *(None if parts[0][at] is None else torch.cat([p[at] for p in parts]) for at in range(3))  # type: ignore[arg-type, misc]
        )

    def _part(
        self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide | None, part: slice
    ) -> tuple[torch.Tensor | None, ...]:
        p = None
        if base is not None:
            p = base.p[part] if base.p is not None else self._whole(base.hidden[part]).softmax(-1)
        sides = None if base is None else (base.top[part], base.entropy[part])
        figures = of_logits(self._whole(entered[part]), targets[part], p, sides)
        return figures.nll, figures.kl, figures.above

    def _sliced(self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide | None, look: Look) -> Figures:
        sums: list[torch.Tensor] = []
        own = torch.zeros(0) if base is None else self._dot(entered, base.top)
        mean = above = torch.zeros(len(entered), device=entered.device)
        for columns in self._columns(len(entered)):
            look()
            logits = self._slice(entered, columns)
            if base is not None:
                above = above + _above(logits, own, base.top - columns.start)
                mean = mean + torch.linalg.vecdot(self._p(base, columns), logits)
            sums.append(logits.logsumexp(-1))
        lse = torch.stack(sums).logsumexp(0)
        nll = lse - self._dot(entered, targets)
        return Figures(nll) if base is None else Figures(nll, lse - mean - base.entropy, above)

    def _p(self, base: BaseSide, columns: slice) -> torch.Tensor:
        if base.p is not None:
            return base.p[:, columns]
        return (self._slice(base.hidden, columns) - base.lse[:, None]).exp_()

    def _slice(self, entered: torch.Tensor, columns: slice) -> torch.Tensor:
        bias = None if self.unembed.bias is None else self.unembed.bias[columns]
        logits: torch.Tensor = nn.functional.linear(entered, self.unembed.weight[columns], bias).float()
        return logits

    def _dot(self, entered: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logit of one token a position, rounded as the model's own."""
        products = torch.linalg.vecdot(entered.float(), self.unembed.weight[tokens].float())
        if self.unembed.bias is not None:
            products = products + self.unembed.bias[tokens].float()
        rounded: torch.Tensor = products.to(entered.dtype).float()
        return rounded

    def _whole(self, entered: torch.Tensor) -> torch.Tensor:
        """Return logits `[n, vocab]` in float32."""
        with torch.inference_mode():
            if self._norm is not None:
                return self._slice(entered, slice(None))
            return self.tail.logits(entered[None])[0].float()

    def _parts(self, entered: torch.Tensor, look: Look) -> Iterator[slice]:
        step = max(1, CHUNK_ELEMENTS // self.vocab)
        for at in range(0, len(entered), step):
            look()
            yield slice(at, at + step)

    def _columns(self, rows: int) -> Iterator[slice]:
        elements = SLICE_ELEMENTS["cuda" if self.unembed.weight.device.type != "cpu" else "cpu"]
        width = max(512, elements // max(1, rows))
        for at in range(0, self.vocab, width):
            yield slice(at, at + width)

    def _split(self, model: nn.Module) -> Tail | None:
        """Return a tail that ends before the unembedding, or None where logits are not that linear map's output."""
        if type(self.unembed) is not nn.Linear or self.unembed.weight.device.type == "meta":
            return None
        norm = Tail(model)
        head: Any = norm.model.get_output_embeddings()
        become(head, Passing)
        # a last layer's output has about this size; a soft cap or a scale shows at any
        generator = torch.Generator().manual_seed(0)
        probe = 8 * torch.randn((1, 4, norm.width), generator=generator)
        probe = probe.to(self.unembed.weight.device, next(find_layers(model)[1].parameters()).dtype)
        with torch.inference_mode():
            normed = norm.logits(probe)[0]
            if normed.shape[-1] != self.unembed.weight.shape[1]:
                return None
            ours, own = self.unembed(normed).float(), self.tail.logits(probe)[0].float()
        close = 1e-5 if normed.dtype == torch.float32 else 2e-2
        return norm if float((ours - own).abs().max()) <= close * float(own.abs().max()) else None


def of_logits(
    logits: torch.Tensor,
    targets: torch.Tensor,
    p: torch.Tensor | None = None,
    base: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Figures:
    """Return the figures of logits `[n, vocab]` in float32.

    With z the logits and p the base's probabilities, KL(base || this) is lse(z) - sum(p z) - H(p).

    Args:
        logits: whole rows.
        targets: `[n]`.
        p: `[n, vocab]`, the base's probabilities.
        base: the base's likeliest token `[n]` and its entropy `[n]` in nats.
    """
    if base is None or p is None:
        return Figures(nn.functional.cross_entropy(logits, targets, reduction="none"))
    top, entropy = base
    lse = logits.logsumexp(-1)
    mean = torch.linalg.vecdot(p, logits)
    if mean.isnan().any():
        # a logit of minus infinity where the base has probability 0
        mean = torch.where(p > 0, p * logits, 0.0).sum(-1)
    above = (logits > logits.gather(-1, top[:, None])).sum(-1)
    return Figures(lse - logits.gather(-1, targets[:, None])[:, 0], lse - mean - entropy, above)


def _above(logits: torch.Tensor, own: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """Return how many logits of a slice are above `own`, which is that of column `top` where the slice has it.

    That column itself does not count, however its logit was rounded here.
    """
    inside = (top >= 0) & (top < logits.shape[-1])
    itself = logits.gather(-1, top.clamp(0, logits.shape[-1] - 1)[:, None])[:, 0] > own
    return (logits > own[:, None]).sum(-1) - (inside & itself).long()


def _summary(logits: torch.Tensor, keep: bool) -> tuple[torch.Tensor, ...]:
    lse = logits.logsumexp(-1)
    logp = logits - lse[:, None]
    p = logp.exp()
    entropy = -torch.where(p > 0, p * logp, 0.0).sum(-1)
    return (lse, entropy, logits.argmax(-1), p) if keep else (lse, entropy, logits.argmax(-1))


def _stated_vocab(model: Any) -> int:
    return int(model.config.get_text_config(decoder=True).vocab_size)
