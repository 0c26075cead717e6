"""The removal tab: what layers are taken out of one at a time, and the removals of the session."""

from __future__ import annotations

import streamlit as st

from surgery_core.measure.skills import load_skills
from surgery_core.sweeps.request import RemovalRequest
from surgery_core.sweeps.setup import SweepMeasures
from surgery_ui.parts.estimate import Estimate
from surgery_ui.session import session
from surgery_ui.sweep_page import view
from surgery_ui.sweep_page.controls import chosen_texts, start_choice, start_row
from surgery_ui.sweep_page.removal_view import REMOVALS
from surgery_ui.words import present

BEAM = "search-beam"
MAX_BEAM = 8
PAPER = (
    "ShortGPT (arXiv 2403.03853) removed 5 of Llama-2-7B's 32 layers for a perplexity of 11.4 instead of 8.0, and 9 for "
    "40.8, while its answers to MMLU hardly changed."
)


def removal_tab(now: session.Experiment) -> Estimate:
    """Show the controls of a removal and what came of those of the session; return the estimate of its time, to be drawn."""
    st.caption(
        "Greedy removal: layers go one at a time, each time the one without which the loss stays lowest, so that you "
        "see how short the model can get."
    )
    with st.container(border=True):
        st.markdown(f"**What a paper saw.** {present.plain(PAPER)}")
    request = _form(now)
    estimate = start_row(now, request, key="search-start")
    view.results(now, REMOVALS, estimate)
    return estimate


def _form(now: session.Experiment) -> RemovalRequest | None:
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        start = start_choice(now, "search")
        st.session_state.setdefault(BEAM, 1)
        beam = st.number_input(
            "Beam width", 1, MAX_BEAM, key=BEAM, width=150, persist_state="session", on_change=session.touch,
            help="How many of the best plans of each size are tried further: 1 is the quickest, 3 finds better plans in "
            "about three times as long.",
        )  # fmt: skip
        key = f"search-least-{len(start)}"
        st.session_state.setdefault(key, min(1, len(start)))
        least = st.number_input(
            "Layers to keep", 0, max(1, len(start)), key=key, width=150, persist_state="session",
            on_change=session.touch, help="How many layers are left in the end.",
        )  # fmt: skip
        skills = st.toggle("Ask the skills too", key="search-skills", persist_state="session", on_change=session.touch)
    texts = chosen_texts(now, "search")
    if not texts:
        return None
    if not len(start):
        st.info("No layer runs under this plan, so there is nothing to remove.")
        return None
    measures = SweepMeasures(skills=load_skills() if skills else ())
    return RemovalRequest(start, texts, int(beam), min(int(least), len(start)), measures)
