"""Heal: train what is left after a cut a little, towards the base's own predictions.

    view = heal(model, "0-3,7-11", tokenizer, texts, minutes=3)
    print(heal_report(view).sentence)

A cut is stitched first where it can be. Then low-rank updates of the layers around it and behind it are trained on private
clones (`low_rank`), to the least KL from the base (`teaching`). A part of the texts is never trained on: it decides which
state is kept, and the figures are of it. In the end the updates become part of the weights, so the view is an ordinary model
of the same architecture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from surgery_core.errors import InputError, PlanError, RefusedPlanError
from surgery_core.measure.compare import Reference, compare, reference
from surgery_core.models.devices import free_memory
from surgery_core.plans.cuts import cuts
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.folding import folded
from surgery_core.proof.preflight import fingerprint
from surgery_core.stopping import looking
from surgery_core.surgery.adapters import has_adapter
from surgery_core.surgery.anatomy import find_layers, is_quantised
from surgery_core.surgery.marks import mark
from surgery_core.surgery.saving import made_independent
from surgery_core.surgery.view import check_plan, checked_plan, operate
from surgery_core.suture.heal_file import Identity, load_standing, save_standing
from surgery_core.suture.heal_report import HealReport
from surgery_core.suture.healing import Healing, HealProgress, Span
from surgery_core.suture.lessons import Lessons, divided, pieces, steps_of
from surgery_core.suture.low_rank import LowRank
from surgery_core.suture.report import StitchReport, stitch_report
from surgery_core.suture.sides import sides_of
from surgery_core.suture.stitch import stitch
from surgery_core.suture.teaching import Student, Teacher
from surgery_core.suture.trainer import Trainer
from surgery_core.text import TextsLike, texts_digest

Told = Callable[[HealProgress], None]


def heal(
    model: nn.Module,
    plan: LayerPlan | str,
    tokenizer: Any,
    texts: TextsLike,
    *,
    minutes: float = 3.0,
    steps: int | None = None,
    settings: Healing | None = None,
    folder: str | Path | None = None,
    stop: threading.Event | None = None,
    on_progress: Told | None = None,
) -> Any:
    """Return the model that a plan describes, trained a little towards the base's own predictions.

    Low-rank updates (LoRA, with peft's modules) of the layers around the cut and behind it are trained by Adam to the least
    KL(base || healed) on the texts, and then become part of the weights. One of eight texts is held out and never trained
    on; the state that reads those with the least loss is kept, so the result is never worse there than what it began with.

    Args:
        model: the base; it is not changed, and stays the same to the bit.
        plan: whole, half or scaled layers of it, as a checkpoint can hold them. Without stitches its cuts are stitched first
            where they can be; with some (`0-3,~,7-11`) these are.
        tokenizer: the model's.
        texts: what is trained on and held out (`suture.lessons`).
        minutes: of training, more than 0 and at most 600; stitching and the last figures come besides.
        steps: instead of minutes, so many steps: the same seed, texts and settings give the same result then.
        settings: rank, rate and the like.
        folder: where it is written how the training stands, at every reading of the texts held out and at the end; a heal
            that stands there is gone on with. None for nowhere.
        stop: when set, training ends after its step, and the best state so far is the result.
        on_progress: called after each step.

    Returns:
        The view, with weights of its own where something was trained; `heal_report(view)` has what came of it.

    Raises:
        PlanError: when the plan does not fit the model, or is the whole model, so that there is nothing to heal.
        RefusedPlanError: when no layer is left, a checkpoint could not hold the plan, there is too little memory, or the
            model is quantised, has an adapter, is spread out of memory, or computes no numbers; says why.
        TextError: when there is too little text.
        SettingsError: when the settings cannot be, or another heal stands in the folder.
        InputError: when what stands in the folder cannot be read.
        Stopped: when `stop` was set before anything was trained.
    """
    plan = checked_plan(plan, len(find_layers(model)[1]))
    settings, span = settings or Healing(), Span.of(minutes, steps)
    _check(model, plan)
    work = _Heal(model, plan, tokenizer, divided(texts), settings, span, stop)
    work.train(folder, on_progress)
    return work.result()


def _check(model: nn.Module, plan: LayerPlan) -> None:
    if not len(plan):
        raise RefusedPlanError("Every layer is deleted, so nothing is left to heal; keep at least one.")
    if plan.is_identity:
        raise PlanError(
            f"{plan} is the unchanged model, so there is nothing to heal; cut something first, as in 0-3,7-11."
        )
    check_plan(model, plan)
    if foreign := [str(slot) for slot in plan if slot.own is None]:
        raise RefusedPlanError(
            f"{foreign[0]} cannot be healed: what is trained becomes an ordinary checkpoint, which holds layers of this "
            "model, whole, in half or scaled."
        )
    if is_quantised(model):
        raise RefusedPlanError(
            "The model is quantised, so its weights cannot take up updates; open the one that is not."
        )
    if has_adapter(model):
        raise RefusedPlanError("The model has an adapter beside its weights; export it merged, open that, and heal it.")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise RefusedPlanError("Parts of the model are not in memory, so it cannot be trained; open it on one device.")


class _Heal:
    """One heal: what is compared, what is trained, and what came of it."""

    def __init__(
        self, model: nn.Module, plan: LayerPlan, tokenizer: Any, lessons: Lessons, settings: Healing, span: Span,
        stop: threading.Event | None,
    ) -> None:  # fmt: skip
        self.model, self.plan, self.tokenizer, self.lessons = model, plan, tokenizer, lessons
        self.settings, self.span, self.stop = settings, span, stop
        self.look = looking(stop, "Stopped before anything was trained.")
        self.windows = pieces(model, tokenizer, lessons, settings.window)
        self.judge = self._judge()
        self.stitched, self.notes = self._stitched(), list[str]()
        self.start = self.plan if self.stitched is None else self.stitched.stitches.plan
        self.view = self._begun()
        slots = range(max(0, self._first_cut() + 1 - settings.before), len(plan))
        self.updates = LowRank(self.view, plan, slots, settings.rank, settings.seed)
        self.slots = tuple(slots)
        self._require_memory()

    def train(self, folder: str | Path | None, told: Told | None) -> None:
        """Train until the span is over or it is stopped."""
        teacher = Teacher(self.model)
        student, identity = Student(self.view, teacher.readout), {} if folder is None else self._identity()
        standing = None if folder is None else load_standing(folder, identity)
        self.trainer = Trainer(self.updates, teacher, student, self.judge, self.settings, self.span, standing)
        order = steps_of(self.windows, self.settings.tokens_per_step, self.settings.seed, self.trainer.now.step)
        if not self.trainer.now.held:
            self.trainer.check(self.look)
        while self.trainer.share < 1 and not self._is_stopped():
            kl = self.trainer.step(next(order), lambda: None)
            if self.trainer.is_check_due:
                self.trainer.check(lambda: None)
                self._save(folder, identity)
            if told is not None:
                told(self.trainer.progress(kl))
        self._end(folder, identity)

    def result(self) -> Any:
        """Return the view with the best state in its weights, and its report."""
        now, n_trained = self.trainer.now, sum(one.numel() for one in self.updates.matrices.values())
        made_independent(self.view)
        report = HealReport(
            str(self.start), len(self.plan), sides_of(self._compared()), now.held, now.step, now.seconds, now.tokens, self.slots, n_trained,
            self.lessons, self.settings, self._is_stopped(), self.stitched, tuple(self.notes),
        )  # fmt: skip
        mark(self.view, report)
        return self.view

    def _judge(self) -> Reference:
        found = reference(self.model, self.tokenizer, self.lessons.held, stop=self.stop)
        if found.not_finite:
            raise RefusedPlanError(
                f"Nothing can be trained towards predictions that are no numbers. {found.not_finite}"
            )
        return found

    def _stitched(self) -> StitchReport | None:
        """Return what came of stitching what can be; None where nothing can, or it is not wanted."""
        asked = self.plan != self.plan.unstitched
        if not asked and not (self.settings.stitch and cuts(self.plan)):
            return None
        try:
            return stitch_report(stitch(self.model, self.plan, self.tokenizer, self.lessons.trained, stop=self.stop))
        except RefusedPlanError:
            if asked:
                raise
            return None

    def _begun(self) -> Any:
        return folded(self.model, self.start, None if self.stitched is None else self.stitched.stitches)

    def _first_cut(self) -> int:
        """Return the slot before the first cut; -1 where something else was changed, so that all layers are trained."""
        return next((cut.position for cut in cuts(self.plan)), -1)

    def _compared(self) -> dict[str, Any]:
        views = {"cut": operate(self.model, self.plan.unstitched)}
        if self.stitched is not None and (stitches := self.stitched.stitches).all:
            views["stitched"] = operate(self.model, stitches.plan, stitches=stitches)
        views["healed"] = self.view
        return {name: compare(self.judge, view, self.tokenizer, self.lessons.held) for name, view in views.items()}

    def _is_stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    def _end(self, folder: str | Path | None, identity: Identity) -> None:
        if self.trainer.now.held[-1].step != self.trainer.now.step:
            self.trainer.check(lambda: None)
        self._save(folder, identity)
        self.trainer.finish()

    def _save(self, folder: str | Path | None, identity: Identity) -> None:
        """Write how the training stands; where that fails, it goes on without, and the report says so."""
        if folder is None:
            return
        try:
            save_standing(folder, self.trainer.standing(), identity)
            self.notes.clear()
        except InputError as error:
            self.notes[:] = [str(error)]

    def _identity(self) -> Identity:
        settings = asdict(self.settings) | {"steps": self.span.steps, "seconds": str(self.span.seconds)}
        texts = {name: texts_digest(getattr(self.lessons, name)) for name in ("trained", "held")}
        return {"model": fingerprint(self.model), "plan": str(self.plan), **texts, **settings}

    def _require_memory(self) -> None:
        """Refuse what would not fit: matrices with their moments, weights of its own, and states that gradients need."""
        matrices = sum(one.numel() for one in self.updates.matrices.values())
        layers = find_layers(self.view)[1]
        weights = sum(one.numel() for slot in self.slots for one in layers[slot].parameters())
        tokens = max(self.settings.tokens_per_step, max(len(window.ids) for window in self.windows))
        widths = sum(sum(one.shape) for one in self.updates.matrices.values())
        needed = 4 * (6 * matrices + weights + 3 * tokens * widths)
        if needed > (free := free_memory()):
            raise RefusedPlanError(
                f"Training this needs about {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free; take a "
                "smaller model or a smaller rank, or close models that are open."
            )


__all__ = ["heal"]
