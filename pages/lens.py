"""The Lens page: what each layer would say next, before and after."""

import streamlit as st

from surgery_ui import present, session
from surgery_ui.lens_controls import lens_controls
from surgery_ui.lens_map import LensMap
from surgery_ui.lens_texts import LensTexts
from surgery_ui.lens_training import lens_panel
from surgery_ui.sections import follow_sections
from surgery_ui.trust import Trust

now = session.require()
trust = Trust(now)
st.header("What each layer would say next", anchor=False)
st.caption(present.plain(present.describe(now.plan)))
choice = lens_controls(now)
maps = LensMap(now, choice)
texts = LensTexts(now, choice)
lens_panel(now)
follow_sections([maps, texts, trust])
