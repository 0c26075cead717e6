"""A person's own experiments: a file dropped on the page opens as a card; one that cannot be read can be mended there."""

from __future__ import annotations

import hashlib

import streamlit as st

from surgery_core.errors import RecipeError
from surgery_core.recipes.recipe import MAX_RECIPE_BYTES, Recipe
from surgery_ui.gallery_page.entries import OWN, open_card
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import session
from surgery_ui.session.state import State, state

FILE = "gallery-file"
MOST = 20
"""Most recipes of one's own that a session keeps; the oldest goes first."""


def own_recipes() -> None:
    """Show where a recipe is dropped, and what is wrong with one that cannot be read, with its text."""
    st.subheader("Your own experiments", anchor=False)
    st.caption(
        "Drop a recipe here, and it opens as a card. “Keep”, in the sidebar, saves what you are doing now as one; any card "
        "hands out its own to start from."
    )
    st.file_uploader(
        "A recipe (.toml)", ["toml"], key=FILE, max_upload_size=MAX_RECIPE_BYTES // 1_000_000, on_change=_take_file,
    )  # fmt: skip
    show_problem("gallery-file")
    if state.recipe_draft:
        # shown only while something is wrong with it; what is typed is never lost
        with st.form("gallery-mend"):
            st.text_area("Its text", key=State.recipe_draft.key, height=360)
            st.form_submit_button("Open it", icon=":material/arrow_forward:", on_click=_take_draft)


def _take_file() -> None:
    file = st.session_state[FILE]
    if file is None:
        return
    session.set_problem("gallery-file", None)
    try:
        text = file.getvalue().decode("utf-8")
    except UnicodeDecodeError:
        session.set_problem("gallery-file", RecipeError("The file is not UTF-8 text; save it as UTF-8."))
        return
    _open(text)


def _take_draft() -> None:
    session.set_problem("gallery-file", None)
    _open(state.recipe_draft)


def _open(text: str) -> None:
    """Open a recipe as a card; keep its text to be mended where it cannot be read."""
    try:
        Recipe.loads(text)
    except RecipeError as error:
        session.set_problem("gallery-file", error)
        state.recipe_draft = text
        return
    state.recipe_draft = ""
    key = OWN + hashlib.sha256(text.encode()).hexdigest()[:8]
    kept = {**state.own_recipes, key: text}
    state.own_recipes = dict(list(kept.items())[-MOST:])
    open_card(key)
