"""What came of a heal: base, cut, stitched and healed side by side on texts that were never trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import nn

from surgery_core.errors import PlanError
from surgery_core.measure.results import Comparison
from surgery_core.statistics.verdict import Verdict, judge_losses
from surgery_core.surgery.marks import mark_of
from surgery_core.suture.healing import Healing, HeldOut, best_of
from surgery_core.suture.lessons import Lessons
from surgery_core.suture.report import StitchReport, plain_value
from surgery_core.text import texts_digest


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
            before = judge_losses(change, units.tokens, units.unit)
        back = (cut - nats) / (cut - base) if number and cut > base else math.nan
        sides.append(Side(name, nats, one.kl, one.top1, back, one.verdict(), before))
    return tuple(sides)


@dataclass(frozen=True, eq=False)
class HealReport:
    """What came of a heal.

    Attributes:
        plan: that was healed, with the stitches that were kept.
        n_layers: that the healed model has.
        sides: base, cut, stitched where something was, and healed.
        held: readings of the texts held out while it was trained; the one with the least loss is kept.
        step, seconds, tokens: steps that were made, seconds that they took, and positions that were trained on.
        slots: that were trained.
        n_trained: numbers in the updates.
        lessons: texts that were trained on and held out.
        settings: how it was trained.
        stopped: whether it was ended before its span was over.
        stitched: what came of the stitches, or None where there was nothing to stitch.
        notes: sentences to be known of it.
    """

    plan: str
    n_layers: int
    sides: tuple[Side, ...]
    held: tuple[HeldOut, ...]
    step: int
    seconds: float
    tokens: int
    slots: tuple[int, ...]
    n_trained: int
    lessons: Lessons
    settings: Healing
    stopped: bool
    stitched: StitchReport | None = None
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> HeldOut:
        """Return the reading of the state that is kept."""
        return best_of(self.held)

    @property
    def back(self) -> float:
        """Return the share of the lost nats that is given back; NaN where the cut costs none."""
        return self.sides[-1].back

    @property
    def sentence(self) -> str:
        """Return what was done, over what, and what it gave back."""
        given = "" if math.isnan(self.back) else f" It gives back {self.back:.0%} of what the cut costs there."
        kept = "" if self.kept.step == self.step else f" The state after step {self.kept.step:,} is kept."
        return " ".join([f"{self.made}{given}{kept}", *self.notes])

    @property
    def made(self) -> str:
        """Return how the weights were made, for a card."""
        stitched = "" if self.stitched is None or not self.stitched.stitches.all else " after a stitch"
        layers = f"{len(self.slots)} layers" if len(self.slots) != 1 else "one layer"
        return (
            f"Healed{stitched}: {self.step:,} steps of low-rank updates (rank {self.settings.rank}) in {layers}, "
            f"{self.tokens:,} tokens of {len(self.lessons.trained):,} texts "
            f"({texts_digest(self.lessons.trained)[:12]}), towards the base's own predictions; judged by "
            f"{len(self.lessons.held):,} others ({texts_digest(self.lessons.held)[:12]})."
        )

    def frame(self) -> pd.DataFrame:
        """Return a line for each model: its figures, and the words and sentences of its verdicts."""
        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Return a record for each model."""
        return [
            {"model": side.name, "nats": side.nats, "perplexity": side.perplexity, "kl": side.kl, "top1": side.top1,
             "back": side.back, **_judged("to_base", side.to_base), **_judged("to_before", side.to_before)}
            for side in self.sides
        ]  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON; NaN as None."""
        sides = [{name: plain_value(value) for name, value in row.items()} for row in self.rows()]
        texts = {
            name: {"titles": [text.title for text in some], "digest": texts_digest(some)}
            for name, some in (("trained", self.lessons.trained), ("held", self.lessons.held))
        }
        return {
            "plan": self.plan, "layers": self.n_layers, "sentence": self.sentence, "made": self.made,
            "back": plain_value(self.back), "models": sides, "steps": self.step, "seconds": self.seconds,
            "tokens": self.tokens, "slots": list(self.slots), "trained_numbers": self.n_trained,
            "stopped": self.stopped, "settings": asdict(self.settings), "kept_step": self.kept.step,
            "held_out": [asdict(one) for one in self.held], "texts": texts,
            "stitched": None if self.stitched is None else self.stitched.plain(), "notes": list(self.notes),
        }  # fmt: skip


def _judged(name: str, verdict: Verdict | None) -> dict[str, str]:
    return {name: "" if verdict is None else verdict.word, f"{name}_said": "" if verdict is None else verdict.sentence}


def heal_report(view: nn.Module) -> HealReport:
    """Return the report of a view that `heal` made.

    Raises:
        PlanError: when it was made otherwise.
    """
    report = mark_of(view, HealReport)
    if report is None:
        raise PlanError("This model has no report of a heal; heal(model, plan, tokenizer, texts) returns one that has.")
    return report
