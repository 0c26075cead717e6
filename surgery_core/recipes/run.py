"""Run a recipe: recipe -> plan -> view -> measurements -> report."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from surgery_core.measure.compare import compare, reference
from surgery_core.measure.generation import Generation, complete
from surgery_core.measure.results import Comparison
from surgery_core.measure.skills import load_skills
from surgery_core.models.opening import LoadedModel, ModelInfo, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.preflight import prove
from surgery_core.recipes.parts import SweepChoice
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import PlanResult, StudyResult, SwapResult, SweptRows
from surgery_core.recipes.scored import swept_texts, texts_of
from surgery_core.recipes.studied import run_study
from surgery_core.recipes.swapped import run_swap
from surgery_core.states.means import mean_contributions
from surgery_core.states.shared_prompt import SharedPrompt
from surgery_core.stopping import Progress, stages
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.view import operate
from surgery_core.suture.calibration import calibration_texts, check_apart
from surgery_core.suture.report import StitchReport, stitch_report
from surgery_core.suture.stitch import stitch
from surgery_core.sweeps.kinds import sweep_points
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import Text, TextSet, bundled_texts


@dataclass(frozen=True)
class Continuation:
    """What a prompt became with the base model and with the operated one."""

    prompt: str
    before: Generation
    after: Generation


@dataclass(frozen=True)
class Report:
    """What a recipe measured.

    Attributes:
        recipe: what was asked for.
        model: the facts of the model that it ran on, with the revision that was found.
        plan: the operated model's anatomy.
        comparison: scores before and after, or None where the recipe names no texts.
        continuations: one for each prompt.
        plans: the plans that stand side by side, each compared with the unchanged model.
        stitches: what came of the plan's stitches, or None where it has none.
        sweep: what the recipe's sweep measured, or None where it has none.
        study: what its study found, or None likewise.
        swap: what its swap did to the text of its lens, or None likewise.
    """

    recipe: Recipe
    model: ModelInfo
    plan: LayerPlan
    comparison: Comparison | None
    continuations: tuple[Continuation, ...]
    plans: tuple[PlanResult, ...] = ()
    sweep: SweptRows | None = None
    study: StudyResult | None = None
    stitches: StitchReport | None = None
    swap: SwapResult | None = None

    def frame(self) -> pd.DataFrame:
        """Return a row a text with the scores before and after; empty where the recipe names no texts."""
        return self.comparison.frame() if self.comparison else pd.DataFrame()

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain values, for JSON."""
        return {
            "model": asdict(self.model),
            "plan": str(self.plan),
            "recipe": self.recipe.dumps(),
            "prompts": [
                {"prompt": c.prompt, "before": asdict(c.before), "after": asdict(c.after)} for c in self.continuations
            ],
            "texts": self.frame().to_dict("records"),
            "total": _total(self.comparison) if self.comparison else None,
            "cut": _cut(self.comparison),
            "not_finite": self.comparison.not_finite if self.comparison else "",
            "stitches": None if self.stitches is None else self.stitches.plain(),
            "plans": [one.row() for one in self.plans],
            "sweep": None if self.sweep is None else self.sweep.plain(),
            "swap": None if self.swap is None else self.swap.plain(),
            "study": None if self.study is None else self.study.plain(self.recipe),
        }


def run_recipe(
    recipe: Recipe,
    *,
    loaded: LoadedModel | None = None,
    device: str = "auto",
    dtype: str = "auto",
    on_progress: Progress | None = None,
    stop: threading.Event | None = None,
    unproved: bool = False,
    text_set: TextSet | None = None,
    calibration: Sequence[Text] | None = None,
) -> Report:
    """Run an experiment.

    Args:
        recipe: what to measure.
        loaded: the recipe's model, when it is open already.
        device: where to run, as in `load_model`.
        dtype: the number format, as in `load_model`.
        on_progress: called with how much of the work is done, and of how much: tokens of the texts, where they are only
            compared.
        stop: when set, the run ends with `Stopped`.
        unproved: whether to go on where the plan does not pass its checks.
        text_set: the set that the recipe names by its digest, where it does not hold the texts themselves.
        calibration: what stitches are fitted on, where plans have some; by default the bundled set `stories`.

    Raises:
        SettingsError: when stitches would be fitted on a text that is scored.
        RecipeError: when the recipe names a text that is not bundled, or a set that is not there.
        ModelLoadError: when its model cannot be opened.
        PlanError: when its plan does not fit the model, or needs another that does not.
        RefusedPlanError: when its numbers would be wrong on this model; has the nearest plan that is allowed.
        SettingsError: when its sweep, swap or study does not fit the model, or needs a tuned lens and there is none.
        LensError, TextError, AnatomyError: when its swap cannot be done, as `run_swap`.
    """
    texts = texts_of(recipe, text_set)
    base = loaded or load_model(recipe.model, device=device, dtype=dtype, revision=recipe.revision)
    run = _Running(recipe, base, texts, stop, unproved, tuple(calibration or calibration_texts()))
    plan = recipe.plan_of(base.info.n_layers)
    others = (bool(recipe.plans), recipe.sweep is not None, recipe.swap is not None, recipe.study is not None)
    compares = not (plan.is_identity and any(others))
    steps = stages(sum(others) + compares, on_progress)
    continuations, measured, stitched = run.compared(plan, next(steps)) if compares else ((), None, None)
    plans = run.side_by_side(next(steps)) if recipe.plans else ()
    swept = run.swept(recipe.sweep, plan, text_set, next(steps)) if recipe.sweep is not None else None
    word = run.swapped(plan, next(steps)) if recipe.swap is not None else None
    studied = run_study(recipe, base, texts, stop=stop, on_progress=next(steps)) if recipe.study is not None else None
    return Report(recipe, base.info, plan, measured, continuations, plans, swept, studied, stitched, word)


@dataclass(frozen=True, eq=False)
class _Running:
    """The parts of a recipe, each measured on the open model."""

    recipe: Recipe
    base: LoadedModel
    texts: tuple[Text, ...]
    stop: threading.Event | None
    unproved: bool
    calibration: tuple[Text, ...]
    stitched: dict[LayerPlan, Any] = field(default_factory=dict)

    def operated(self, plan: LayerPlan) -> Any:
        """Return a plan's view; its stitches are fitted once, on other texts than are scored."""
        if plan in self.stitched:
            return self.stitched[plan]
        how: dict[str, Any] = {"unproved": self.unproved, "calibration": self.calibration, "stop": self.stop}
        if plan == plan.unstitched:
            return operated_model(self.base, plan, **how)
        check_apart(self.calibration, self.texts)
        self.stitched[plan] = operated_model(self.base, plan, **how)
        return self.stitched[plan]

    def compared(
        self, plan: LayerPlan, on_progress: Progress
    ) -> tuple[tuple[Continuation, ...], Comparison | None, StitchReport | None]:  # fmt: skip
        """Return the texts and the scores before and after, and what came of the plan's stitches."""
        view, tokenizer = self.operated(plan), self.base.tokenizer
        stitched = stitch_report(view) if plan != plan.unstitched else None

        def continued(prompt: str) -> Continuation:
            sides, shared = (self.base.model, view), SharedPrompt(self.base.model)
            before, after = (
                complete(m, tokenizer, prompt, self.recipe.settings, stop=self.stop, shared=shared) for m in sides
            )
            return Continuation(prompt, before, after)

        continuations = tuple(continued(prompt) for prompt in self.recipe.prompts)
        if not self.texts:
            return continuations, None, stitched
        found = compare(self.base.model, view, tokenizer, self.texts, stop=self.stop, on_progress=on_progress)
        return continuations, found.within(self.recipe.margin), stitched

    def side_by_side(self, on_progress: Progress) -> tuple[PlanResult, ...]:
        """Return each plan compared with the unchanged model, which runs once for all of them."""
        given = [(one.name, LayerPlan.parse(one.plan, self.base.info.n_layers)) for one in self.recipe.plans]
        steps, tokenizer = stages(1 + len(given), on_progress), self.base.tokenizer
        base = reference(self.base.model, tokenizer, self.texts, stop=self.stop, on_progress=next(steps))

        def one(name: str, plan: LayerPlan) -> PlanResult:
            view = self.operated(plan)
            found = compare(base, view, tokenizer, self.texts, stop=self.stop, on_progress=next(steps))
            return PlanResult(name, plan, found.within(self.recipe.margin))

        return tuple(one(name, plan) for name, plan in given)

    def swapped(self, plan: LayerPlan, on_progress: Progress) -> SwapResult:
        """Return what the swap does to the text of the lens."""
        return run_swap(self.recipe, self.base, self.operated(plan), stop=self.stop, on_progress=on_progress)

    def swept(
        self, choice: SweepChoice, start: LayerPlan, text_set: TextSet | None, on_progress: Progress
    ) -> SweptRows:  # fmt: skip
        """Return what the sweep measured."""
        start = start if choice.start is None else LayerPlan.parse(choice.start, start.n_layers)
        points, given = sweep_points(choice.kind, start, choice.options), _ingredients(self.base, start)
        skills = tuple(load_skills()) if choice.skills else ()
        measures = SweepMeasures(skills=skills, prompt=choice.prompt or None, best=choice.best)
        texts = swept_texts(self.recipe, choice.texts, text_set)
        sweep = Sweep(
            self.base.model, self.base.tokenizer, texts, points, start=start, donors=given.donors,
            means=given.means, measures=measures, stop=self.stop,
        )  # fmt: skip
        found = sorted(sweep.rows(on_progress=on_progress), key=lambda row: row.number)
        rows = [row.within(self.recipe.margin) for row in found]
        return SweptRows(choice, start, tuple(rows), sweep.note)


def operated_model(
    loaded: LoadedModel, plan: LayerPlan, *, unproved: bool = False, calibration: Sequence[Text] | None = None,
    stop: threading.Event | None = None,
) -> Any:  # fmt: skip
    """Return the view of a loaded model, after getting ready what its plan needs and checking that it is right.

    Models that it takes layers from are opened by name, on the same device; mean contributions are taken over the
    bundled texts; stitches are fitted on `calibration`, by default the bundled set `stories`, and `stitch_report` says
    what came of them.

    Raises:
        ModelLoadError: when a donor cannot be opened.
        PlanError: when the plan does not fit the model, or a donor does not.
        RefusedPlanError: when its numbers would be wrong on this model and `unproved` is not set.
    """
    if plan != plan.unstitched:
        return _stitched(loaded, plan, calibration or calibration_texts(), unproved=unproved, stop=stop)
    given = _ingredients(loaded, plan)
    if not (unproved or plan.is_identity):
        prove(loaded.model, loaded.tokenizer, plan, donors=given.donors, means=given.means, suggest=True)
    return operate(loaded.model, plan, donors=given.donors, means=given.means)


def _stitched(
    loaded: LoadedModel, plan: LayerPlan, calibration: Sequence[Text], *, unproved: bool, stop: threading.Event | None
) -> Any:  # fmt: skip
    view = stitch(loaded.model, plan, loaded.tokenizer, calibration, stop=stop)
    if not unproved:
        stitches = stitch_report(view).stitches
        prove(loaded.model, loaded.tokenizer, stitches.plan, stitches=stitches, suggest=True, stop=stop)
    return view


def _ingredients(loaded: LoadedModel, plan: LayerPlan) -> Ingredients:
    """Return the models that a plan takes layers from, and the mean contributions that it needs."""
    device, dtype = loaded.info.device, loaded.info.dtype
    donors = {name: load_model(name, device=device, dtype=dtype).model for name in sorted(plan.donors)}
    averaged = any(layer.mean for slot in plan for layer in slot.layers)
    return Ingredients(
        donors, mean_contributions(loaded.model, loaded.tokenizer, bundled_texts()) if averaged else None
    )


def _cut(comparison: Comparison | None) -> dict[str, Any] | None:
    """Return how the texts were joined and cut, where they were."""
    cut = None if comparison is None else comparison.cut
    return None if cut is None else asdict(cut) | {"sentence": cut.sentence}


def _total(comparison: Comparison) -> dict[str, Any]:
    before, after = comparison.base, comparison.operated
    return {
        "perplexity_before": before.perplexity,
        "perplexity_after": after.perplexity,
        "bits_per_byte_before": before.bits_per_byte,
        "bits_per_byte_after": after.bits_per_byte,
        "kl": comparison.kl,
        "top1": comparison.top1,
        "top5": comparison.top5,
        "ratio": comparison.ratio,
        **_certainty(comparison),
    }


def _certainty(comparison: Comparison) -> dict[str, Any]:
    """Return what can be said of the ratio of perplexities, and the intervals of the other figures."""
    found, ratio = comparison.verdict(), comparison.interval("ratio")
    others: dict[str, Any] = {}
    for name in ("bits_change", "kl", "top1", "top5"):
        interval = comparison.interval(name)
        others |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {
        "low": ratio.low,
        "high": ratio.high,
        "p": found.p,
        "verdict": found.word,
        "sentence": found.sentence,
        "n_units": found.n_units,
        "unit": found.unit,
        "more_units": found.more,
        "margin": found.margin,
        **others,
    }
