"""Setting an experiment up on the page where it is done by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from surgery_core.errors import InputError
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_ui.parts import asked_sweep, places, text_sets
from surgery_ui.parts.swaps import take_swap
from surgery_ui.session import echo, own_texts, session
from surgery_ui.session.state import State, state
from surgery_ui.work import plan_jobs as cached


@dataclass(frozen=True)
class Place:
    """Where an experiment is done by hand: the page, and the callback that fills it in and goes there."""

    title: str
    go: Callable[[], None]


def set_up(now: session.Experiment, recipe: Recipe) -> Place | None:
    """Return where a recipe is done by hand; None where no page does it."""
    if recipe.sweep is not None:
        return Place("Sweep", partial(_sweep, recipe))
    if recipe.lens or recipe.swap is not None:
        return Place("Lens", partial(_lens, recipe))
    if recipe.plans or recipe.plan is not None:
        return Place("Surgery", partial(_surgery, recipe))
    return None


def _surgery(recipe: Recipe) -> None:
    if _plan(recipe):
        if recipe.prompts:
            echo.put(State.prompt.key, recipe.prompts[0])
        places.go_to("surgery")


def _lens(recipe: Recipe) -> None:
    if _plan(recipe) and _guarded(lambda: take_swap(recipe, session.history().plan)):
        echo.put(State.lens.key, recipe.text_of_lens)
        places.go_to("lens")


def _sweep(recipe: Recipe) -> None:
    if _plan(recipe) and _guarded(lambda: asked_sweep.fill(recipe, session.history().plan)):
        places.go_to("sweep")


def _plan(recipe: Recipe) -> bool:
    """Put the recipe's plan, or the first of several, into the strip, and choose its texts; return whether it fits."""
    first = recipe.plans[0].plan if recipe.plan is None and recipe.plans else None

    def planned(old: LayerPlan) -> LayerPlan:
        return recipe.plan_of(old.n_layers) if first is None else LayerPlan.parse(first, old.n_layers)

    if not session.change("gallery", planned):
        return False
    if recipe.text_set is not None:
        if recipe.text_set.texts:
            own_texts.add(recipe.text_set.found())
        if (chosen := own_texts.set_of(recipe)) is not None:
            text_sets.choose(chosen.name)
    if recipe.own_texts:
        state.own = cached.keep_own_text(recipe.own_texts[0])
    state.cut = recipe.cut
    return True


def _guarded(action: Callable[[], object]) -> bool:
    """Do what a button asks for; what is wrong is said beside it."""
    try:
        action()
    except InputError as error:
        session.set_problem("gallery", error)
        return False
    return True
