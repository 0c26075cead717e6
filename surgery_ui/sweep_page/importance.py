"""The importance tab: of which plan and over which texts, and the readings of the session."""

from __future__ import annotations

import streamlit as st

from surgery_core.sweeps.request import ImportanceRequest
from surgery_ui.parts.estimate import Estimate
from surgery_ui.session import session
from surgery_ui.sweep_page import view
from surgery_ui.sweep_page.controls import chosen_texts, start_choice, start_row
from surgery_ui.sweep_page.importance_view import READINGS
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words


def importance_tab(now: session.Experiment) -> Estimate:
    """Show the controls of a reading and what came of those of the session; return the estimate of its time, to be drawn."""
    st.caption(
        "What each layer does to the residual stream, from one run over the texts and without any surgery; "
        "beside it, what deleting it really costs."
    )
    with st.container(border=True):
        st.markdown(f"**What papers saw.** {present.plain(sweep_words.IMPORTANCE)} {sweep_words.SMALL}")
    request = _form(now)
    estimate = start_row(now, request, key="importance-start")
    view.results(now, READINGS, estimate)
    return estimate


def _form(now: session.Experiment) -> ImportanceRequest | None:
    start, texts = start_choice(now, "importance", "Of which model"), chosen_texts(now, "importance")
    if not texts:
        return None
    if not len(start):
        st.info("No layer runs under this plan, so there is nothing to rank.")
        return None
    return ImportanceRequest(start, texts)
