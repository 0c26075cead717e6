"""Run a recipe's swap: the text of its lens continued by both sides, and once more with one word for another."""

from __future__ import annotations

import threading
from typing import Any

from surgery_core.errors import RecipeError
from surgery_core.lenses.jacobian import JacobianLens, Jacobians
from surgery_core.lenses.jacobian_files import load_beside, load_jacobians
from surgery_core.lenses.swapping import swap, swap_tokens
from surgery_core.measure.generation import complete
from surgery_core.models.offered import located
from surgery_core.models.opening import LoadedModel
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import SwapResult
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_core.states.shared_prompt import SharedPrompt
from surgery_core.stopping import Progress
from surgery_core.surgery.anatomy import plan_of


def swapped_view(choice: SwapChoice, loaded: LoadedModel, view: Any, fitted: Jacobians | None = None) -> Any:
    """Return the side that a swap is of as a view with the swap in it.

    Args:
        choice: what is swapped.
        loaded: the model; it is not changed.
        view: its view that runs the plan.
        fitted: the lens that the choice names, where it is there already.

    Raises:
        LensError: when there is no such lens, it is for another model, or has no matrix for the slot.
        TextError: when a word is not one token of the model.
        SettingsError: when the slot is out of range, or both words are the same token.
    """
    model = loaded.model if choice.side == "before" else view
    lens = JacobianLens(model, lens_of_swap(choice, loaded) if fitted is None else fitted)
    source, target = swap_tokens(loaded.tokenizer, choice.source, choice.target)
    return swap(
        model, lens, choice.slot, source, target, strength=choice.strength, positions=choice.positions,
        follow=choice.follow,
    )  # fmt: skip


def lens_of_swap(choice: SwapChoice, loaded: LoadedModel) -> Jacobians:
    """Return the lens that a swap names, or the one that came with the model. Errors as `load_jacobians`."""
    return load_jacobians(choice.lens) if choice.lens else load_beside(located(loaded.info.source))


def run_swap(
    recipe: Recipe, loaded: LoadedModel, view: Any, fitted: Jacobians | None = None, *,
    stop: threading.Event | None = None, on_progress: Progress | None = None,
) -> SwapResult:  # fmt: skip
    """Continue the text of a recipe's lens before and after surgery and with its swap.

    Args:
        recipe: what is swapped, in which text, and how that is continued.
        loaded, view, fitted: as for `swapped_view`.
        stop: when set, the run ends, and texts end where they are.
        on_progress: called with (texts written, texts in all).

    Raises:
        RecipeError: when the recipe has no swap.
        LensError, SettingsError: as `swapped_view`.
        TextError: also when the text and what is written do not fit the model's context.
        AnatomyError: when single tokens are to be swapped, and the model does not tell its layers which they read.
    """
    if recipe.swap is None:
        raise RecipeError("The recipe has no swap to run; give it [swap] with a slot, a source and a target.")
    swapped = swapped_view(recipe.swap, loaded, view, fitted)
    models = models_of_swap(loaded, view, swapped)
    shared, written = SharedPrompt(loaded.model), {}
    for number, (side, model) in enumerate(models.items(), 1):
        written[side] = complete(
            model, loaded.tokenizer, recipe.text_of_lens, recipe.settings, stop=stop, shared=shared
        )  # fmt: skip
        if on_progress is not None:
            on_progress(number, len(models))
    return SwapResult(recipe.swap, written["before"], written.get("after"), written["swapped"])


def models_of_swap(loaded: LoadedModel, view: Any, swapped: Any) -> dict[str, Any]:
    """Return what writes each text of a swap, by side; a plan that changes nothing has no side of its own."""
    after = {} if plan_of(view).is_identity else {"after": view}
    return {"before": loaded.model} | after | {"swapped": swapped}
