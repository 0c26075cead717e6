"""What came of a heal: base, cut, stitched and healed side by side on texts that were never trained on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import nn

from surgery_core.errors import PlanError
from surgery_core.surgery.marks import mark_of
from surgery_core.suture.healing import Healing, HeldOut, best_of
from surgery_core.suture.lessons import Lessons
from surgery_core.suture.report import StitchReport, plain_value
from surgery_core.suture.sides import Side, side_rows
from surgery_core.text import texts_digest


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
        return side_rows(self.sides)

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


def heal_report(view: nn.Module) -> HealReport:
    """Return the report of a view that `heal` made.

    Raises:
        PlanError: when it was made otherwise.
    """
    report = mark_of(view, HealReport)
    if report is None:
        raise PlanError("This model has no report of a heal; heal(model, plan, tokenizer, texts) returns one that has.")
    return report
