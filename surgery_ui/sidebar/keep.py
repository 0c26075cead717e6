"""The popover "Keep": everything that a person can take along, and a recipe brought back."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from surgery_core.errors import InputError, RecipeError
from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.recipe import MAX_RECIPE_BYTES, Recipe
from surgery_ui.parts import asked_sweep, keeping
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.swaps import take_swap
from surgery_ui.session import own_texts, session
from surgery_ui.session.address import MAX_COMMENT
from surgery_ui.session.state import state
from surgery_ui.work import keep_jobs

KEY, FILE, PASTED, COMMENT = "keep", "keep-file", "keep-pasted", "keep-comment"


def keep(now: session.Experiment) -> None:
    """Show the popover, and say where the page may draw its part of it."""
    keeping.begin(None, None)
    popover = st.popover("Keep", icon=":material/download:", key=KEY, on_change="rerun", width="stretch")
    if not popover.open:
        return
    with popover:
        st.markdown("**This experiment**")
        scripts = st.container(horizontal=True, gap="xsmall")
        recipe = scripts.empty()
        st.text_input(
            "Comment", state.comment, key=COMMENT, max_chars=MAX_COMMENT, on_change=_take_comment,
            placeholder="A sentence that the link and the recipe show",
        )  # fmt: skip
        st.markdown("**What this page shows**")
        results = st.empty()
        results.caption("Tables and charts are here as soon as the page has them.")
        report = st.empty()
        checkpoint = st.container()
        st.markdown("**Open a recipe or a mergekit file**")
        st.file_uploader(
            "A file", ["toml", "yaml", "yml"], key=FILE, max_upload_size=MAX_RECIPE_BYTES // 1_000_000,
            on_change=_take_file, label_visibility="collapsed",
        )  # fmt: skip
        st.text_area(
            "Its text", key=PASTED, height=68, on_change=_take_pasted, label_visibility="collapsed",
            placeholder="or paste its text",
        )  # fmt: skip
        show_problem("recipe")
    keeping.begin(scripts, results, report, recipe)
    keeping.offer_recipe(keeping.recipe_of(now))
    with checkpoint:
        keeping.offer_checkpoint(now)


def _take_comment() -> None:
    session.touch()
    state.comment = " ".join(str(st.session_state[COMMENT]).split())


def _take_file() -> None:
    file = st.session_state[FILE]
    if file is not None:
        _guarded(lambda: _open(_decoded(file.getvalue()), merge=not file.name.lower().endswith(".toml")))


def _take_pasted() -> None:
    text = st.session_state[PASTED]
    if text.strip():
        _guarded(lambda: _open(text, merge="merge_method" in text))


def _open(text: str, *, merge: bool) -> None:
    """Take over a recipe, or the plan of a merge."""
    now = session.experiment()
    if not merge:
        recipe = Recipe.loads(text)
        session.open_recipe(recipe)
        asks = recipe.sweep is not None and _ask_sweep(now, recipe)
        _say_what_is_left_out(recipe, sweep=asks)
        _swap(now, recipe)
    elif now is not None:
        plan = keep_jobs.read_mergekit(now.loaded, text)
        session.change("recipe", lambda _: plan)


def _swap(now: session.Experiment | None, recipe: Recipe) -> None:
    """Have the Lens page swap what the recipe swaps, where its model is open."""
    if recipe.swap is None:
        state.swap = None
    elif now is None or now.loaded.info.name != recipe.model:
        raise InputError(
            f"Opened. The recipe swaps a word on {recipe.model!r}; open the recipe once more when that model is open."
        )
    else:
        take_swap(recipe, recipe.plan_of(now.loaded.info.n_layers))


def _ask_sweep(now: session.Experiment | None, recipe: Recipe) -> bool:
    """Fill in the fields of the Sweep page; return whether they say all that the recipe's sweep does."""
    if now is None or now.loaded.info.name != recipe.model:
        return False
    return asked_sweep.fill(recipe, recipe.plan_of(now.loaded.info.n_layers))


def _say_what_is_left_out(recipe: Recipe, *, sweep: bool) -> None:
    """Say which parts of a recipe a page has no place for; `sweep` is whether the Sweep page has its sweep."""
    left = [f"{len(recipe.prompts)} prompts"] if len(recipe.prompts) > 1 else []
    left += [f"{len(recipe.own_texts)} texts of its own"] if len(recipe.own_texts) > 1 else []
    left += ["a choice of bundled texts"] if own_texts.set_of(recipe) is None and recipe.text_set is None else []
    parts = (("a sweep", None if sweep else recipe.sweep), ("a study", recipe.study))
    more = [name for name, one in parts if one is not None]
    if recipe.text_set is not None and own_texts.set_of(recipe) is None:
        session.set_problem("recipe", _missing(recipe.text_set))
    elif more:
        session.set_problem(
            "recipe",
            InputError(f"Opened. The recipe has {' and '.join(more)}; drop it on the Gallery page to run that."),
        )
    elif left:
        session.set_problem(
            "recipe",
            InputError(
                f"Opened. The recipe has {' and '.join(left)}; pages show the first prompt, the first text and all bundled "
                "ones. `model-surgery run --recipe FILE` runs all of it."
            ),
        )


def _missing(chosen: ChosenSet) -> InputError:
    return InputError(
        f"Opened. Its texts, {chosen.title!r} ({chosen.number:,} texts, digest {chosen.digest[:12]}), are not in it and not "
        "on this server; the short texts are scored instead. Upload the files that they were read from."
    )


def _guarded(action: Callable[[], None]) -> None:
    session.set_problem("recipe", None)
    try:
        action()
    except InputError as error:
        session.set_problem("recipe", error)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise RecipeError("The file is not UTF-8 text; save it as UTF-8.") from None
