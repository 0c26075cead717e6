"""Search for the layers that can go: one at a time, always the one whose loss stays lowest."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from torch import nn

from surgery_core.errors import SettingsError
from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.stopping import Progress
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.ingredients import Ingredients, Means
from surgery_core.sweeps.estimate import removal_plans
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
        row: what was measured of it, as of a sweep: its number is -1 for the first, and then counts removals from 0; `x`
            are the layers left and `y` is the slot that went.
        kept: the best plans of that size, at most as many as the beam is wide: what the search goes on from.
        tried: plans that were tried until then.
    """

    layers_left: int
    plan: LayerPlan
    removed: str
    row: SweepRow
    kept: tuple[LayerPlan, ...] = ()
    tried: int = 0

    @classmethod
    def of(cls, row: SweepRow, n_layers: int) -> Removal:
        """Return the step that a row is of; a search cannot go on from it.

        Args:
            row: of a step.
            n_layers: depth of its model, or more.

        Raises:
            NotationError: when the row's plan is none of such a model.
        """
        plan = LayerPlan.parse(row.plan, n_layers)
        return cls(len(plan), plan, "" if row.y is None else str(row.y), row)


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
    texts: TextsLike | Encoded,
    *,
    start: LayerPlan | None = None,
    beam: int = 1,
    least: int = 1,
    measures: SweepMeasures | None = None,
    donors: Mapping[str, nn.Module] | None = None,
    means: Means | None = None,
    before: Removal | None = None,
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
        donors: the models of a starting plan's donor layers, by name.
        means: of the layers that it replaces by theirs.
        before: a step that the same search came to; it goes on behind it, and what follows is what would have followed.
        stop: when set, the search ends with `Stopped`.
        on_progress: called with (plans tried, plans in all, at most).

    Raises:
        SettingsError: for a beam or an end out of range, or a step that was not made by a search.
        TextError: when there is no text, or one of fewer than two tokens.
    """
    start = LayerPlan.identity(len(find_layers(model)[1])) if start is None else start
    if not 1 <= beam <= MAX_BEAM:
        raise SettingsError(f"A beam of {beam} plans cannot be kept; give 1 to {MAX_BEAM}.")
    if not 0 <= least <= len(start):
        raise SettingsError(f"The search cannot end at {least} layers; give 0 to {len(start)}.")
    if before is not None and not before.kept:
        raise SettingsError("A search cannot go on from a step of a file; give one that `remove_greedily` made.")
    encoded = texts if isinstance(texts, Encoded) else encode_texts(model, tokenizer, texts)
    search = _Search(model, tokenizer, encoded, measures, Ingredients(donors or {}, means), stop)
    return search.steps(start, beam, least, before, on_progress)


class _Search:
    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        encoded: Encoded,
        measures: SweepMeasures | None,
        given: Ingredients,
        stop: threading.Event | None,
    ) -> None:
        self.given = given
        self.model, self.tokenizer, self.encoded = model, tokenizer, encoded
        self.measures, self.stop = measures or SweepMeasures(), stop

    def steps(
        self, start: LayerPlan, beam: int, least: int, before: Removal | None, on_progress: Progress | None
    ) -> Iterator[Removal]:
        """Yield the start, then the best plan with one layer less each time, down to `least` layers."""
        at = before
        if at is None:
            at = Removal(len(start), start, "", self._measured(start, -1, ""), (start,))
            yield at
        most = removal_plans(start, beam, least)
        while at is not None and at.layers_left > least:
            at = self._step(at, len(start), beam, _told(at.tried, most, on_progress))
            if at is not None:
                yield at

    def _step(self, before: Removal, length: int, beam: int, told: Progress) -> Removal | None:
        """Return the next step of a search that began with so many slots, or None where no plan comes to figures."""
        candidates = _one_less(before.kept)
        # what is refused, or is no number, cannot be the best
        rows = [row for row in self._rows(candidates, beam, told) if not row.refused and not math.isnan(row.nats)]
        if not rows:
            return None
        best = [candidates[row.number] for row in sorted(rows, key=lambda row: (row.nats, row.number))[:beam]]
        plan, removed = best[0]
        measured = self._measured(plan, length - len(plan) - 1, removed)
        tried = before.tried + len(candidates)
        return Removal(len(plan), plan, removed, measured, tuple(plan for plan, _ in best), tried)

    def _rows(self, candidates: Sequence[tuple[LayerPlan, str]], best: int, told: Progress) -> Iterator[SweepRow]:
        """Yield the rows of plans, but for those that are surely not among the best."""
        points = [SweepPoint(number, number, None, plan) for number, (plan, _) in enumerate(candidates)]
        sweep = self._sweep(points, SweepMeasures(agreement=False, best=best))
        return (row for row in sweep.rows(on_progress=told) if row.number >= 0 and not row.left)

    def _measured(self, plan: LayerPlan, number: int, removed: str) -> SweepRow:
        *_, row = self._sweep([SweepPoint(0, len(plan), removed or None, plan)], self.measures).rows()
        return replace(row, number=number)

    def _sweep(self, points: Sequence[SweepPoint], measures: SweepMeasures) -> Sweep:
        return Sweep(
            self.model, self.tokenizer, self.encoded, points, measures=measures, donors=self.given.donors or None,
            means=self.given.means, stop=self.stop,
        )  # fmt: skip


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
