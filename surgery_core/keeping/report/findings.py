"""What a report shows, measured: recipe -> models -> text, scores, lens, skills, sweep."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

from surgery_core.errors import TextError
from surgery_core.keeping.report.asked import Asked, AskedSweep, Swept
from surgery_core.keeping.report.firm import firm_beginning
from surgery_core.keeping.report.tolerances import tolerances_of
from surgery_core.lenses.files import load_lens
from surgery_core.lenses.fitted import Fitted, lens_for
from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_files import load_beside
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.measure.skills import SkillResult, load_skills, score_skills
from surgery_core.models.offered import located
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.made import made_with
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult, SwapResult
from surgery_core.recipes.run import Report, operated_model, run_recipe
from surgery_core.recipes.scored import swept_texts, texts_of
from surgery_core.recipes.studied import run_study
from surgery_core.recipes.swapped import lens_of_swap, models_of_swap, run_swap, swapped_view
from surgery_core.stopping import Progress, stages
from surgery_core.surgery.view import operate
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import sweep
from surgery_core.text import Text, chat_text

LENS_TOKENS = 40
"""Most tokens of a lens's map."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What was measured.

    Attributes:
        asked: what the report shows.
        report: text and scores before and after.
        firm: a pair a prompt: how many characters of the text before, and after, do not hang on rounding.
        lens: the layers read before and after, or none.
        skills: results before and after, or none.
        swept: the sweep, or None.
        made: with what: versions, and the facts of the model that figures depend on.
        study: what the recipe's study found, or None.
        swap: what its swap did to the text, or None.
        firm_swap: of the swap's texts before, after and swapped, as `firm`; or none.
    """

    asked: Asked
    report: Report
    firm: tuple[tuple[int, int], ...]
    lens: tuple[Trajectory, ...]
    skills: tuple[tuple[SkillResult, ...], ...]
    swept: Swept | None
    made: dict[str, str]
    study: StudyResult | None = None
    swap: SwapResult | None = None
    firm_swap: tuple[int, ...] = ()


def find(
    recipe: Recipe, asked: Asked | None = None, *, loaded: LoadedModel | None = None, device: str = "auto",
    dtype: str = "auto", swept: Swept | None = None, study: StudyResult | None = None, swap_lens: Jacobians | None = None,
    on_progress: Progress | None = None, stop: threading.Event | None = None,
) -> Findings:  # fmt: skip
    """Measure what a report shows.

    Args:
        recipe: the experiment.
        asked: what the report shows.
        loaded: the recipe's model, when it is open already.
        device, dtype: as for `load_model`.
        swept: a sweep that was measured already; it is taken over where it is the one that is asked for, and else run.
        study: what the recipe's study found on this model already; without it the study is run.
        swap_lens: what the recipe's swap reads with, where it is there already.
        on_progress: called with how much of the work is done, and of how much.
        stop: when set, the work ends with `Stopped`.

    Raises:
        RecipeError, ModelLoadError, PlanError, RefusedPlanError: as `run_recipe`.
        TextError: when layers are to be read and the recipe has no text for it.
        LensError: when the model came without a lens that is asked for.
        SettingsError, AnatomyError: when the sweep or the swap does not fit the model.
    """
    asked = asked or Asked()
    base = loaded or load_model(recipe.model, device=device, dtype=dtype, revision=recipe.revision)
    request = None if asked.sweep is None else sweep_request(recipe, asked.sweep, base.info.n_layers)
    wanted = [part for part in ("lens", "skills", "sweep", "swap", "study") if part in asked.parts]
    steps = stages(1 + len(wanted), on_progress)
    ran = _ran(base, recipe, asked, next(steps), stop)
    view = _view(base, ran)
    firm = tuple(_firm(base, view, recipe, one) for one in ran.continuations)
    lens = _read(base, view, recipe, asked, next(steps), stop) if "lens" in asked.parts else ()
    skills = _skills(base, view, next(steps), stop) if "skills" in asked.parts else ()
    found = None if request is None else _swept(base, request, swept, next(steps), stop)
    word, firm_swap = (
        _swapped(base, view, recipe, swap_lens, next(steps), stop) if "swap" in asked.parts else (None, ())
    )
    if "study" in asked.parts and recipe.study is not None and study is None:
        study = run_study(recipe, base, texts_of(recipe), stop=stop, on_progress=next(steps))
    shown = study if "study" in asked.parts else None
    return Findings(asked, ran, firm, lens, skills, found, made_with(base.info), shown, word, firm_swap)


def _ran(
    base: LoadedModel, recipe: Recipe, asked: Asked, update: Progress, stop: threading.Event | None
) -> Report:  # fmt: skip
    """Return the texts and scores of the plan, and of plans beside it where they are shown.

    What is not shown is not measured; a sweep and a study are asked for by themselves.
    """
    plans = recipe.plans if "plans" in asked.parts else ()
    identity = LayerPlan.identity(base.info.n_layers)
    if recipe.plan is None and not plans:
        update(1, 1)
        return Report(recipe, base.info, identity, None, ())
    plain = replace(
        recipe, plan=str(identity) if recipe.plan is None else recipe.plan, plans=plans, sweep=None, swap=None, study=None,
        claim=None, meaning=None, expected=(),
    )  # fmt: skip
    ran = run_recipe(plain, loaded=base, on_progress=update, stop=stop, unproved=asked.unproved)
    return replace(ran, recipe=recipe)


def _view(base: LoadedModel, ran: Report) -> Any:
    """Return the operated model; stitches that were fitted are not fitted again."""
    if ran.stitches is not None:
        return operate(base.model, ran.plan, stitches=ran.stitches.stitches)
    return operated_model(base, ran.plan, unproved=True)


def _firm(base: LoadedModel, view: Any, recipe: Recipe, one: Any) -> tuple[int, int]:
    lead = tolerances_of(base.info.dtype).logits
    sides = ((base.model, one.before), (view, one.after))
    before, after = (firm_beginning(model, base.tokenizer, text, recipe.settings, lead) for model, text in sides)
    return before, after


def _swapped(
    base: LoadedModel, view: Any, recipe: Recipe, fitted: Jacobians | None, update: Progress, stop: threading.Event | None
) -> tuple[SwapResult | None, tuple[int, ...]]:  # fmt: skip
    """Return what the swap does, and how much of each of its texts does not hang on rounding."""
    if recipe.swap is None:
        update(1, 1)
        return None, ()
    lens = lens_of_swap(recipe.swap, base) if fitted is None else fitted
    found = run_swap(recipe, base, view, lens, stop=stop, on_progress=update)
    models = models_of_swap(base, view, swapped_view(recipe.swap, base, view, lens))
    lead = tolerances_of(base.info.dtype).logits
    return found, tuple(
        firm_beginning(models[side], base.tokenizer, text, recipe.settings, lead)
        for side, text in found.written.items()
    )


def lens_text(recipe: Recipe) -> str:
    """Return what is read through a lens.

    Raises:
        TextError: when the recipe has no text for it, and no prompt.
    """
    if not recipe.text_of_lens:
        raise TextError("The recipe has no text for a lens; give it `lens` or a prompt, or leave the part lens out.")
    return recipe.text_of_lens


def _read(
    base: LoadedModel, view: Any, recipe: Recipe, asked: Asked, update: Progress, stop: threading.Event | None
) -> tuple[Trajectory, ...]:  # fmt: skip
    text: Text | str = lens_text(recipe)
    if recipe.chat:
        text = chat_text(base.tokenizer, lens_text(recipe), recipe.system)
    fitted = _fitted(base, asked)
    read = []
    for side, model in enumerate((base.model, view)):
        lens = LogitLens(model) if fitted is None else lens_for(model, fitted)
        read.append(read_lens(lens, model, base.tokenizer, text, max_tokens=LENS_TOKENS, stop=stop))
        update(side + 1, 2)
    return tuple(read)


def _fitted(base: LoadedModel, asked: Asked) -> Fitted | None:
    """Return what the asked lens decodes with; None for the logit lens."""
    place = located(base.info.source)
    if asked.lens == "jacobian":
        return load_beside(place)
    return load_lens(place / "lens") if asked.lens == "tuned" else None


def _skills(
    base: LoadedModel, view: Any, update: Progress, stop: threading.Event | None
) -> tuple[tuple[SkillResult, ...], ...]:  # fmt: skip
    known = load_skills()

    def side(model: Any, number: int) -> tuple[SkillResult, ...]:
        def shifted(done: int, total: int) -> None:
            update(number * total + done, 2 * total)

        return tuple(score_skills(model, base.tokenizer, known, stop=stop, on_progress=shifted))

    return side(base.model, 0), side(view, 1)


def sweep_request(recipe: Recipe, what: AskedSweep, n_layers: int) -> SweepRequest:
    """Return what a report's sweep is asked to do on a model with so many layers, over the recipe's texts.

    Raises:
        SettingsError, PlanError: when it does not fit such a model.
    """
    start = LayerPlan.identity(n_layers) if what.start is None else LayerPlan.parse(what.start, n_layers)
    skills = tuple(load_skills()) if what.skills else ()
    measures = SweepMeasures(skills=skills, prompt=what.prompt, new_tokens=what.new_tokens, best=what.best)
    request = SweepRequest(what.kind, what.options, start, swept_texts(recipe, what.texts), measures)
    _ = request.points
    return request


def _swept(
    base: LoadedModel, request: SweepRequest, given: Swept | None, update: Progress, stop: threading.Event | None
) -> Swept:  # fmt: skip
    if given is not None and given.request == request:
        update(1, 1)
        return given
    rows = sweep(
        base.model, base.tokenizer, request.texts, request.kind, request.options, measures=request.measures,
        start=request.start, stop=stop, on_progress=update,
    )  # fmt: skip
    return Swept(request, tuple(sorted(rows, key=lambda row: row.number)))
