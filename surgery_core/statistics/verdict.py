"""One word and one sentence for each figure, which anyone reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from surgery_core.errors import SettingsError
from surgery_core.statistics.items import Items
from surgery_core.statistics.paired import LEAST_UNITS, LEVEL, estimates, sign_flip_p
from surgery_core.statistics.power import units_needed
from surgery_core.statistics.units import Array

MARGIN = 0.02
"""Two models count as the same where the interval of their perplexities' ratio lies within this share of 1."""

Word = Literal["worse", "better", "the same", "no difference seen", "too few to say", "no figures"]
_ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class Verdict:
    """What can be said of one difference.

    Attributes:
        word: the verdict.
        sentence: the same in plain words, with the interval.
        value: of the figure: for losses the relative change of perplexity (0.05 is 5 % more), for items the change of
            the share that is right.
        low, high: its 95 % interval.
        p: two-sided.
        n_units: how many units it is made of.
        unit: what one is.
        margin: within which two models count as the same, as a share; 0 for items.
        more: how many more units would decide an open question with 80 % power; None where it is not open, or where
            it would take more than a million.
    """

    word: Word
    sentence: str
    value: float
    low: float
    high: float
    p: float
    n_units: int
    unit: str
    margin: float = MARGIN
    more: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether more texts or items could still decide it."""
        return self.word in ("no difference seen", "too few to say")


def checked_margin(margin: float) -> float:
    """Return a margin that can be one.

    Raises:
        SettingsError: when it is not above 0 and below 1.
    """
    if not 0 < margin < 1:
        raise SettingsError(
            f"Two models cannot count as the same within {100 * margin:g} %; give more than 0 and less than 100 %."
        )
    return float(margin)


def same_within(low: float, high: float, margin: float) -> bool:
    """Whether an interval of mean changes of the loss, in nats, lies within a share of the perplexity."""
    return math.log1p(-margin) <= low and high <= math.log1p(margin)


def judge_losses(change: Array, tokens: Array, unit: str = "text", margin: float = MARGIN) -> Verdict:
    """Return the verdict on the losses of two models.

    Args:
        change: `[n]`, summed loss after less before of each unit, in nats.
        tokens: `[n]`, scored tokens of each.
        unit: what one is called.
        margin: share of the perplexity within which the two count as the same.
    """
    found = estimates(change, tokens)
    p, n = float(sign_flip_p(change)), len(np.asarray(tokens))
    value, low, high, spread = (float(part) for part in (found.value, found.low, found.high, found.spread))
    word = _word(value, low, high, p, n, margin)
    more = _more(value, spread, n, math.log1p(margin)) if word in ("no difference seen", "too few to say") else None
    value, low, high = (_less_1(part) for part in (value, low, high))
    sentence = _losses(word, value, low, high, n, unit, margin) + _and_more(more, unit, word)
    return Verdict(word, sentence, value, low, high, p, n, unit, margin, more)


def losses_said(
    word: str, change: float, low: float, high: float, n_texts: int, margin: float = MARGIN, unit: str = "text"
) -> str:
    """Return what was found of two models' losses before, as a sentence that begins with what the change was.

    Args:
        word: the verdict.
        change: of the mean loss, in nats a token.
        low, high: its 95 % interval.
        n_texts: how many texts it is over.
        margin: share of the perplexity within which the two count as the same.
        unit: what one of them is, `"text"` or `"window"`.
    """
    value, low, high = (_less_1(part) for part in (change, low, high))
    unit = unit if n_texts >= LEAST_UNITS else "run of tokens"
    if word in ("worse", "better", "no figures"):
        return _losses(cast("Word", word), value, low, high, n_texts, unit, margin)
    head = f"{_surprised(value)} by each token"
    if word == "too few to say":
        return f"{head}; too few texts to say whether that is so on others."
    more = _losses(cast("Word", word), value, low, high, n_texts, unit, margin)
    return f"{head} ({more[:1].lower()}{more[1:].rstrip('.')})."


def judge_items(items: Items) -> Verdict:
    """Return the verdict on right and wrong answers."""
    decided = items.p <= _ALPHA and (items.low > 0 or items.high < 0)
    few = not decided and items.n < LEAST_UNITS
    word: Word = "too few to say" if few else "no difference seen"
    if decided:
        word = "better" if items.value > 0 else "worse"
    needed = None if decided else units_needed(items.value, _spread(items))
    more = None if needed is None else max(1, needed - items.n)
    sentence = _items(word, items) + _and_more(more, "item", word)
    return Verdict(word, sentence, items.value, items.low, items.high, items.p, items.n, "item", 0.0, more)


def _spread(items: Items) -> float:
    """Return the standard deviation of an item's change, or of the difference of two items' answers."""
    if items.gained < 0:
        return math.sqrt(sum(right / items.n * (1 - right / items.n) for right in (items.before, items.after)))
    return math.sqrt(max(0.0, (items.gained + items.lost) / items.n - items.value**2))


def _word(value: float, low: float, high: float, p: float, n: int, margin: float) -> Word:
    if math.isnan(value):
        return "no figures"
    if n < LEAST_UNITS:
        return "too few to say"
    if p <= _ALPHA and (low > 0 or high < 0):
        return "worse" if value > 0 else "better"
    return "the same" if same_within(low, high, margin) else "no difference seen"


def _more(value: float, spread: float, n: int, margin: float) -> int | None:
    """Return how many more units either show the difference that was seen, or that it lies within the margin."""
    ways = [units_needed(value, spread)]
    if abs(value) < margin:
        ways.append(units_needed(margin - abs(value), spread))
    known = [way for way in ways if way is not None]
    return max(1, min(known) - n) if known else None


_LIKE = {"text": "texts like these", "window": "windows like these"}
"""What an interval over these units is about."""


def _losses(word: Word, value: float, low: float, high: float, n: int, unit: str, margin: float) -> str:
    if word == "no figures":
        return "There are no figures to compare."
    if word == "too few to say":
        return f"Too few to say: {_counted(n, unit)}, and {LEAST_UNITS} are the least."
    if word == "the same" and low == high == 0:
        return "Exactly the same."
    reach = f"{_span(low, high)} on {_LIKE.get(unit, 'more of the same text')}"
    if word in ("worse", "better"):
        return f"{_surprised(value)} by each token; {reach}."
    head = f"The same within {100 * margin:g} %" if word == "the same" else "No difference seen"
    return f"{head}: {reach}."


def _items(word: Word, items: Items) -> str:
    low, high = (f"{100 * part:+.1f}" for part in (items.low, items.high))
    became = f"{items.gained} became right and {items.lost} wrong, of {_counted(items.n, 'item')}"
    if items.gained < 0:
        became = f"{items.before} right before and {items.after} after, of {_counted(items.n, 'item')} each"
    head = {"better": "Better", "worse": "Worse", "too few to say": "Too few to say"}.get(word, "No difference seen")
    return f"{head}: {became}; between {low} and {high} points on items like these."


def _and_more(more: int | None, unit: str, word: Word) -> str:
    if more is None or word == "too few to say":
        return ""
    return f" About {_counted(_rounded(more), f'more {unit}')} would decide it."


def _surprised(change: float) -> str:
    if change >= 1:
        return f"{_times(1 + change)} as surprised"
    return f"{_percent(abs(change))} {'more' if change > 0 else 'less'} surprised"


def _span(low: float, high: float) -> str:
    """Return an interval of relative changes in words."""
    if high >= 1:
        return f"between {_times(1 + low)} and {_times(1 + high)}"
    if low * high >= 0:
        ends = sorted((abs(low), abs(high)))
        return f"between {_percent(ends[0], sign=False)} and {_percent(ends[1])}"
    return f"between {_percent(-low)} less and {_percent(high)} more surprised"


def _percent(share: float, *, sign: bool = True) -> str:
    """Return a share in percent with two significant digits, at least one decimal below 10."""
    points = 100 * share
    digits = 0 if points >= 9.95 else 1 if points >= 0.095 or points == 0 else 2
    return f"{points:.{digits}f}{' %' if sign else ''}"


def _times(ratio: float) -> str:
    if math.isinf(ratio):
        return "infinitely many times"
    return f"{ratio:,.{0 if ratio >= 99.5 else 1 if ratio >= 9.95 else 2}f} times"


def _counted(n: int, what: str) -> str:
    first, *rest = what.split(" of ", 1)
    plural = first if n == 1 else f"{first}s"
    return " of ".join([f"{n:,} {plural}", *rest])


def _rounded(n: int) -> int:
    """Return a count with two significant digits: it is an estimate."""
    scale = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // scale) * scale


def _less_1(log_ratio: float) -> float:
    try:
        return math.expm1(log_ratio)
    except OverflowError:
        return math.inf


__all__ = ["MARGIN", "Verdict", "Word", "checked_margin", "judge_items", "judge_losses", "losses_said", "same_within"]
