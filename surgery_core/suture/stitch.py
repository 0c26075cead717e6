"""Stitch: make up for deleted layers by one fitted projection a cut.

    view = stitch(model, "0-3,7-11", tokenizer, texts)
    print(stitch_report(view).sentence)

Cuts are fitted one after the other in the order in which they run: what the second one reads is what the model stitched at
the first one hands on, so it also makes up for what that left; the base's stream is what each has to reach.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.measure.readout import Readout
from surgery_core.plans.cuts import Cut, needed_cuts
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import layer_label
from surgery_core.states.windows import window_length
from surgery_core.stopping import Progress, looking, stages
from surgery_core.surgery.adapters import has_adapter
from surgery_core.surgery.anatomy import find_layers, is_quantised, width_of
from surgery_core.surgery.marks import mark
from surgery_core.surgery.stitches import Stitch, Stitches
from surgery_core.surgery.view import check_plan, checked_plan, operate
from surgery_core.suture.fitting import CutSums, Fit, best_share
from surgery_core.suture.reading import CutReader
from surgery_core.suture.report import CutReport, StitchReport
from surgery_core.text import TextsLike, as_texts, texts_digest

HELD_OUT = 8
"""Of so many texts one is held out; of fewer the last one, and of a single text none."""


def stitch(
    model: nn.Module,
    plan: LayerPlan | str,
    tokenizer: Any,
    texts: TextsLike,
    *,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Any:
    """Return the view that a plan with cuts describes, each cut made up for by a fitted projection before it.

    A stitch adds to the last projection of the layer before the cut (its MLP's, or its attention's where the MLP is cut
    away) what brings the stream closest to that of the base where the rest goes on, by ridge regression over the tokens
    of the texts; as much of that is put in as has the least loss on the texts held out. The view shares every tensor with
    the model but those projections, and can be exported as a plain checkpoint. A stitch with which that loss is no lower is
    left out, and the report says so.

    After ReplaceMe (arXiv 2505.02819), which maps the MLP's output; see `suture.fitting`.

    Args:
        model: the base; it is not changed.
        plan: a plan in which layers are missing. With stitches in it (`0-3,~,7-11`) these are fitted; without any
            (`0-3,7-11`), one for every cut that can have one.
        tokenizer: the model's.
        texts: calibration texts, whole: not those on which the result is to be judged. One of eight is held out: ridges
            are chosen by it.
        stop: when set, the work ends with `Stopped`, within a layer's time.
        on_progress: called with (steps done, steps in all).

    Returns:
        The view; `stitch_report(view)` has what came of each cut, and the stitches for `operate` and exports.

    Raises:
        PlanError: when the plan does not fit the model, or nothing is missing behind a stitch or at all.
        RefusedPlanError: when no stitch is possible, or one that the plan has is not; says why.
        TextError: when there is no text, or one of fewer than two tokens.
        Stopped: when `stop` was set.
    """
    plan = checked_plan(plan, len(find_layers(model)[1]))
    chosen = needed_cuts(plan)
    _check_model(model, plan)
    found = as_texts(texts)
    encoded = encode_texts(model, tokenizer, found, window_length(model))
    work = _Work(model, encoded, stop)
    state = _State(Stitches(plan.unstitched, (), texts_digest(found), len(found), sum(map(len, encoded.ids))))
    reports: list[CutReport] = []
    told = stages(1 + 4 * len(chosen), on_progress)
    state = replace(state, nats=work.nats(operate(model, plan.unstitched), next(told)))
    for cut in chosen:
        steps = [next(told) for _ in range(4)]
        try:
            report, state = work.mend(state, cut, steps)
        except RefusedPlanError as error:
            if plan != plan.unstitched or len(chosen) == 1:
                raise
            report = CutReport(_label(cut), cut.missing, kept=False, note=str(error))
        reports.append(report)
        steps[-1](1, 1)
    view = operate(model, state.stitches.plan, stitches=state.stitches)
    mark(view, StitchReport(str(state.stitches.plan), tuple(reports), state.stitches, work.n_held))
    return view


@dataclass(frozen=True, eq=False)
class _State:
    """The stitches so far, and the loss of the model with them."""

    stitches: Stitches
    nats: float = float("nan")

    def with_one_more(self, stitch: Stitch, cut: Cut) -> Stitches:
        """Return these stitches and that of one more cut."""
        plan = self.stitches.plan.stitch(cut.position)
        return replace(self.stitches, plan=plan, all=(*self.stitches.all, stitch))


class _Work:
    """Fits one cut after the other over the same texts."""

    def __init__(self, model: nn.Module, encoded: Encoded, stop: threading.Event | None) -> None:
        self.model = model
        self.look = looking(stop, "Stopped before all texts were read.")
        count = len(encoded.texts)
        held = list(range(HELD_OUT - 1, count, HELD_OUT)) or ([count - 1] if count > 1 else [])
        fitted = [number for number in range(count) if number not in held]
        self.parts = [(encoded.part(numbers).batches, at == 1) for at, numbers in enumerate((fitted, held)) if numbers]
        self.n_held = sum(len(encoded.ids[number]) for number in held)
        self.judges = self.parts[-1][0]

    def nats(self, view: nn.Module, told: Progress) -> float:
        """Return a model's mean loss a token on the texts that judge; infinite where that is no number."""
        readout, total, count = Readout(view), 0.0, 0
        for done, batch in enumerate(self.judges, 1):
            losses = readout.figures(readout.read(batch, self.look), batch.targets, look=self.look).nll
            total, count = total + float(losses.double().sum()), count + len(losses)
            told(done, len(self.judges))
        return math.inf if math.isnan(total) else total / count

    def mend(self, state: _State, cut: Cut, told: Sequence[Progress]) -> tuple[CutReport, _State]:
        """Fit one cut; return what came of it, and the stitches with it, or as they were where it is no better."""
        view = operate(self.model, state.stitches.plan, stitches=state.stitches)
        reader = CutReader(self.model, view, cut, self.parts[0][0][0], self.look)
        report = CutReport(_label(cut), cut.missing, kept=False, projection=reader.projection.path)
        fit = self._fit(reader, told[0])
        if fit is None:
            return replace(report, note="no finite map was found; give more or other texts."), state
        share, found = self._best(state, cut, reader, fit, told[1:])
        kept = found.nats < state.nats
        report = replace(
            report, kept=kept, note=_note(fit, kept), ridge=fit.ridge, share=share, error_before=fit.error_before,
            error_after=fit.error_after, nats_before=state.nats, nats_after=found.nats,
        )  # fmt: skip
        return report, found if kept else state

    def _best(
        self, state: _State, cut: Cut, reader: CutReader, fit: Fit, told: Sequence[Progress]
    ) -> tuple[float, _State]:  # fmt: skip
        """Return the share of a map with which the loss is least, and the stitches with that."""
        module, projection = reader.layer.get_submodule(reader.projection.path), reader.projection

        def tried(share: float, step: Progress) -> tuple[float, _State]:
            weights = projection.added(module, share * fit.change)
            stitches = state.with_one_more(Stitch(replace(cut.layer, stitched=True), projection.path, *weights), cut)
            return share, _State(stitches, self.nats(operate(self.model, stitches.plan, stitches=stitches), step))

        found = [tried(share, step) for share, step in zip((0.5, 1.0), told, strict=False)]
        share = best_share(state.nats, *(one.nats for _, one in found))
        found += [tried(share, told[2])] if share not in (0.0, 0.5, 1.0) else []
        return min(found, key=lambda one: one[1].nats)

    def _fit(self, reader: CutReader, told: Progress) -> Fit | None:
        sums: CutSums | None = None
        total, done = sum(len(batches) for batches, _ in self.parts), 0
        for batches, held in self.parts:
            for batch in batches:
                pairs = reader.pairs(batch)
                sums = sums or CutSums(reader.projection, pairs.inputs.shape[-1], width_of(self.model))
                sums.add(pairs, held=held)
                done += 1
                told(done, total)
        return None if sums is None else sums.solve(self.look)


def _check_model(model: nn.Module, plan: LayerPlan) -> None:
    check_plan(model, plan)
    foreign = [layer for slot in plan for layer in slot.layers if layer.mean or layer.donor is not None]
    if foreign:
        raise RefusedPlanError(
            f"{foreign[0]} cannot stand in a plan that is stitched: what the base hands on is made up for by its own layers."
        )
    if is_quantised(model):
        raise RefusedPlanError("The model is quantised, so its weights cannot take up a map; open the one that is not.")
    if has_adapter(model):
        raise RefusedPlanError(
            "The model has an adapter beside its weights; export it merged, open that, and stitch its cuts."
        )


def _note(fit: Fit, kept: bool) -> str:
    few = ""
    if fit.n_tokens < len(fit.change):
        few = (
            f"{fit.n_tokens:,} tokens are fewer than the {len(fit.change):,} values that the projection reads, so the ridge "
            "penalty decides what they leave open"
        )
    if kept:
        return f"{few}." if few else ""
    return f"left out: the loss on the texts held out is no lower with it.{f' {few}.' if few else ''}"


def _label(cut: Cut) -> str:
    return layer_label(replace(cut.layer, stitched=False))
