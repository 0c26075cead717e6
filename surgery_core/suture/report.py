"""What came of the stitches of a plan: a line for each cut, kept or left out, and why."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import nn

from surgery_core.errors import PlanError
from surgery_core.surgery.marks import mark_of
from surgery_core.surgery.stitches import Stitches

NAN = float("nan")


@dataclass(frozen=True)
class CutReport:
    """What came of one cut.

    Attributes:
        behind: the slot before it: `L3`.
        missing: the layers that are missing, in words.
        kept: whether the stitch is in the view.
        note: why not, or what is to be known of it; empty where there is nothing.
        projection: path in the layer of what was fitted.
        ridge: penalty, as a share of each input's second moment.
        share: how much of the map was put in, 0 to 1: that with the least loss.
        error_before, error_after: squared distance to the base's stream over the size of that, a mean over the texts held
            out, without and with the whole map.
        nats_before, nats_after: mean loss a token on those texts without and with it, earlier stitches in place.
    """

    behind: str
    missing: str
    kept: bool
    note: str = ""
    projection: str = ""
    ridge: float = NAN
    share: float = NAN
    error_before: float = NAN
    error_after: float = NAN
    nats_before: float = NAN
    nats_after: float = NAN


@dataclass(frozen=True, eq=False)
class StitchReport:
    """What came of the stitches of a plan.

    Attributes:
        plan: of the view, with the stitches that were kept.
        cuts: in order.
        stitches: the fitted projections; `operate` takes them with the plan.
        n_held: tokens of the texts held out, by which ridges were chosen and losses compared; 0 for a single text, which
            was both fitted and compared on.
    """

    plan: str
    cuts: tuple[CutReport, ...]
    stitches: Stitches
    n_held: int

    @property
    def sentence(self) -> str:
        """Return what was done, and over what."""
        kept = [cut for cut in self.cuts if cut.kept]
        left = [f"{cut.behind}: {cut.note}" for cut in self.cuts if not cut.kept]
        done = f"Stitched behind {', '.join(cut.behind for cut in kept)}." if kept else "Nothing was stitched."
        return " ".join([done, *left, self.stitches.note] if kept else [done, *left])

    def frame(self) -> pd.DataFrame:
        """Return one line a cut; columns as in `CutReport`."""
        return pd.DataFrame(self.rows())

    def plain(self) -> dict[str, Any]:
        """Return everything but the matrices as plain values, for JSON; NaN as None."""
        cuts = [{name: plain_value(value) for name, value in row.items()} for row in self.rows()]
        fitted = {"texts": self.stitches.n_texts, "tokens": self.stitches.n_tokens, "digest": self.stitches.texts}
        return {"plan": self.plan, "sentence": self.sentence, "key": self.stitches.key, "fitted": fitted, "cuts": cuts}

    def rows(self) -> list[dict[str, Any]]:
        """Return one record a cut, with the key of the stitches."""
        return [asdict(cut) | {"key": self.stitches.key} for cut in self.cuts]


def plain_value(value: Any) -> Any:
    """Return a value as JSON has it: None for a figure that is no number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def stitch_report(view: nn.Module) -> StitchReport:
    """Return the report of a view that `stitch` made.

    Raises:
        PlanError: when it was made otherwise.
    """
    report = mark_of(view, StitchReport)
    if report is None:
        raise PlanError(
            "This model has no report of stitches; stitch(model, plan, tokenizer, texts) returns one that has."
        )
    return report
