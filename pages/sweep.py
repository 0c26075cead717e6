"""The Sweep page: one kind of edit tried everywhere, importance of layers, and greedy removal."""

import streamlit as st

from surgery_ui.parts import adoption, asked_sweep
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.trust import warn
from surgery_ui.session import session
from surgery_ui.sweep_page import controls as sweep_controls
from surgery_ui.sweep_page import offer as sweep_offer
from surgery_ui.sweep_page import view as sweep_view
from surgery_ui.sweep_page.importance import importance_tab as show_importance
from surgery_ui.sweep_page.questions import questions
from surgery_ui.sweep_page.removal import removal_tab

now = session.require()
sweep_offer.offer(now)
warn(now)
adoption.say()
st.header("Every layer tried", anchor=False)
sweep_tab, importance_tab, remove_tab = st.tabs(
    [asked_sweep.SWEEP, asked_sweep.IMPORTANCE, asked_sweep.REMOVAL],
    key=asked_sweep.TAB,
    on_change=session.touch,
)

if sweep_tab.open:
    with sweep_tab:
        questions(now)
        request = sweep_controls.request_form(now)
        estimate = sweep_controls.start_row(now, request, key="sweep-start")
        sweep_view.results(now, sweep_view.SWEEPS, estimate, request)
        follow_sections([estimate])

if importance_tab.open:
    with importance_tab:
        follow_sections([show_importance(now)])

if remove_tab.open:
    with remove_tab:
        follow_sections([removal_tab(now)])
