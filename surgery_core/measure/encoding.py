"""Texts as tokens, in windows that fit a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from surgery_core.states.windows import Batch, Window, batches_of, check_stride, window_length, windows_of
from surgery_core.statistics.units import Array, Units, units_of
from surgery_core.surgery.anatomy import device_of
from surgery_core.text import Text, TextsLike, as_texts, encode, token_bytes, token_strings


@dataclass(frozen=True)
class Encoded:
    """Texts as tokens, cut into windows for one model.

    Attributes:
        texts: what was encoded.
        ids: token ids a text.
        sizes: UTF-8 bytes a token.
        context, stride: window and stride in tokens.
        batches: all windows, packed.
    """

    texts: tuple[Text, ...]
    ids: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    strings: tuple[tuple[str, ...], ...]
    context: int
    stride: int
    batches: tuple[Batch, ...]

    @property
    def n_scored(self) -> int:
        """Return how many tokens are scored."""
        return sum(len(batch.targets) for batch in self.batches)

    def part(self, numbers: Sequence[int]) -> Encoded:
        """Return the same texts with the windows of only some of them, by number, to be scored."""
        windows = [w for n in numbers for w in windows_of(n, self.ids[n], self.context, self.stride)]
        return replace(self, batches=tuple(batches_of(windows, self.batches[0].input_ids.device)))

    def only(self, numbers: Sequence[int]) -> Encoded:
        """Return only some of the texts, by number, without anything to be scored."""
        texts, ids, sizes, strings = (
            tuple(column[n] for n in numbers) for column in (self.texts, self.ids, self.sizes, self.strings)
        )
        return Encoded(texts, ids, sizes, strings, self.context, self.stride, ())  # type: ignore[arg-type]

    @cached_property
    def units(self) -> Units:
        """Return what counts as one in intervals: texts, or blocks of tokens where there are few."""
        return units_of([len(ids) - 1 for ids in self.ids])

    @cached_property
    def unit_bytes(self) -> Array:
        """Return how many bytes the scored tokens of each unit cover, `[n_units]`."""
        return self.units.sums(np.concatenate([sizes[1:] for sizes in self.sizes]))


def encode_texts(model: nn.Module, tokenizer: Any, texts: TextsLike, stride: int | None = None) -> Encoded:
    """Return texts as tokens in windows that fit the model. Errors as for `score`."""
    found = as_texts(texts)
    context = window_length(model)
    stride = check_stride(stride, context)
    ids = tuple(tuple(encode(tokenizer, text, least=2)) for text in found)
    windows: list[Window] = [w for n, tokens in enumerate(ids) for w in windows_of(n, tokens, context, stride)]
    device = device_of(model)
    return Encoded(
        texts=found,
        ids=ids,
        sizes=tuple(tuple(token_bytes(tokenizer, text, tokens)) for text, tokens in zip(found, ids, strict=True)),
        strings=tuple(tuple(token_strings(tokenizer, tokens)) for tokens in ids),
        context=context,
        stride=stride,
        batches=tuple(batches_of(windows, device)),
    )
