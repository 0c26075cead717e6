"""How a sweep runs: from points to rows, by shared beginnings or, where a model does not allow that, whole."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.failures import FAILURES, failure
from surgery_core.measure.encoding import Encoded
from surgery_core.measure.generation import complete
from surgery_core.measure.readout import BaseSide, Figures, Readout
from surgery_core.measure.skills import SkillResult, score_skill
from surgery_core.measure.sums import Sums, at_least_0
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.beginnings_check import cannot_run_together, cannot_start_in_the_middle
from surgery_core.states.finite import broken_weights, not_finite
from surgery_core.states.shared_beginnings import SharedRuns
from surgery_core.statistics.items import paired_items
from surgery_core.statistics.paired import estimates
from surgery_core.statistics.units import Array
from surgery_core.statistics.verdict import judge_items, judge_losses
from surgery_core.surgery.anatomy import adapters_left_out
from surgery_core.surgery.view import check_operable
from surgery_core.suture.report import stitch_report
from surgery_core.sweeps.kinds import SweepPoint
from surgery_core.sweeps.proofs import SweepProof
from surgery_core.sweeps.rows import RIGHT, WRONG, SweepRow
from surgery_core.sweeps.setup import SweepSetup
from surgery_core.text import Text, encode

KEPT_BYTES = 2**28
"""Most bytes of the base's probabilities that are kept; beyond it they are made again for each plan."""

STACKED_TOKENS = {"cpu": 768, "cuda": 2**14}
"""Tokens up to which plans that end alike run together; beyond it a CPU gains nothing (`docs/log.md`)."""

MOST_TOGETHER = 16
"""Most plans that run at a time; also how many rows come at once."""


class Run:
    """The state of a running sweep: how hidden states are made, the base's side, and the readout.

    Attributes:
        together: how many plans are run at a time.
    """

    def __init__(self, setup: SweepSetup, plans: Sequence[LayerPlan]) -> None:
        self.setup, self.encoded = setup, setup.encoded
        self.note = _why_whole(setup, plans)
        made = _WholeRuns if self.note else _SharedPrefix
        self.runs: _Runs = made(setup, plans)
        self.together = 1 if self.note else _how_many_together(setup, plans)
        self._begun = False

    @cached_property
    def writer(self) -> Writer:
        """Return what makes rows; a race, which has one for all of its runs, never asks for it."""
        return Writer(self.setup)

    def rows(self, points: Sequence[SweepPoint]) -> list[SweepRow]:
        """Return the rows of some points; the first that are asked for are what the others are compared with.

        A plan that is refused, or that the model's own code cannot run, gets a row that says so.
        """
        began = time.perf_counter()
        sums, rows = self.sums(points)
        if not self._begun:
            self.writer.first = sums.get(points[0].number)
            self._begun = True
        rows |= {point.number: self.writer.row(point, sums[point.number]) for point in points if point.number in sums}
        seconds = (time.perf_counter() - began) / len(points)
        return [replace(rows[point.number], seconds=seconds) for point in points]

    def sums(self, points: Sequence[SweepPoint]) -> tuple[dict[int, Sums], dict[int, SweepRow]]:
        """Return what the texts come to under some plans, and the rows of those that cannot run, both by number."""
        refused = {point.number: row for point in points if (row := self._refused(point)) is not None}
        found: dict[int, Sums] = {}
        self._measure([point for point in points if point.number not in refused], found, refused)
        for point in points:
            self.runs.finish(point.plan)
        return found, refused

    def _refused(self, point: SweepPoint) -> SweepRow | None:
        """Return the row of a plan that cannot run on this model, or None for one that may."""
        try:
            check_operable(self.setup.model, point.plan, self.setup.ingredients)
            self.runs.prepare(point.plan)
        except FAILURES as error:
            return _refused(point, error)
        return None

    def _measure(self, points: Sequence[SweepPoint], found: dict[int, Sums], refused: dict[int, SweepRow]) -> None:
        """Measure plans. Where several run together and that fails, each is tried alone."""
        if not points:
            return
        try:
            sums = self._sums(points)
        except FAILURES as error:
            if len(points) == 1:
                refused[points[0].number] = _refused(points[0], error)
                return
            for point in points:
                self._measure([point], found, refused)
        else:
            found |= {point.number: own for point, own in zip(points, sums, strict=True)}

    def _sums(self, points: Sequence[SweepPoint]) -> list[Sums]:
        sums = [Sums(self.encoded.units) for _ in points]
        plans = [point.plan for point in points]
        for number, batch in enumerate(self.encoded.batches):
            for own, figures in zip(sums, self.runs.figures(plans, number), strict=True):
                own.put(batch, figures)
        return sums


class Writer:
    """Makes rows out of what the texts came to under each plan.

    Attributes:
        first: what they came to under the plan that the sweep starts from, once that is known.
        first_answers: to the skills under that plan, as `SweepRow.answers`; empty before, and where they are no numbers.
    """

    def __init__(self, setup: SweepSetup) -> None:
        self.setup, self.encoded = setup, setup.encoded
        self.first: Sums | None = None
        self.first_answers: dict[str, str] = {}
        self._weights = broken_weights(setup.model)
        self._proof = SweepProof(setup.model, setup.tokenizer, setup.ingredients, setup.stop)

    def row(self, point: SweepPoint, sums: Sums) -> SweepRow:
        """Return the row of a plan that was measured over all texts."""
        try:
            extras = self._extras(point.plan)
        except FAILURES as error:
            return _refused(point, error)
        if sums is self.first:
            self.first_answers = extras.get("answers", {})
        else:
            extras |= _answers_against(self.first_answers, extras.get("answers", {}))
        return self._row(point, self.encoded, self.first, sums, **extras)

    def partial(self, point: SweepPoint, sums: Sums, texts: Array, left: str) -> SweepRow:
        """Return the row of a plan that was measured over some texts, by number, before it was `left`."""
        seen = self.encoded.only(texts.tolist())
        first = None if self.first is None else self.first.only(texts, seen.units)
        return self._row(point, seen, first, sums.only(texts, seen.units), left=left)

    def _row(self, point: SweepPoint, encoded: Encoded, first: Sums | None, sums: Sums, **more: Any) -> SweepRow:
        figures = _summary(encoded, sums, agreement=self.setup.measures.agreement)
        try:
            broken = self._broken(point.plan, figures)
            # a plan that computes no numbers says nothing about others of its kind
            unproved = "" if broken else self._proof.problem(point.plan)
        except FAILURES as error:
            return _refused(point, error)
        return SweepRow(
            point.number, point.x, point.y, self._ran(point.plan), not_finite=broken, unproved=unproved,
            **figures, **_against(first, sums), **more,
        )  # fmt: skip

    def _ran(self, plan: LayerPlan) -> str:
        """Return the plan that ran: without a stitch that was left out because it made nothing better."""
        if plan == plan.unstitched or self.setup.stitcher is None:
            return str(plan)
        return stitch_report(self.setup.stitcher.view(plan)).plan

    def _broken(self, plan: LayerPlan, figures: dict[str, Any]) -> str:
        """Return where a plan stops computing numbers; a view is made only where something is wrong."""
        if not math.isnan(figures["nats"]) and not self._weights:
            return ""
        view = self.setup.operate(plan)
        return broken_weights(view) or (
            not_finite(view, self.encoded.batches[0]) if math.isnan(figures["nats"]) else ""
        )

    def _extras(self, plan: LayerPlan) -> dict[str, Any]:
        """Return what is measured on the whole operated model."""
        wanted, tokenizer = self.setup.measures, self.setup.tokenizer
        extras: dict[str, Any] = {}
        if not wanted.skills and wanted.prompt is None:
            return extras
        view = self.setup.operate(plan)
        if wanted.skills:
            results = [score_skill(view, tokenizer, skill, stop=self.setup.stop) for skill in wanted.skills]
            extras["skills"] = {result.skill.title: result.accuracy for result in results}
            extras["answers"] = {result.skill.title: _answers(result) for result in results}
        if wanted.prompt is not None:
            settings = GenerationSettings(max_new_tokens=wanted.new_tokens)
            text = complete(view, tokenizer, wanted.prompt, settings, stop=self.setup.stop)
            ids = encode(tokenizer, Text("The continuation", text.text), least=0)
            extras["distinct"] = tuple(distinct(ids, n) for n in (1, 2, 3))
        return extras


class _Runs:
    """The base's side of a sweep, and how plans are run."""

    def __init__(self, setup: SweepSetup) -> None:
        self.setup, self.batches = setup, setup.encoded.batches
        self.readout = Readout(setup.model)
        self.fits = setup.encoded.n_scored * self.readout.vocab * 4 <= KEPT_BYTES
        self.sides: dict[int, BaseSide] = {}

    def prepare(self, plan: LayerPlan) -> None:
        """Refuse a plan that this model cannot run."""
        raise NotImplementedError

    def figures(self, plans: Sequence[LayerPlan], number: int) -> Iterator[Figures]:
        """Yield the figures of a batch's scored positions under each plan."""
        raise NotImplementedError

    def base_entered(self, number: int) -> torch.Tensor:
        """Return what the readout takes of a batch's scored positions, of the base."""
        raise NotImplementedError

    def finish(self, plan: LayerPlan) -> None:
        """Let go of what only this plan needed."""

    def _side(self, number: int) -> BaseSide | None:
        """Return the base's side of a batch, where agreement with it is asked for."""
        if not self.setup.measures.agreement:
            return None
        if number in self.sides:
            return self.sides[number]
        whole, batch = self.readout.whole, self.batches[number]
        side = self.readout.base_side(
            self.base_entered(number), batch.targets, keep=self.fits and not whole, look=self.setup.look
        )
        if self.fits or not whole:
            self.sides[number] = side
        return side


class _SharedPrefix(_Runs):
    """Plans whose common beginnings run once."""

    def __init__(self, setup: SweepSetup, plans: Sequence[LayerPlan]) -> None:
        super().__init__(setup)
        self.shared = SharedRuns(
            setup.model, self.batches, plans, ingredients=setup.ingredients, memory=setup.memory, stop=setup.stop
        )

    def prepare(self, plan: LayerPlan) -> None:
        """Refuse a plan that this model cannot run."""
        self.shared.prepare(plan)

    def figures(self, plans: Sequence[LayerPlan], number: int) -> Iterator[Figures]:
        """Yield the figures of a batch's scored positions under each plan."""
        side, targets = self._side(number), self.batches[number].targets
        for entered in self._entered(plans, number, side):
            yield self.readout.figures(entered, targets, side, self.setup.look)

    def base_entered(self, number: int) -> torch.Tensor:
        """Return what the readout takes of a batch's scored positions, of the base."""
        return self.readout.scored(self.batches[number], self.shared.base_hidden(number))

    def finish(self, plan: LayerPlan) -> None:
        """Let go of what only this plan needed."""
        self.shared.finish(plan)

    def _entered(self, plans: Sequence[LayerPlan], number: int, side: BaseSide | None) -> Iterator[torch.Tensor]:
        """Yield what the readout takes of a batch's scored positions, under each plan."""
        if side is not None and [plan.is_identity for plan in plans] == [True]:
            yield side.entered
            return
        for hidden in self.shared.hidden(plans, number):
            yield self.readout.scored(self.batches[number], hidden)


class _WholeRuns(_Runs):
    """Plans that are run whole, for models that cannot start in the middle."""

    def __init__(self, setup: SweepSetup, plans: Sequence[LayerPlan]) -> None:
        super().__init__(setup)

    def prepare(self, plan: LayerPlan) -> None:
        """Refuse a plan that this model cannot run."""
        self.setup.operate(plan)

    def figures(self, plans: Sequence[LayerPlan], number: int) -> Iterator[Figures]:
        """Yield the figures of a batch's scored positions under each plan."""
        side, batch, look = self._side(number), self.batches[number], self.setup.look
        for view in map(self.setup.operate, plans):
            readout = self.readout.of_view(view)
            yield readout.figures(readout.read(batch, look, view), batch.targets, side, look)

    def base_entered(self, number: int) -> torch.Tensor:
        """Return what the readout takes of a batch's scored positions, of the base."""
        return self.readout.read(self.batches[number], self.setup.look)


def _refused(point: SweepPoint, error: BaseException) -> SweepRow:
    said = str(error) if isinstance(error, (RefusedPlanError, PlanError)) else failure(error)
    return SweepRow(point.number, point.x, point.y, str(point.plan), refused=said)


def _how_many_together(setup: SweepSetup, plans: Sequence[LayerPlan]) -> int:
    """Return how many plans to run at a time: more than one only for short texts, and where that is exact."""
    batches = setup.encoded.batches
    device = batches[0].input_ids.device.type
    most = STACKED_TOKENS["cpu" if device == "cpu" else "cuda"] // max(batch.input_ids.numel() for batch in batches)
    most = min(most, MOST_TOGETHER)
    if most < 2 or len(plans) < 3 or cannot_run_together(setup.model, batches[0], plans, setup.ingredients, setup.stop):
        return 1
    return most


def _why_whole(setup: SweepSetup, plans: Sequence[LayerPlan]) -> str:
    if any(plan.donors for plan in plans):
        return "Plans with layers of other models are run whole."
    if setup.stitcher is not None:
        return "Plans with stitches are run whole: each has projections of its own."
    if any(adapters_left_out(setup.model, plan) for plan in plans):
        return "Plans without the adapter's part outside of the layers are run whole."
    return cannot_start_in_the_middle(setup.model, setup.encoded.batches[0], plans, setup.ingredients, setup.stop)


def _answers(result: SkillResult) -> str:
    """Return which items of a skill were answered right, as `SweepRow.answers` has it."""
    if math.isnan(result.accuracy):
        return ""
    return "".join(RIGHT if item.correct else WRONG for item in result.items)


def _answers_against(first: Mapping[str, str], own: Mapping[str, str]) -> dict[str, Any]:
    """Return what can be said of the answers to all skills against those under the plan that the sweep starts from."""
    if not first or not all((*first.values(), *own.values())):
        return {}
    found = judge_items(paired_items(*([one == RIGHT for one in "".join(side.values())] for side in (first, own))))
    return {"skill_p": found.p, "skill_verdict": found.word}


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
        "perplexity": math.inf if mean >= 700 else math.exp(mean),
        "bits_per_byte": float(nats.sum()) / math.log(2) / max(1, sum(sum(sizes[1:]) for sizes in encoded.sizes)),
        "texts": dict(zip(titles, (nats / tokens).tolist(), strict=True)),
    }
    if agreement:
        for name in ("kl", "top1", "top5"):
            figures |= _with_interval(sums, name)
    return figures


def _with_interval(sums: Sums, name: str) -> dict[str, float]:
    """Return a figure that is at least 0, or a share, with its interval."""
    found = estimates(sums.by_unit(name), sums.by_unit("tokens"))
    most = math.inf if name == "kl" else 1.0
    low, high = (float(np.clip(end, 0.0, most)) for end in (found.low, found.high))
    return {name: at_least_0(float(found.value)), f"{name}_low": low, f"{name}_high": high}


def _against(first: Sums | None, sums: Sums) -> dict[str, Any]:
    """Return the change of the loss against the plan that the sweep starts from, and what can be said of it."""
    if first is None:
        return {}
    change, tokens = sums.by_unit("nats") - first.by_unit("nats"), sums.by_unit("tokens")
    value = float(change.sum() / tokens.sum())
    if sums is first:
        return {"loss_change": value}
    found = judge_losses(change, tokens, sums.units.name)
    ends = estimates(change, tokens)
    return {
        "loss_change": value,
        "change_low": float(ends.low),
        "change_high": float(ends.high),
        "p": found.p,
        "verdict": found.word,
    }
