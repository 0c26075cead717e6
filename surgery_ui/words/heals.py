"""How stitches and heals read on a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from surgery_core.suture.heal_report import HealReport
from surgery_core.suture.healing import HealProgress, HeldOut, best_of
from surgery_core.suture.sides import Side
from surgery_ui.words import present


def side_table(sides: Sequence[Side], *, whole: bool = False) -> pd.DataFrame:
    """Return base, cut, stitched and healed as lines of text; `whole` for all figures, with the verdict against the base."""
    return pd.DataFrame(
        {
            "": side.name.capitalize(),
            "Loss": present.decimals(side.nats),
            "PPL": present.amount(side.perplexity),
            **(_further(side) if whole else {}),
            "Back": "" if math.isnan(side.back) else f"{side.back:.0%}",
            **({"Verdict": "" if side.to_base is None else side.to_base.word} if whole else {}),
        }
        for side in sides
    ).set_index("")


def _further(side: Side) -> dict[str, str]:
    return {"KL": present.decimals(side.kl), "Top-1 kept": present.share(side.top1)}


def verdicts(sides: Sequence[Side]) -> list[str]:
    """Return what the statistics say of each model against the one before it, and of the healed one against the base."""
    said = [
        f"{side.name.capitalize()}, against {before.name}: {side.to_before.sentence}"
        for before, side in pairwise(sides)
        if side.to_before is not None
    ]
    last = sides[-1]
    return (
        said
        if last.to_base is None
        else [*said, f"{last.name.capitalize()}, against the base: {last.to_base.sentence}"]
    )


def texts_said(report: HealReport) -> str:
    """Return which texts were trained on and which were not."""
    trained, held = report.lessons.trained, report.lessons.held
    more = f"; and {len(held) - 4:,} more" if len(held) > 4 else ""
    titles = "; ".join(text.title for text in held[:4]) + more
    n = f"{len(trained):,} text{'s' if len(trained) != 1 else ''}"
    others = "one that was not" if len(held) == 1 else f"{len(held):,} that were not"
    return f"Trained on {n}. The figures are of {others}: {titles}."


def readings(held: tuple[HeldOut, ...]) -> pd.DataFrame:
    """Return the readings of the texts held out for the chart."""
    kept = best_of(held)
    return pd.DataFrame({"step": one.step, "nats": one.nats, "kept": one is kept} for one in held)


def standing(now: HealProgress) -> str:
    """Return how far the loss on the texts held out has come."""
    return (
        f"Held-out loss {present.decimals(now.held[0].nats)} → {present.decimals(now.best.nats)} nats a token at best"
    )
