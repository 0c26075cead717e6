"""The Sweep page: one kind of edit tried everywhere, importance of layers, and search."""

import streamlit as st

from surgery_ui import adoption, session, sweep_compare, sweep_controls, sweep_view
from surgery_ui.estimate import Estimate
from surgery_ui.importance_view import ImportanceView
from surgery_ui.search_view import search_tab
from surgery_ui.sections import follow_sections
from surgery_ui.trust import warn

now = session.require()
warn(now)
adoption.say()
st.header("Every layer tried", anchor=False)
sweep_tab, importance_tab, remove_tab = st.tabs(
    ["Sweep", "Importance", "Removal"], key="sweep-tab", on_change=session.touch
)

if sweep_tab.open:
    with sweep_tab:
        sweep_controls.presets(now)
        request = sweep_controls.request_form(now)
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            button, line = st.container(width="content"), st.empty()
        estimate = Estimate(now, request, line)
        estimate.show()
        with button:
            sweep_controls.start_button(now, request, estimate)
        st.divider()
        sweep_compare.shelf()
        sweep_view.live(now, request, estimate)
        follow_sections([estimate])

if importance_tab.open:
    with importance_tab:
        follow_sections([ImportanceView(now)])

if remove_tab.open:
    with remove_tab:
        follow_sections([search_tab(now)])
