"""What counts as one where intervals are made: texts, or parts of texts where there are few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

LEAST_TEXTS = 8
"""Texts from which on each of them counts as one."""
BLOCK = 16
"""Tokens of a block, where there are fewer texts: neighbouring blocks of `fable`'s losses no longer hang together."""


@dataclass(frozen=True, eq=False)
class Units:
    """How the scored tokens of some texts, one text after the other, fall into units.

    Attributes:
        kind: `"text"`, `"window"` or `"block"`.
        starts: `[n]`, where each unit begins among all scored tokens.
        sizes: `[n]`, tokens of each.
        firsts: `[n_texts]`, the first unit of each text.
    """

    kind: str
    starts: Array
    sizes: Array
    firsts: Array

    def __len__(self) -> int:
        """Return how many units there are."""
        return len(self.starts)

    @property
    def name(self) -> str:
        """Return what one is, for a sentence: `"text"`, `"window"` or `"block of 16 tokens"`."""
        return f"block of {BLOCK} tokens" if self.kind == "block" else self.kind

    def sums(self, values: Array) -> Array:
        """Return the sums `[..., n]`, in float64, of values `[..., tokens]` of all scored tokens."""
        found: Array = np.add.reduceat(np.asarray(values, dtype=np.float64), self.starts, axis=-1)
        return found

    def by_text(self, sums: Array) -> Array:
        """Return sums of units `[..., n]` as those of whole texts `[..., n_texts]`."""
        found: Array = np.add.reduceat(sums, self.firsts, axis=-1)
        return found

    def of(self, texts: Array, positions: Array) -> Array:
        """Return the units `[k]` of scored tokens, by their text and their position in it (the first scored is 1)."""
        if self.kind != "block":
            return np.asarray(texts)
        last = np.append(self.firsts[1:], len(self)) - 1
        found: Array = np.minimum(self.firsts[texts] + (np.asarray(positions) - 1) // BLOCK, last[texts])
        return found


def units_of(lengths: Sequence[int], whole: Literal["text", "window"] = "text") -> Units:
    """Return the units of texts with so many scored tokens each: whole texts, or blocks where there are fewer than 8.

    Blocks are runs of 16 tokens of one text; what is left over at its end belongs to its last block. `whole` is what the
    texts are: texts, or windows that texts were cut into.
    """
    enough = len(lengths) >= LEAST_TEXTS
    counts = [1 if enough else max(1, length // BLOCK) for length in lengths]
    firsts = np.cumsum([0, *counts[:-1]])
    begins = np.cumsum([0, *lengths[:-1]])
    starts = np.concatenate([begin + BLOCK * np.arange(count) for begin, count in zip(begins, counts, strict=True)])
    sizes = np.diff(np.append(starts, sum(lengths)))
    return Units(whole if enough else "block", starts.astype(np.int64), sizes.astype(np.int64), firsts)
