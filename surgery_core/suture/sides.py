"""A cut and what mends it, side by side: base, cut, stitched, healed, with figures and verdicts over the same texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from surgery_core.measure.results import Comparison
from surgery_core.statistics.verdict import Verdict, judge_losses


@dataclass(frozen=True, eq=False)
class Side:
    """One model of a heal, on the texts held out.

    Attributes:
        name: `"base"`, `"cut"`, `"stitched"` or `"healed"`.
        nats: mean loss a token.
        kl: mean KL(base || this) in nats a token, at least 0.
        top1: share of the base's predictions that it keeps, 0 to 1.
        back: share of the nats that the cut costs which is given back; NaN for base and cut, or where the cut costs none.
        to_base: whether its loss differs from the base's; None for the base.
        to_before: whether it differs from that of the model before it in the row; None for base and cut.
    """

    name: str
    nats: float
    kl: float
    top1: float
    back: float
    to_base: Verdict | None = None
    to_before: Verdict | None = None

    @property
    def perplexity(self) -> float:
        """Return exp of the mean loss; infinite where that overflows."""
        return math.exp(self.nats) if self.nats < 700 else math.inf


def sides_of(found: Mapping[str, Comparison]) -> tuple[Side, ...]:
    """Return base and compared models side by side.

    Args:
        found: each compared with the base over the same texts, by name, in order; the first is the cut.
    """
    compared = list(found.items())
    units = compared[0][1].units
    total = float(units.tokens.sum())
    base, cut = float(units.nats_before.sum()) / total, float(units.nats_after.sum()) / total
    sides = [Side("base", base, 0.0, 1.0, math.nan)]
    for number, (name, one) in enumerate(compared):
        nats = float(one.units.nats_after.sum()) / total
        before = None
        if number:
            change = one.units.nats_after - compared[number - 1][1].units.nats_after
            before = judge_losses(change, units.tokens, units.unit, one.margin)
        back = (cut - nats) / (cut - base) if number and cut > base else math.nan
        sides.append(Side(name, nats, one.kl, one.top1, back, one.verdict(), before))
    return tuple(sides)


def side_rows(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Return a record for each model: its figures, and the words and sentences of its verdicts."""
    return [
        {"model": side.name, "nats": side.nats, "perplexity": side.perplexity, "kl": side.kl, "top1": side.top1,
         "back": side.back, **_judged("to_base", side.to_base), **_judged("to_before", side.to_before)}
        for side in sides
    ]  # fmt: skip


def _judged(name: str, verdict: Verdict | None) -> dict[str, str]:
    return {name: "" if verdict is None else verdict.word, f"{name}_said": "" if verdict is None else verdict.sentence}


def given_back(sides: Sequence[Side]) -> str:
    """Return in a sentence or two what the last of some sides gives back of what the cut costs, and whether that is seen.

    Nothing where the cut is not told to be worse than the base, since a share of what may be chance says nothing.
    """
    last, cut = sides[-1], sides[1].to_base
    if last.to_before is None or math.isnan(last.back) or cut is None or cut.word != "worse":
        return ""
    share = f"{100 * last.back:.0f} %" if last.back > 0 else "nothing"
    said = last.to_before.sentence
    against = f"Against {_OBJECTS[sides[-2].name]}: {said[:1].lower()}{said[1:]}"
    return f"{_SUBJECTS[last.name]} gives back {share} of what the cut costs. {against}"


_SUBJECTS = {"stitched": "The stitch", "healed": "The heal"}
_OBJECTS = {"cut": "the plain cut", "stitched": "the stitched model"}


def by_text(cut: Comparison, stitched: Comparison) -> pd.DataFrame:
    """Return the lines of `stitched.frame()` with `perplexity_cut` and `ratio_cut`, those of the plain cut, before its own.

    Both are compared with the same base over the same texts; a ratio is perplexity over the base's.
    """
    plain, mended = cut.frame(), stitched.frame()
    return mended.assign(perplexity_cut=plain["perplexity_after"], ratio_cut=plain["ratio"])
