"""The person's own texts: one pasted or uploaded, or a set of them; checked, counted, kept for a reload."""

from __future__ import annotations

import streamlit as st

from surgery_core.errors import TextError
from surgery_core.text import MAX_TEXT_BYTES, read_text
from surgery_core.text_sources.files import ENDINGS, PLAIN
from surgery_ui.parts import own_sets
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import own_texts, session
from surgery_ui.session.state import state
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.limits import limits

TYPED = "own-typed"
MOST_MB = 5
"""Largest file that is uploaded."""


def own_text_form(now: session.Experiment) -> None:
    """Show the form that adds a text to the table or takes it out again, and that makes sets of one's own."""
    text = session.own_text()
    with st.expander("Your own texts", icon=":material/add_notes:"):
        st.text_area(
            "Paste a text",
            key=TYPED,
            height=120,
            persist_state="session",
            on_change=session.touch,
            placeholder=f"A few sentences of any kind, up to {limits().text_kb:,} kB",
        )
        with st.container(horizontal=True):
            st.button("Score this text", key="own-score", on_click=_take_typed)
            if text is not None:
                st.button("Take it out", key="own-remove", type="tertiary", on_click=_remove)
        st.file_uploader(
            "Or upload files", [ending.removeprefix(".") for ending in ENDINGS], key=own_sets.FILES,
            accept_multiple_files=True, max_upload_size=MOST_MB, on_change=_take_files,
            help="Texts, or texts in a .zip, a field of a .jsonl or a column of a .csv. Several become a set with a name, "
            f"of up to {own_texts.LIMITS.texts:,} texts and {own_texts.LIMITS.bytes // 1_000_000} MB; the command line takes more.",
        )  # fmt: skip
        own_sets.draft(now)
        own_sets.sets_list(now)
        st.caption("They stay in the server's memory for a while, so that a reload or a copied link finds them.")
    show_problem("own")


def _take_typed() -> None:
    _take(st.session_state[TYPED], "Your text")


def _take_files() -> None:
    """Read what was picked; one plain text is scored beside the set too, as a pasted one is."""
    own_sets.read_picked()
    files = own_sets.picked()
    session.set_problem("own", None)
    if len(files) == 1 and files[0].name.lower().endswith(PLAIN) and files[0].size <= MAX_TEXT_BYTES:
        _take(files[0].getvalue(), files[0].name)
        if session.problem("own") is not None:
            state.set_draft = None


def _take(data: str | bytes, title: str) -> None:
    try:
        state.own = cached.keep_own_text(read_text(data, title=title, most=limits().text_kb * 1_000))
    except TextError as error:
        return session.set_problem("own", error)
    session.set_problem("own", None)
    state.detail = 0


def _remove() -> None:
    state.own = None
    state.detail = 0
    session.set_problem("own", None)
