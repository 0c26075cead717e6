"""The Sweep page: one kind of edit tried everywhere, importance of layers, and search."""

import streamlit as st

from surgery_ui.parts import adoption
from surgery_ui.parts.estimate import estimate_of
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.trust import warn
from surgery_ui.session import session
from surgery_ui.sweep_page import comparing as sweep_compare
from surgery_ui.sweep_page import controls as sweep_controls
from surgery_ui.sweep_page import offer as sweep_offer
from surgery_ui.sweep_page import view as sweep_view
from surgery_ui.sweep_page.importance import importance_section
from surgery_ui.sweep_page.removal import search_tab

now = session.require()
sweep_offer.offer(now)
warn(now)
adoption.say()
st.header("Every layer tried", anchor=False)
sweep_tab, importance_tab, remove_tab = st.tabs(
    [sweep_controls.SWEEP, sweep_controls.IMPORTANCE, sweep_controls.REMOVAL],
    key=sweep_controls.TAB,
    on_change=session.touch,
)

if sweep_tab.open:
    with sweep_tab:
        sweep_controls.presets(now)
        request = sweep_controls.request_form(now)
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            button, line = st.container(width="content"), st.empty()
        estimate = estimate_of(now, request, line)
        estimate.show()
        with button:
            sweep_controls.start_button(now, request, estimate)
        st.divider()
        sweep_compare.shelf()
        sweep_view.live(now, request, estimate)
        follow_sections([estimate])

if importance_tab.open:
    with importance_tab:
        follow_sections([importance_section(now)])

if remove_tab.open:
    with remove_tab:
        follow_sections([search_tab(now)])
