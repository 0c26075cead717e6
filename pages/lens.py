"""The Lens page: what each layer would say next, before and after."""

import streamlit as st

from surgery_core.plans.words import describe
from surgery_ui.lens_page.controls import lens_controls, offer_lens
from surgery_ui.lens_page.maps import maps_section, offer_maps
from surgery_ui.lens_page.swap import kept_swap, swap_section
from surgery_ui.lens_page.texts import averages_section
from surgery_ui.lens_page.training import lens_panel
from surgery_ui.parts.opening import Opening
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.trust import trust_section
from surgery_ui.session import session
from surgery_ui.words import present

now = session.require()
trust = trust_section(now)
st.header("What each layer would say next", anchor=False)
opening = Opening()
st.caption(present.plain(describe(now.plan)))
choice = lens_controls(now)
maps = maps_section(now, choice, opening)
swapped = swap_section(now, choice)
offer_lens(now, choice, kept_swap(now, choice))
texts = averages_section(now, choice)
panel = lens_panel(now)
follow_sections([opening, maps, swapped, texts, panel, trust])
offer_maps(maps, choice)
