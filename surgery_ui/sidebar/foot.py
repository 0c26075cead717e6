"""The end of the sidebar: the tour, what words mean, and larger type for a projector."""

from __future__ import annotations

from typing import Any

import streamlit as st

from surgery_ui.components.tour import show_tour
from surgery_ui.components.type_size import type_size
from surgery_ui.parts import chart_specs
from surgery_ui.parts.places import PAGES
from surgery_ui.session import echo, session
from surgery_ui.session.address import LOOKS
from surgery_ui.session.state import state
from surgery_ui.words.tour import CHAPTERS

WORDS = "What do these words mean?"
PRESENT = "Larger type and labels in charts, for a projector."
SWITCH = "present-switch"
"""Key of the switch."""


def foot(page: str) -> None:
    """Show the end of the sidebar on the page with this path."""
    st.page_link(f"{PAGES}/glossary.py", label=WORDS, icon=":material/menu_book:")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            "Tour", key="tour-start", type="tertiary", icon=":material/explore:", on_click=_ask, args=(page,),
            help="Shows this page step by step." if page in CHAPTERS else "Shows the app step by step.",
        )  # fmt: skip
        echo.hold(SWITCH, state.present)
        st.toggle("Present", st.session_state[SWITCH], key=SWITCH, on_change=_take_present, help=PRESENT)
    with st.container(gap=None):  # as for the tab's component: no height, and no gap either
        type_size(chart_specs.times())
        asked, chapter = state.tour_asked
        show_tour(_facts(page), asked=asked, chapter=chapter, invited=state.came_bare)


def _ask(page: str) -> None:
    """Begin the page's chapter, or the tour itself where the page has none."""
    session.touch()
    state.tour_asked = (state.tour_asked[0] + 1, page if page in CHAPTERS else "")


def _take_present() -> None:
    session.touch()
    state.present = bool(st.session_state[SWITCH])


def _facts(page: str) -> dict[str, Any]:
    """Return what the tour's steps go by."""
    now = session.experiment()
    key, usual = LOOKS["statistic"]
    return {
        "page": page,
        "changed": now is not None and not now.plan.is_identity,
        "sweeps": state.sweep_starts,
        "cell": list(state.cell),
        "statistic": st.session_state.get(key) or usual,
    }
