"""What measurements return: frozen records, and the tables made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from surgery_core.errors import TextError
from surgery_core.measure.cut import Cut
from surgery_core.statistics.paired import estimates
from surgery_core.statistics.units import Array, units_of
from surgery_core.statistics.verdict import MARGIN, Verdict, checked_margin, judge_losses

Figure = Literal["ratio", "bits_change", "kl", "top1", "top5"]
"""Figures of a comparison that have an interval."""


@dataclass(frozen=True)
class TextScore:
    """The score of one text.

    Attributes:
        title, kind: of the text.
        n_tokens: scored tokens; all but the first.
        n_bytes: UTF-8 bytes that the scored tokens cover.
        nats: summed loss.
        context: tokens that the model read at once.
        stride: tokens between windows, or None where one window was enough.
    """

    title: str
    kind: str
    n_tokens: int
    n_bytes: int
    nats: float
    context: int
    stride: int | None = None

    @property
    def nats_per_token(self) -> float:
        """Return the mean loss a token, in nats."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        """Return exp of the mean loss a token; infinite where that overflows."""
        return _exp(self.nats_per_token)

    @property
    def bits_per_byte(self) -> float:
        """Return the loss in bits a byte of text."""
        return self.nats / math.log(2) / max(1, self.n_bytes)


@dataclass(frozen=True)
class ScoreTable:
    """Scores of several texts, and the pooled figures over all their tokens and bytes.

    Attributes:
        rows: one a text.
        not_finite: empty, or a sentence that says from which layer on the model's states are not numbers; figures of
            texts where that happened are NaN.
        cut: how the texts were joined and cut into windows; None where each was scored for itself.
    """

    rows: tuple[TextScore, ...]
    not_finite: str = ""
    cut: Cut | None = None

    @property
    def n_tokens(self) -> int:
        """Return the number of scored tokens over all texts."""
        return sum(row.n_tokens for row in self.rows)

    @property
    def nats(self) -> float:
        """Return the summed loss over all texts."""
        return math.fsum(row.nats for row in self.rows)

    @property
    def perplexity(self) -> float:
        """Return exp of the mean loss over all tokens of all texts."""
        return _exp(self.nats / self.n_tokens)

    @property
    def bits_per_byte(self) -> float:
        """Return the loss in bits a byte over all texts."""
        return self.nats / math.log(2) / max(1, sum(row.n_bytes for row in self.rows))

    def frame(self) -> pd.DataFrame:
        """Return one line a text: title, kind, tokens, bytes, nats, perplexity, bits_per_byte, context, stride."""
        return pd.DataFrame(
            {
                "title": row.title,
                "kind": row.kind,
                "tokens": row.n_tokens,
                "bytes": row.n_bytes,
                "nats": row.nats,
                "perplexity": row.perplexity,
                "bits_per_byte": row.bits_per_byte,
                "context": row.context,
                "stride": row.stride,
            }
            for row in self.rows
        )


@dataclass(frozen=True, eq=False)
class TokenLosses:
    """Loss of every token of a text before and after surgery, in nats; the first token has none."""

    strings: tuple[str, ...]
    before: np.ndarray[Any, Any]
    after: np.ndarray[Any, Any]

    def frame(self) -> pd.DataFrame:
        """Return one line a token: position, token, loss_before, loss_after, change."""
        before = np.concatenate([[np.nan], self.before])
        after = np.concatenate([[np.nan], self.after])
        columns = {
            "position": np.arange(len(self.strings)),
            "token": list(self.strings),
            "loss_before": before,
            "loss_after": after,
            "change": after - before,
        }
        return pd.DataFrame(columns)


@dataclass(frozen=True, eq=False)
class TextComparison:
    """One text under the base and under the operated model; `kl` in nats a token, `top1` and `top5` 0 to 1.

    `margin` is the share of the perplexity within which the two count as the same.
    """

    before: TextScore
    after: TextScore
    kl: float
    top1: float
    top5: float
    tokens: TokenLosses
    margin: float = MARGIN

    @property
    def ratio(self) -> float:
        """Return perplexity after over perplexity before."""
        return _exp(self.after.nats_per_token - self.before.nats_per_token)

    def verdict(self, margin: float | None = None) -> Verdict:
        """Return whether this text's loss differs, over runs of 16 of its tokens; `margin` in place of its own."""
        return self._verdict if margin in (None, self.margin) else replace(self, margin=margin)._verdict

    @cached_property
    def _verdict(self) -> Verdict:
        change = self.tokens.after.astype(np.float64) - self.tokens.before
        units = units_of([len(change)])
        return judge_losses(units.sums(change), units.sizes, units.name, self.margin)


@dataclass(frozen=True, eq=False)
class UnitSums:
    """Sums over units, of which intervals are made: one array `[n_units]` each.

    Attributes:
        unit: what one is, `"text"` or `"block of 16 tokens"`.
        tokens, bytes: that are scored, and that those cover.
        nats_before, nats_after, kl: in nats.
        top1, top5: how many tokens of the base's are kept.
    """

    unit: str
    tokens: Array
    bytes: Array
    nats_before: Array
    nats_after: Array
    kl: Array
    top1: Array
    top5: Array

    @property
    def change(self) -> Array:
        """Return the loss after less the loss before, `[n_units]`, in nats."""
        return self.nats_after - self.nats_before


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a figure; NaN where there is one unit, or no number."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Texts under the base and under the model that `plan` (in notation) describes.

    Attributes:
        rows: one a text.
        plan: in notation.
        not_finite: empty, or a sentence that says from which layer on the states of one of the two models are not
            numbers; figures of texts where that happened are NaN.
        units: what intervals are made of.
        cut: how the texts were joined and cut into windows; None where each was scored for itself.
        margin: share of the perplexity within which both models count as the same (see `within`).
    """

    rows: tuple[TextComparison, ...]
    plan: str
    not_finite: str
    units: UnitSums
    cut: Cut | None = None
    margin: float = MARGIN

    @property
    def base(self) -> ScoreTable:
        """Return the base's scores."""
        return ScoreTable(tuple(row.before for row in self.rows), cut=self.cut)

    @property
    def operated(self) -> ScoreTable:
        """Return the operated model's scores."""
        return ScoreTable(tuple(row.after for row in self.rows), cut=self.cut)

    @property
    def ratio(self) -> float:
        """Return perplexity after over perplexity before, over all tokens of all texts."""
        return self.operated.perplexity / self.base.perplexity

    @property
    def bits_change(self) -> float:
        """Return bits a byte after less bits a byte before, over all texts."""
        return self.operated.bits_per_byte - self.base.bits_per_byte

    @property
    def kl(self) -> float:
        """Return mean KL(base || operated) over all scored tokens, in nats."""
        return self._pooled("kl")

    @property
    def top1(self) -> float:
        """Return the share of positions where both models predict the same token, 0 to 1."""
        return self._pooled("top1")

    @property
    def top5(self) -> float:
        """Return the share of positions where the base's prediction is in the operated model's top five, 0 to 1."""
        return self._pooled("top5")

    def verdict(self, margin: float | None = None) -> Verdict:
        """Return whether the loss after surgery differs, in a word and a sentence.

        Args:
            margin: share of the perplexity within which both count as the same, in place of the comparison's own.

        Raises:
            SettingsError: when the margin is not between 0 and 1.
        """
        return self._verdict if margin in (None, self.margin) else self.within(margin)._verdict

    @cached_property
    def _verdict(self) -> Verdict:
        return judge_losses(self.units.change, self.units.tokens, self.units.unit, self.margin)

    def within(self, margin: float) -> Comparison:
        """Return the same figures with verdicts that count another share of the perplexity as the same.

        Raises:
            SettingsError: when the margin is not between 0 and 1.
        """
        if margin == self.margin:
            return self
        checked = checked_margin(margin)
        rows = tuple(replace(row, margin=checked) for row in self.rows)
        return replace(self, rows=rows, margin=checked)

    def interval(self, figure: Figure) -> Interval:
        """Return the 95 % interval of `ratio`, `bits_change`, `kl`, `top1` or `top5`, over units (`statistics.paired`).

        A divergence is at least 0 and a share between 0 and 1, and so are their intervals.
        """
        units = self.units
        if figure == "ratio":
            found = estimates(units.change, units.tokens)
            return Interval(_exp(float(found.low)), _exp(float(found.high)))
        if figure == "bits_change":
            found = estimates(units.change / math.log(2), units.bytes)
            return Interval(float(found.low), float(found.high))
        found = estimates(getattr(units, figure), units.tokens)
        most = math.inf if figure == "kl" else 1.0
        return Interval(*(float(np.clip(end, 0.0, most)) for end in (found.low, found.high)))

    def frame(self) -> pd.DataFrame:
        """Return one line a text: title, kind, tokens, perplexity and bits_per_byte _before and _after, ratio, ..."""
        return pd.DataFrame(
            {
                "title": row.before.title,
                "kind": row.before.kind,
                "tokens": row.before.n_tokens,
                "perplexity_before": row.before.perplexity,
                "perplexity_after": row.after.perplexity,
                "ratio": row.ratio,
                "bits_per_byte_before": row.before.bits_per_byte,
                "bits_per_byte_after": row.after.bits_per_byte,
                "kl": row.kl,
                "top1": row.top1,
                "top5": row.top5,
                "verdict": row.verdict().word,
                "context": row.before.context,
                "stride": row.before.stride,
            }
            for row in self.rows
        )

    def token_frame(self) -> pd.DataFrame:
        """Return one line a token of all texts: as `tokens`, and the text's title."""
        rows = [row.tokens for row in self.rows]
        none = np.array([np.nan])
        before, after = (
            np.concatenate([part for row in rows for part in (none, getattr(row, side))])
            for side in ("before", "after")
        )
        counts = [len(row.strings) for row in rows]
        return pd.DataFrame(
            {
                "position": np.concatenate([np.arange(count) for count in counts]),
                "token": [token for row in rows for token in row.strings],
                "loss_before": before,
                "loss_after": after,
                "change": after - before,
                "text": np.repeat([row.before.title for row in self.rows], counts).tolist(),
            }
        )

    def tokens(self, title: str) -> pd.DataFrame:
        """Return one line a token of the text with this title: position, token, loss_before, loss_after, change.

        Raises:
            TextError: when no text has that title.
        """
        for row in self.rows:
            if row.before.title == title:
                return row.tokens.frame()
        raise TextError(f"No text is called {title!r}. There are: {', '.join(r.before.title for r in self.rows)}.")

    def _pooled(self, name: str) -> float:
        weights = [row.before.n_tokens for row in self.rows]
        return math.fsum(getattr(row, name) * weight for row, weight in zip(self.rows, weights, strict=True)) / sum(
            weights
        )


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
