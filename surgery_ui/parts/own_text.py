"""The person's own text: pasted or uploaded, checked, kept for a reload."""

from __future__ import annotations

import streamlit as st

from surgery_core.errors import TextError
from surgery_core.text import read_text
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.work import plan_jobs as cached

TYPED, FILE = "own-typed", "own-file"


def own_text_form() -> None:
    """Show the form that adds a text to the table, or that takes it out again."""
    text = session.own_text()
    with st.expander("Your own text", icon=":material/add_notes:"):
        st.text_area(
            "Paste a text",
            key=TYPED,
            height=120,
            persist_state="session",
            on_change=session.touch,
            placeholder="A few sentences of any kind, up to 1 MB",
        )
        with st.container(horizontal=True):
            st.button("Score this text", key="own-score", on_click=_take_typed)
            if text is not None:
                st.button("Take it out", key="own-remove", type="tertiary", on_click=_remove)
        st.file_uploader("Or upload a file", ["txt", "md"], key=FILE, max_upload_size=1, on_change=_take_file)
        st.caption("It stays in the server's memory for a while, so that a reload or a copied link finds it.")
    show_problem("own")


def _take_typed() -> None:
    _take(st.session_state[TYPED], "Your text")


def _take_file() -> None:
    file = st.session_state[FILE]
    if file is not None:
        _take(file.getvalue(), file.name)


def _take(data: str | bytes, title: str) -> None:
    try:
        state.own = cached.keep_own_text(read_text(data, title=title))
    except TextError as error:
        return session.set_problem("own", error)
    session.set_problem("own", None)
    state.detail = 0


def _remove() -> None:
    state.own = None
    state.detail = 0
    session.set_problem("own", None)
