"""The Lens page: what each layer would say next, before and after."""

import streamlit as st

from surgery_ui import present, session
from surgery_ui.lens_map import LensMap, lens_choice, lens_text
from surgery_ui.sections import follow_sections
from surgery_ui.trust import Trust

now = session.require()
trust = Trust(now)
st.header("What each layer would say next", anchor=False)
reading = lens_choice(now)
text = lens_text()
st.caption(present.plain(present.describe(now.plan)))
follow_sections([LensMap(now, text, reading), trust])
