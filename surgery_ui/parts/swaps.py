"""A recipe's swap, taken over to the Lens page."""

from __future__ import annotations

import streamlit as st

from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_ui.session.address import LOOKS
from surgery_ui.session.state import state
from surgery_ui.session.swapped import Swapped
from surgery_ui.words.lenses import FOLLOW
from surgery_ui.work.keep_jobs import check_swap_lens
from surgery_ui.work.lens_jobs import JACOBIAN


def take_swap(recipe: Recipe, plan: LayerPlan) -> None:
    """Swap on the Lens page what a recipe swaps, or nothing.

    Args:
        recipe: with a swap, or without.
        plan: the recipe's.

    Raises:
        LensError: when it reads with another lens than the one that came with the model.
        SettingsError: when the plan has no such slot.
    """
    state.swap = None
    if recipe.swap is None:
        return
    check_swap_lens(recipe)
    state.swap = Swapped.of(recipe.model, recipe.swap, plan)
    state.lens_wanted = JACOBIAN
    st.session_state[LOOKS["follow"][0]] = next(title for title, what in FOLLOW.items() if what == recipe.swap.follow)
