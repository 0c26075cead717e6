"""The Gallery page's work: a recipe's study, or whatever else it has, run on the open model.

It has the workers of the sweeps: it takes as long, and everybody else's edits are still answered.
"""

from __future__ import annotations

from dataclasses import replace

from surgery_core.errors import PlanError
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult
from surgery_core.recipes.run import Report, run_recipe
from surgery_core.recipes.scored import texts_of
from surgery_core.recipes.studied import run_study
from surgery_ui.work import keep_jobs
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job, Key
from surgery_ui.work.kinds import Lane
from surgery_ui.work.sweep_jobs import SWEEPS
from surgery_ui.work.task import Task

Ran = StudyResult | Report


def study_key(loaded: LoadedModel, recipe: Recipe) -> Key:
    """Return the key under which it is kept what a recipe came to on a model; its words are no part of it."""
    asked = replace(
        recipe, model="any", revision=None, title="", question="", do="", note="", paper=None, meaning=None, expected=()
    )
    return "study", loaded.info.key, asked


def study_job(owner: str, loaded: LoadedModel, recipe: Recipe) -> Job[Ran]:
    """Run a recipe's study; without one, all that it has."""
    return SWEEPS.request(owner, Lane.STUDY, study_key(loaded, recipe), Task(_run, loaded, recipe))


def _run(job: Job[Ran], loaded: LoadedModel, recipe: Recipe) -> Ran:
    if recipe.study is not None:
        return run_study(recipe, loaded, texts_of(recipe), stop=job.stop, on_progress=job.report)
    _check_donors(loaded, recipe)
    keep_jobs.check_swap_lens(recipe)
    return run_recipe(recipe, loaded=loaded, stop=job.stop, on_progress=job.report)


def study_outcome(loaded: LoadedModel, recipe: Recipe) -> Ran | None:
    """Return what a recipe came to on a model, where that is known; nothing is started."""
    job = SWEEPS.outcome(study_key(loaded, recipe))
    return None if job is None or job.error is not None else job.result


def _check_donors(loaded: LoadedModel, recipe: Recipe) -> None:
    """Refuse plans that take layers from a model that is not open: a page does not open one by itself.

    Raises:
        PlanError: names the model.
    """
    n_layers = loaded.info.n_layers
    for plan in (recipe.plan_of(n_layers), *(LayerPlan.parse(one.plan, n_layers) for one in recipe.plans)):
        if closed := sorted(plan.donors - cached.donors(plan).keys()):
            raise PlanError(
                f"The plan takes layers from {closed[0]!r}, which is not open; open it in the picker first."
            )
