"""Perplexity, and how an operated model's predictions differ from its base's.

Losses are natural logarithms (nats). Perplexity is exp of the mean loss a token (Jelinek et al. 1977); every token
after a text's first is scored once. Bits per byte is the loss in bits over the UTF-8 bytes that the scored tokens
cover, so that models with different tokenizers compare. Sums are in float64.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from surgery_core.errors import TextError
from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.measure.readout import BaseSide, Readout
from surgery_core.measure.results import Comparison, ScoreTable, TextComparison, TextScore, TokenLosses, UnitSums
from surgery_core.measure.sums import Losses, Sums, at_least_0
from surgery_core.states.base_run import BaseRun, can_be_kept
from surgery_core.states.windows import Batch
from surgery_core.stopping import Progress, looking
from surgery_core.surgery.anatomy import base_of, plan_of
from surgery_core.text import TextsLike, as_texts, encode

KEPT_BYTES = 2**28
"""Most bytes of the base's probabilities that a reference keeps; beyond it they are made again for each comparison."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The base model's side of a comparison, computed once.

    Attributes:
        encoded: the texts that it is about.
        losses: nats a scored token, one float32 array a text; NaN where the model's logits are not finite.
        sides: for each batch what comparisons need of the base's predictions; None where that is made again.
        readout: of the base.
        not_finite: empty, or a sentence that says from which layer on the base's states are not numbers.
        run: the base's states, from which views of it start; None where the model does not allow that.
    """

    encoded: Encoded
    losses: tuple[np.ndarray[Any, Any], ...]
    sides: tuple[BaseSide | None, ...]
    readout: Readout
    not_finite: str = ""
    run: BaseRun | None = None

    @property
    def table(self) -> ScoreTable:
        """Return the base's scores, a row a text."""
        return _table(self.encoded, self.losses, self.not_finite)

    def side(self, number: int, look: Callable[[], None] = lambda: None) -> BaseSide:
        """Return the base's side of a batch; where it was too large to keep, the base runs again."""
        kept, batch = self.sides[number], self.encoded.batches[number]
        if kept is not None:
            return kept
        return self.readout.base_side(self.readout.read(batch, look), batch.targets, keep=False, look=look)


def score(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    *,
    stride: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> ScoreTable:
    """Score texts: perplexity, nats and bits a byte, a row a text.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        texts: one string, a list of strings, or titled texts.
        stride: tokens between the windows of a text longer than the context; by default half of it.
        stop: when set, the work ends with `Stopped`, within a layer's or a chunk's time.
        on_progress: called with (tokens done, tokens in all).

    Raises:
        TextError: for a text of fewer than two tokens; it is named.
        SettingsError: for a stride that does not fit the context.
        Stopped: when `stop` was set.
    """
    encoded = encode_texts(model, tokenizer, texts, stride)
    readout, losses, look = Readout(model), Losses(encoded), looking(stop)
    for _, batch in _walk(encoded, look, on_progress):
        losses.put(batch, readout.figures(readout.read(batch, look), batch.targets, look=look).nll)
    return _table(encoded, losses.arrays, losses.not_finite(model))


def reference(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    *,
    stride: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Reference:
    """Score the base once and keep what comparisons with it need. Arguments and errors as for `score`."""
    encoded = encode_texts(model, tokenizer, texts, stride)
    readout, losses, look = Readout(model), Losses(encoded), looking(stop)
    fits = encoded.n_scored * readout.vocab * 4 <= KEPT_BYTES
    run = None if readout.whole or not can_be_kept(model) else BaseRun(model, encoded.batches)
    sides: list[BaseSide | None] = []
    for number, batch in _walk(encoded, look, on_progress):
        # what was read of a model that runs whole are its logits already
        keep = fits and not readout.whole
        entered = readout.read(batch, look) if run is None else readout.scored(batch, run.record(number, look))
        side = readout.base_side(entered, batch.targets, keep=keep, look=look)
        losses.put(batch, side.nll)
        sides.append(side if fits or not readout.whole else None)
    return Reference(encoded, tuple(losses.arrays), tuple(sides), readout, losses.not_finite(model), run)


def compare(
    base: nn.Module | Reference,
    operated: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    *,
    stride: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Comparison:
    """Compare an operated model with its base on texts.

    Args:
        base: the base model, or its `reference` over the same texts, which saves running it again.
        operated: the model to compare.

    Other arguments and errors as for `score`.

    Returns:
        Perplexity on both sides; mean KL(base || operated) in nats a token, at least 0; top-1 agreement (share of
        positions where both predict the same token) and top-5 agreement (share where the base's prediction is
        among the operated model's first five), 0 to 1; and the loss of every token on both sides. Of equally likely
        tokens the one with the lower id comes first.

    Raises:
        TextError: also when a reference is of other texts than these.
        PlanError: when the two models have vocabularies of different sizes.
    """
    if isinstance(base, Reference):
        _check_same(base.encoded, tokenizer, texts, stride)
    else:
        base = reference(base, tokenizer, texts, stride=stride, stop=stop)
    encoded, look = base.encoded, looking(stop)
    readout = base.readout.of_view(operated) if base_of(operated) is base.readout.model else Readout(operated)
    run = base.run if base.run is not None and base.run.starts(operated, look) else None
    losses, sums = Losses(encoded), Sums(encoded.units)
    for number, batch in _walk(encoded, look, on_progress):
        side = base.side(number, look)
        state = None if run is None else run.last(operated, number, look)
        entered = readout.read(batch, look, operated) if state is None else readout.scored(batch, state)
        figures = readout.figures(entered, batch.targets, side, look)
        losses.put(batch, figures.nll)
        sums.put(batch, figures)
    return _comparison(base, losses, sums, operated)


def _walk(encoded: Encoded, look: Callable[[], None], on_progress: Progress | None) -> Iterator[tuple[int, Batch]]:
    done = 0
    for number, batch in enumerate(encoded.batches):
        look()
        yield number, batch
        done += len(batch.targets)
        if on_progress is not None:
            on_progress(done, encoded.n_scored)


def _check_same(encoded: Encoded, tokenizer: Any, texts: TextsLike, stride: int | None) -> None:
    """Refuse to answer for the texts of a reference where others are asked about."""
    found = as_texts(texts)
    held = encoded.given or encoded.texts
    if found != held:
        known, asked = (", ".join(repr(text.title) for text in side[:3]) for side in (held, found))
        raise TextError(
            f"The reference is of {len(held)} texts ({known}) and {len(found)} others are asked about "
            f"({asked}); make a reference of these texts."
        )
    first = encode(tokenizer, found[0], least=2)
    if tuple(first[: len(encoded.ids[0])] if encoded.cut else first) != encoded.ids[0]:
        raise TextError("The reference was made with another tokenizer; make one with this tokenizer.")
    if stride is not None and stride != encoded.stride:
        raise TextError(
            f"The reference was made with a stride of {encoded.stride}, and {stride} is asked for; make one with that."
        )


def _table(encoded: Encoded, losses: Sequence[np.ndarray[Any, Any]], broken: str) -> ScoreTable:
    rows = tuple(_row(encoded, number, array) for number, array in enumerate(losses))
    return ScoreTable(rows, broken, encoded.cut)


def _row(encoded: Encoded, number: int, losses: np.ndarray[Any, Any]) -> TextScore:
    text = encoded.texts[number]
    return TextScore(
        title=text.title,
        kind=text.kind,
        n_tokens=len(losses),
        n_bytes=sum(encoded.sizes[number][1:]),
        nats=float(losses.astype(np.float64).sum()),
        context=text.window or encoded.context,
        stride=encoded.stride if len(encoded.ids[number]) > encoded.context else None,
    )


def _comparison(base: Reference, losses: Losses, sums: Sums, operated: nn.Module) -> Comparison:
    encoded, before = base.encoded, base.table
    broken = losses.not_finite(operated)
    after = _table(encoded, losses.arrays, broken)
    rows = []
    for number, (left, right) in enumerate(zip(before.rows, after.rows, strict=True)):
        kl, top1, top5 = (float(sums.by_text(name)[number]) / left.n_tokens for name in ("kl", "top1", "top5"))
        tokens = TokenLosses(encoded.strings[number], base.losses[number], losses.arrays[number])
        rows.append(TextComparison(left, right, at_least_0(kl), top1, top5, tokens))
    return Comparison(
        tuple(rows), str(plan_of(operated)), broken or base.not_finite, _unit_sums(encoded, base, losses, sums),
        encoded.cut,
    )  # fmt: skip


def _unit_sums(encoded: Encoded, base: Reference, losses: Losses, sums: Sums) -> UnitSums:
    units = encoded.units
    return UnitSums(
        unit=units.name,
        tokens=units.sizes,
        bytes=encoded.unit_bytes,
        nats_before=units.sums(np.concatenate(base.losses)),
        nats_after=units.sums(np.concatenate(losses.arrays)),
        kl=sums.by_unit("kl"),
        top1=sums.by_unit("top1"),
        top5=sums.by_unit("top5"),
    )
