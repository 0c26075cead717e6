"""Search for the layers that can go: one at a time, always the one whose loss stays lowest."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import nn

from surgery_core.errors import SettingsError
from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.stopping import Progress
from surgery_core.surgery.anatomy import find_layers
from surgery_core.sweeps.kinds import SweepPoint
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import TextsLike

MAX_BEAM = 16


@dataclass(frozen=True)
class Removal:
    """One step of a removal curve.

    Attributes:
        layers_left: slots of the plan.
        plan: the best plan of that many slots that was found.
        removed: label of the slot that this step took out of the plan that it came from; empty for the first.
        row: what was measured of it.
    """

    layers_left: int
    plan: LayerPlan
    removed: str
    row: SweepRow


def removal_frame(steps: Sequence[Removal]) -> pd.DataFrame:
    """Return one line a step: number (from 0), layers_left, removed, plan (in notation), and the figures of its row.

    Figures: perplexity, bits_per_byte, kl (nats a token), top1 and skill_accuracy (0 to 1). `low` and `high` are the 95 %
    interval of perplexity, of the same texts before and after; the unchanged model has none to speak of.
    """
    figures = ("perplexity", "bits_per_byte", "kl", "top1", "skill_accuracy")
    return pd.DataFrame(
        {
            "number": number,
            "layers_left": step.layers_left,
            "removed": step.removed,
            "plan": str(step.plan),
            **{name: getattr(step.row, name) for name in figures},
            **dict(zip(("low", "high"), step.row.interval("perplexity"), strict=True)),
        }
        for number, step in enumerate(steps)
    )


def remove_greedily(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    *,
    start: LayerPlan | None = None,
    beam: int = 1,
    least: int = 1,
    measures: SweepMeasures | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Iterator[Removal]:
    """Remove layers one at a time, by measured loss, and yield each step: the removal curve.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: what the loss is measured on.
        start: the plan to begin with; by default the unchanged model.
        beam: how many of the best plans of each size are gone on from, 1 (greedy) to 16.
        least: slots at which the search ends, at least 0.
        measures: what is measured of the best plan of each size besides its loss.
        stop: when set, the search ends with `Stopped`.
        on_progress: called with (plans tried, plans in all, at most).

    Raises:
        SettingsError: for a beam or an end out of range.
        TextError: when there is no text, or one of fewer than two tokens.
    """
    start = LayerPlan.identity(len(find_layers(model)[1])) if start is None else start
    if not 1 <= beam <= MAX_BEAM:
        raise SettingsError(f"A beam of {beam} plans cannot be kept; give 1 to {MAX_BEAM}.")
    if not 0 <= least <= len(start):
        raise SettingsError(f"The search cannot end at {least} layers; give 0 to {len(start)}.")
    encoded = encode_texts(model, tokenizer, texts)
    search = _Search(model, tokenizer, encoded, measures, stop)
    return search.steps(start, beam, least, on_progress)


class _Search:
    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        encoded: Encoded,
        measures: SweepMeasures | None,
        stop: threading.Event | None,
    ) -> None:
        self.model, self.tokenizer, self.encoded = model, tokenizer, encoded
        self.measures, self.stop = measures or SweepMeasures(), stop

    def steps(self, start: LayerPlan, beam: int, least: int, on_progress: Progress | None) -> Iterator[Removal]:
        """Yield the start, then the best plan with one layer less each time, down to `least` layers."""
        yield Removal(len(start), start, "", self._measured(start))
        kept, tried = [start], 0
        most = sum(size * min(beam, len(start) - size + 1) for size in range(least + 1, len(start) + 1))
        while len(kept[0]) > least:
            candidates = _one_less(kept)
            scored: list[tuple[float, int]] = []
            told = _told(tried, most, on_progress)
            for row in self._rows(candidates, beam, told):
                # what is refused, or is no number, cannot be the best
                if not row.refused and not math.isnan(row.nats):
                    scored.append((row.nats, row.number))
            tried += len(candidates)
            if not scored:
                return
            best = [candidates[number] for _, number in sorted(scored)[:beam]]
            kept = [plan for plan, _ in best]
            yield Removal(len(kept[0]), kept[0], best[0][1], self._measured(kept[0]))

    def _rows(self, candidates: Sequence[tuple[LayerPlan, str]], best: int, told: Progress) -> Iterator[SweepRow]:
        """Yield the rows of plans, but for those that are surely not among the best."""
        points = [SweepPoint(number, number, None, plan) for number, (plan, _) in enumerate(candidates)]
        sweep = self._sweep(points, SweepMeasures(agreement=False, best=best))
        return (row for row in sweep.rows(on_progress=told) if row.number >= 0 and not row.left)

    def _measured(self, plan: LayerPlan) -> SweepRow:
        rows = list(self._sweep([SweepPoint(0, len(plan), None, plan)], self.measures).rows())
        return rows[-1]

    def _sweep(self, points: Sequence[SweepPoint], measures: SweepMeasures) -> Sweep:
        return Sweep(self.model, self.tokenizer, self.encoded, points, measures=measures, stop=self.stop)


def _told(before: int, most: int, on_progress: Progress | None) -> Progress:
    """Return what a step's sweep tells of its progress: it goes on from the plans that were tried before."""

    def told(done: int, _: int) -> None:
        if on_progress is not None:
            on_progress(min(before + done, most), most)

    return told


def _one_less(plans: Sequence[LayerPlan]) -> list[tuple[LayerPlan, str]]:
    """Return every plan with one slot less, once each, and the label of that slot."""
    found: dict[LayerPlan, str] = {}
    for plan in plans:
        for position, label in enumerate(slot_labels(plan)):
            found.setdefault(plan.delete(position), label)
    return list(found.items())
