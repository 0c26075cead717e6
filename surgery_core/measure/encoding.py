"""Texts as tokens, in windows that fit a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from torch import nn

from surgery_core.errors import TextError
from surgery_core.measure.cut import Cut
from surgery_core.states.windows import Batch, Window, batches_of, check_stride, window_length, windows_of
from surgery_core.statistics.units import Array, Units, units_of
from surgery_core.surgery.anatomy import device_of
from surgery_core.text import Text, TextsLike, as_texts, encode, token_bytes, token_strings


@dataclass(frozen=True)
class Encoded:
    """Texts as tokens, cut into windows for one model.

    Attributes:
        texts: what is scored as one text each: those that were given, or the windows of one that is cut.
        ids: token ids a text.
        sizes: UTF-8 bytes a token.
        context, stride: window and stride in tokens.
        batches: all windows, packed.
        given: what was encoded, where it is not `texts`.
        cut: how it was cut, where it was.
    """

    texts: tuple[Text, ...]
    ids: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    strings: tuple[tuple[str, ...], ...]
    context: int
    stride: int
    batches: tuple[Batch, ...]
    given: tuple[Text, ...] = ()
    cut: Cut | None = None

    @property
    def n_scored(self) -> int:
        """Return how many tokens are scored."""
        return sum(len(batch.targets) for batch in self.batches)

    def part(self, numbers: Sequence[int], passes: int = 1) -> Encoded:
        """Return the same texts with the windows of only some of them, by number, to be scored.

        Args:
            numbers: of the texts.
            passes: how many plans are to run together (`states.windows.batches_of`).
        """
        windows = [w for n in numbers for w in windows_of(n, self.ids[n], self.context, self.stride)]
        return replace(self, batches=tuple(batches_of(windows, self.batches[0].input_ids.device, passes)))

    def only(self, numbers: Sequence[int]) -> Encoded:
        """Return only some of the texts, by number, without anything to be scored."""
        return replace(
            self, texts=tuple(self.texts[n] for n in numbers), ids=tuple(self.ids[n] for n in numbers),
            sizes=tuple(self.sizes[n] for n in numbers), strings=tuple(self.strings[n] for n in numbers), batches=(),
        )  # fmt: skip

    @cached_property
    def units(self) -> Units:
        """Return what counts as one in intervals: texts (or windows), or blocks of tokens where there are few."""
        windows = all(text.window is not None for text in self.texts)
        return units_of([len(ids) - 1 for ids in self.ids], "window" if windows else "text")

    @cached_property
    def unit_bytes(self) -> Array:
        """Return how many bytes the scored tokens of each unit cover, `[n_units]`."""
        return self.units.sums(np.concatenate([sizes[1:] for sizes in self.sizes]))


def encode_texts(model: nn.Module, tokenizer: Any, texts: TextsLike, stride: int | None = None) -> Encoded:
    """Return texts as tokens in windows that fit the model. Errors as for `score`."""
    found = as_texts(texts)
    context = window_length(model)
    stride = check_stride(stride, context)
    pieces, cut = _pieces(tokenizer, found, context)
    windows: list[Window] = [w for n, one in enumerate(pieces) for w in windows_of(n, one.ids, context, stride)]
    return Encoded(
        texts=tuple(one.text for one in pieces),
        ids=tuple(one.ids for one in pieces),
        sizes=tuple(one.sizes for one in pieces),
        strings=tuple(tuple(token_strings(tokenizer, one.ids)) for one in pieces),
        context=context,
        stride=stride,
        batches=tuple(batches_of(windows, device_of(model))),
        given=found,
        cut=cut,
    )


@dataclass(frozen=True)
class _Piece:
    """What is scored as one text, with its tokens and the bytes of each."""

    text: Text
    ids: tuple[int, ...]
    sizes: tuple[int, ...]


def _pieces(tokenizer: Any, texts: tuple[Text, ...], context: int) -> tuple[list[_Piece], Cut | None]:
    """Return what is scored as one text each, and how the text that is cut was cut."""
    found: list[_Piece] = []
    cut: Cut | None = None
    for text in texts:
        whole = _whole(tokenizer, text)
        if text.window is None:
            found.append(whole)
        elif cut is not None:
            raise TextError(f"{text.title} is the second text that is cut into windows; join all texts into one.")
        else:
            pieces, cut = _cut(whole, min(text.window, context))
            found += pieces
    return found, cut


def _whole(tokenizer: Any, text: Text) -> _Piece:
    ids = encode(tokenizer, text, least=2)
    return _Piece(text, tuple(ids), tuple(token_bytes(tokenizer, text, ids)))


def _cut(whole: _Piece, window: int) -> tuple[list[_Piece], Cut]:
    count = len(whole.ids) // window
    if not count:
        raise TextError(
            f"{whole.text.title}: {len(whole.ids):,} tokens, fewer than one window of {window:,}. Choose more texts, or "
            "score each of them for itself."
        )
    data, ends = whole.text.text.encode("utf-8", "surrogatepass"), [0, *accumulate(whole.sizes)]
    found = []
    for number in range(count):
        begin, end = number * window, (number + 1) * window
        part = data[ends[begin] : ends[end]].decode("utf-8", "replace")
        title = f"Window {number + 1:,} of {count:,}"
        text = replace(whole.text, title=title, text=part, window=window)
        found.append(_Piece(text, whole.ids[begin:end], whole.sizes[begin:end]))
    return found, Cut(window, count, len(whole.ids) - count * window)
