"""How a sweep runs: from points to rows, by shared beginnings or, where a model does not allow that, whole."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.generate import GenerationSettings, complete
from surgery_core.head import BaseSide, Figures, Head, of_logits
from surgery_core.measure import Encoded
from surgery_core.plan import LayerPlan
from surgery_core.prefix import SharedRuns
from surgery_core.prefix_probe import cannot_run_together, cannot_start_in_the_middle
from surgery_core.skills import score_skill
from surgery_core.sweep_plans import SweepPoint
from surgery_core.sweep_rows import SweepRow
from surgery_core.sweep_statistics import Sums, text_bytes
from surgery_core.view import check_operable

if TYPE_CHECKING:
    from surgery_core.sweep import Sweep

KEPT_BYTES = 2**28
"""Most bytes of the base's probabilities that are kept; beyond it they are made again for each plan."""

STACKED_TOKENS = {"cpu": 768, "cuda": 2**14}
"""Tokens up to which plans that end alike run together; beyond it a CPU gains nothing (`docs/log.md`)."""

MOST_TOGETHER = 16
"""Most plans that run at a time; also how many rows come at once."""


class Run:
    """The state of a running sweep: how hidden states are made, the base's side, and the head.

    Attributes:
        together: how many plans are run at a time.
    """

    def __init__(self, sweep: Sweep, plans: Sequence[LayerPlan]) -> None:
        self.sweep, self.encoded = sweep, sweep.encoded
        self.note = _why_whole(sweep, plans)
        made = _WholeRuns if self.note else _SharedPrefix
        self.runs: _WholeRuns | _SharedPrefix = made(sweep, plans)
        self.together = 1 if self.note else _how_many_together(sweep, plans)

    def rows(self, points: Sequence[SweepPoint], before: float | None = None) -> list[SweepRow]:
        """Return the rows of some points; `before` is the starting plan's loss in nats a token."""
        began = time.perf_counter()
        rows: dict[int, SweepRow] = {}
        for point in points:
            try:
                check_operable(self.sweep.model, point.plan, self.sweep.material)
                self.runs.prepare(point.plan)
            except (RefusedPlanError, PlanError) as error:
                rows[point.number] = _refused(point, error)
        running = [point for point in points if point.number not in rows]
        for point, figures in zip(running, self._figures(running), strict=True):
            rows[point.number] = self._row(point, figures, before)
        for point in points:
            self.runs.finish(point.plan)
        seconds = (time.perf_counter() - began) / len(points)
        return [replace(rows[point.number], seconds=seconds) for point in points]

    def _row(self, point: SweepPoint, figures: dict[str, Any], before: float | None) -> SweepRow:
        try:
            extras = self._extras(point.plan)
        except (RefusedPlanError, PlanError) as error:
            return _refused(point, error)
        change = 0.0 if before is None else figures["nats"] - before
        return SweepRow(point.number, point.x, point.y, str(point.plan), loss_change=change, **figures, **extras)

    def _figures(self, points: Sequence[SweepPoint]) -> list[dict[str, Any]]:
        sums = [Sums(len(self.encoded.texts)) for _ in points]
        plans = [point.plan for point in points]
        for number, batch in enumerate(self.encoded.batches):
            for own, figures in zip(sums, self.runs.figures(plans, number), strict=True):
                own.put(batch, figures)
        return [_summary(self.encoded, own, agreement=self.sweep.measures.agreement) for own in sums]

    def _extras(self, plan: LayerPlan) -> dict[str, Any]:
        """Return what is measured on the whole operated model."""
        wanted, tokenizer = self.sweep.measures, self.sweep.tokenizer
        extras: dict[str, Any] = {}
        if not wanted.skills and wanted.prompt is None:
            return extras
        view = self.sweep.operate(plan)
        if wanted.skills:
            results = []
            for skill in wanted.skills:
                self.sweep.look()
                results.append(score_skill(view, tokenizer, skill))
            extras["skills"] = {result.skill.title: result.accuracy for result in results}
        if wanted.prompt is not None:
            settings = GenerationSettings(max_new_tokens=wanted.new_tokens)
            text = complete(view, tokenizer, wanted.prompt, settings, stop=self.sweep.stop)
            ids = tokenizer(text.text)["input_ids"]
            extras["distinct"] = tuple(distinct(ids, n) for n in (1, 2, 3))
        return extras


class _SharedPrefix:
    """Figures of plans whose common beginnings run once."""

    def __init__(self, sweep: Sweep, plans: Sequence[LayerPlan]) -> None:
        self.sweep, self.batches = sweep, sweep.encoded.batches
        self.head = Head(sweep.model)
        self.shared = SharedRuns(
            sweep.model, self.batches, plans, material=sweep.material, memory=sweep.memory, stop=sweep.stop
        )
        n_scored = sum(len(batch.targets) for batch in self.batches)
        self.keep = n_scored * self.head.vocab * 4 <= KEPT_BYTES
        self.base: dict[int, BaseSide] = {}

    def prepare(self, plan: LayerPlan) -> None:
        """Refuse a plan that this model cannot run."""
        self.shared.prepare(plan)

    def figures(self, plans: Sequence[LayerPlan], number: int) -> Iterator[Figures]:
        """Yield the figures of a batch's scored positions under each plan."""
        base = self._base(number) if self.sweep.measures.agreement else None
        targets = self.batches[number].targets
        if base is not None and [plan.is_identity for plan in plans] == [True]:
            yield self.head.own_figures(base, targets)
            return
        for hidden in self.shared.hidden(plans, number):
            yield self.head.figures(self._entered(number, hidden), targets, base, self.sweep.look)

    def finish(self, plan: LayerPlan) -> None:
        """Let go of what only this plan needed."""
        self.shared.finish(plan)

    def _entered(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        batch = self.batches[number]
        return self.head.enter(hidden[batch.rows, batch.columns])

    def _base(self, number: int) -> BaseSide:
        if number not in self.base:
            entered = self._entered(number, self.shared.base_hidden(number))
            self.base[number] = self.head.base_side(entered, keep=self.keep, look=self.sweep.look)
        return self.base[number]


class _WholeRuns:
    """Figures of plans that are run whole, for models that cannot start in the middle."""

    def __init__(self, sweep: Sweep, plans: Sequence[LayerPlan]) -> None:
        self.sweep, self.batches = sweep, sweep.encoded.batches
        self.base: dict[int, torch.Tensor] = {}

    def prepare(self, plan: LayerPlan) -> None:
        """Refuse a plan that this model cannot run."""
        self.sweep.operate(plan)

    def figures(self, plans: Sequence[LayerPlan], number: int) -> Iterator[Figures]:
        """Yield the figures of a batch's scored positions under each plan."""
        targets = self.batches[number].targets
        for plan in plans:
            logits = self._logits(self.sweep.operate(plan), number)
            if not self.sweep.measures.agreement:
                yield of_logits(logits, targets)
                continue
            logp = self._base(number).log_softmax(-1)
            entropy = -torch.where(logp > -torch.inf, logp.exp() * logp, 0.0).sum(-1)
            yield of_logits(logits, targets, logp.exp(), (logp.argmax(-1), entropy))

    def finish(self, plan: LayerPlan) -> None:
        """There is nothing to let go of."""

    def _base(self, number: int) -> torch.Tensor:
        if number in self.base:
            return self.base[number]
        logits = self._logits(self.sweep.model, number)
        if logits.numel() * 4 * len(self.batches) <= KEPT_BYTES:
            self.base[number] = logits
        return logits

    def _logits(self, model: Any, number: int) -> torch.Tensor:
        self.sweep.look()
        batch = self.batches[number]
        with torch.inference_mode():
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        scored: torch.Tensor = logits[batch.rows, batch.columns].float()
        return scored


def _refused(point: SweepPoint, error: Exception) -> SweepRow:
    return SweepRow(point.number, point.x, point.y, str(point.plan), refused=str(error))


def _how_many_together(sweep: Sweep, plans: Sequence[LayerPlan]) -> int:
    """Return how many plans to run at a time: more than one only for short texts, and where that is exact."""
    batches = sweep.encoded.batches
    device = batches[0].input_ids.device.type
    most = STACKED_TOKENS["cpu" if device == "cpu" else "cuda"] // max(batch.input_ids.numel() for batch in batches)
    most = min(most, MOST_TOGETHER)
    if most < 2 or len(plans) < 3 or cannot_run_together(sweep.model, batches[0], plans, sweep.material):
        return 1
    return most


def _why_whole(sweep: Sweep, plans: Sequence[LayerPlan]) -> str:
    if any(layer.donor for plan in plans for slot in plan for layer in slot.layers):
        return "Plans with layers of other models are run whole."
    return cannot_start_in_the_middle(sweep.model, sweep.encoded.batches[0], plans, sweep.material)


def distinct(ids: Sequence[int], n: int) -> float:
    """Return distinct-n: different n-grams over n-grams, 0 to 1 (Li et al., arXiv 1510.03055); NaN where none."""
    grams = [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def _summary(encoded: Encoded, sums: Sums, *, agreement: bool) -> dict[str, Any]:
    nats, tokens = sums.by_text("nats"), sums.by_text("tokens")
    titles = [text.title for text in encoded.texts]
    mean = float(nats.sum() / tokens.sum())
    figures: dict[str, Any] = {
        "nats": mean,
        "perplexity": math.exp(mean) if mean < 700 else math.inf,
        "bits_per_byte": float(nats.sum()) / math.log(2) / max(1, sum(text_bytes(encoded))),
        "texts": dict(zip(titles, (nats / tokens).tolist(), strict=True)),
    }
    if agreement:
        figures |= {"kl": max(0.0, sums.mean("kl")), "top1": sums.mean("top1"), "top5": sums.mean("top5")}
    return figures
