"""The fields that say what to sweep, by their keys: the Sweep page shows them, and other pages may fill them in."""

from __future__ import annotations

import streamlit as st

from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.sweeps.kinds import sweep_kind
from surgery_core.sweeps.options import DAMPINGS, FACTORS, SweepOptions
from surgery_core.text import bundled_prompts
from surgery_ui.session import own_texts
from surgery_ui.session.state import state
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work.kinds import Lane

PICK, OWN = "Pick some", "My own"
"""What can be scored instead of a whole set of texts."""
STRIP, BASE = "The plan in the strip", "The unchanged model"
TAB = "sweep-tab"
"""Key of the page's tabs, which are called as follows."""
SWEEP, IMPORTANCE, REMOVAL = "Sweep", "Importance", "Removal"
TABS = {SWEEP: Lane.SWEEP, IMPORTANCE: Lane.IMPORTANCE, REMOVAL: Lane.SEARCH}
"""What each of them shows: the work of one lane."""
FAMILY, FACTORS_TYPED, PROMPT = "sweep-family", "sweep-factors", "sweep-prompt"
TIMES, LOOPS, SHUFFLE = "sweep-times", "sweep-loops", "sweep-seed"
BLOCK, DAMPING, PARTS_TYPED = "sweep-block", "sweep-damping", "sweep-parts"
"""Keys of the fields that are set elsewhere than where they stand."""
KEEPS_SUM, PARTS = "1 / runs", (0.25, 0.5, 0.75)
"""What a damped repeat can take of what it adds each time: so much that all runs are as long as one, or a part."""


def open_lane() -> Lane:
    """Return the lane whose work the open tab shows."""
    return TABS[st.session_state.get(TAB) or SWEEP]


def open_tab(lane: Lane) -> None:
    """Open the tab that shows the work of a lane."""
    st.session_state[TAB] = next(tab for tab, shown in TABS.items() if shown is lane)


def kind_key(family: str) -> str:
    """Return the key of the choice of a kind within a family."""
    return f"sweep-kind-{family}"


def texts_key(name: str) -> str:
    """Return the key of the choice of texts of a tab."""
    return f"{name}-texts"


def picked_key(name: str) -> str:
    """Return the key of the field of picked texts of a tab."""
    return f"{name}-picked"


def from_key(name: str) -> str:
    """Return the key of the choice of the plan that a tab starts from."""
    return f"{name}-from"


SKILLS, WRITES = "sweep-skills", "sweep-writes"
"""Keys of the switches that say what else is measured."""


def best_key(kind: str) -> str:
    """Return the key of the switch that only looks for the best plans of a kind of sweep."""
    return f"sweep-best-{kind}"


def ask(kind: str, options: SweepOptions | None = None, length: int = 0) -> None:
    """Fill the fields in.

    Args:
        kind: key of the kind of sweep.
        options: what it needs; without any the fields of its options stay as they are.
        length: slots of the plan that the sweep starts from, which some fields are for.
    """
    shown = st.session_state
    families = sweep_words.families(adapter=True)
    family = next(name for name, kinds in families.items() if kind in kinds)
    shown[TAB], shown[FAMILY], shown[kind_key(family)] = SWEEP, family, kind
    if options is None:
        return
    needs = sweep_kind(kind).needs
    if "layer" in needs and length:
        shown[f"sweep-layer-{length}"] = options.position(length)
    if "max_length" in needs and length:
        shown[f"sweep-length-{length}"] = options.longest(length)
    if "times" in needs:
        shown[LOOPS if "length" in needs else TIMES] = options.times
    if "seed" in needs:
        shown[SHUFFLE] = options.seed
    if "length" in needs and length:
        begin, end = options.block(length)
        shown[f"sweep-layer-{length}"], shown[BLOCK] = begin, end - begin
    if "damping" in needs:
        shown[DAMPING] = KEEPS_SUM if options.damping is None else f"{options.damping:g}"
    if "factors" in needs:
        parts = kind == "loop-block"
        given = DAMPINGS if parts and options.factors == FACTORS else options.factors
        shown[PARTS_TYPED if parts else FACTORS_TYPED] = ", ".join(f"{factor:g}" for factor in given)


def fill(recipe: Recipe, plan: LayerPlan) -> bool:
    """Fill the fields in with what a recipe's sweep says; return whether they say all of it.

    Args:
        recipe: one that has a sweep; its texts are those of the session by now.
        plan: the recipe's plan.

    Raises:
        SettingsError, PlanError: when it does not fit the model.
    """
    choice = recipe.sweep
    assert choice is not None
    start = plan if choice.start is None else LayerPlan.parse(choice.start, plan.n_layers)
    titles = {prompt.text: prompt.title for prompt in bundled_prompts()}
    ask(choice.kind, choice.options, len(start))
    shown = st.session_state
    shown[from_key("sweep")] = STRIP if start == plan else BASE
    shown[SKILLS], shown[WRITES] = choice.skills, choice.prompt in titles
    shown[best_key(choice.kind)] = choice.best is not None
    if choice.prompt in titles:
        shown[PROMPT] = titles[choice.prompt]
    return _fill_texts(recipe, choice.texts) and (start == plan or start.is_identity) and choice.prompt in ("", *titles)


def _fill_texts(recipe: Recipe, titles: tuple[str, ...] | None) -> bool:
    """Choose the texts; return whether the fields say these and no others."""
    key, chosen = texts_key("sweep"), own_texts.set_of(recipe)
    of_set = () if chosen is None else tuple(text.title for text in chosen.texts)
    if titles is not None and titles == tuple(text.title for text in recipe.own_texts[:1]):
        which: str | None = OWN
    elif titles is None or titles == of_set:
        which = None  # the set itself
    else:
        which = PICK
        st.session_state[picked_key("sweep")] = [title for title in of_set if title in titles]
    state.chosen.pop(key, None)
    st.session_state[key] = which
    if which is None:
        return titles == of_set or not recipe.own_texts
    return which == OWN or set(titles or ()) <= set(of_set)
