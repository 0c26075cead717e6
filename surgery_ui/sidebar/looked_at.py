"""The popover with what this session looked at: one click goes back there."""

from __future__ import annotations

import streamlit as st

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.words import subject
from surgery_ui.parts.places import go_to
from surgery_ui.session import looks, session
from surgery_ui.session.looks import Look
from surgery_ui.words import labels, present

KEY = "looked-at"
SHOWN = 12
"""Looks in the list."""
PAGES = {
    "": "Surgery",
    "lens": "Lens",
    "sweep": "Sweep",
    "skills": "Skills",
    "compare": "Compare",
    "gallery": "Gallery",
    "models": "Models",
}
"""Titles of the pages by their paths."""


def looked_at(now: session.Experiment) -> None:
    """Show the popover."""
    popover = st.popover("History", key=KEY, on_change="rerun", width="stretch")
    if not popover.open:
        return
    with popover:
        found = [look for look in looks.of_open_model() if look.page in PAGES][: SHOWN + 1]
        if len(found) < 2:
            st.caption("What you look at is listed here: plans, pages, and what they came to.")
            return
        st.caption("What you looked at, the newest first")
        for at, look in enumerate(found[1:]):
            st.button(
                _said(look, now.plan.n_layers), key=f"look-{at}", type="tertiary", on_click=_back, args=(look,),
                help=present.plain(look.plan or "no layers"),
            )  # fmt: skip


def _back(look: Look) -> None:
    if session.change("strip", lambda plan: LayerPlan.parse(look.plan, plan.n_layers)):
        go_to(look.page or "surgery")
        st.session_state[KEY] = False


def _said(look: Look, n_layers: int) -> str:
    plan = LayerPlan.parse(look.plan, n_layers)
    name = labels.UNCHANGED if plan.is_identity else subject(plan)
    return present.plain(", ".join(part for part in (name, look.figure, f"on {PAGES[look.page]}") if part))
