"""The Lens page: what each layer would say next, before and after."""

import streamlit as st

from surgery_ui.lens_page.controls import lens_controls
from surgery_ui.lens_page.maps import LensMap
from surgery_ui.lens_page.texts import LensTexts
from surgery_ui.lens_page.training import lens_panel
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.trust import Trust
from surgery_ui.session import session
from surgery_ui.words import present

now = session.require()
trust = Trust(now)
st.header("What each layer would say next", anchor=False)
st.caption(present.plain(present.describe(now.plan)))
choice = lens_controls(now)
maps = LensMap(now, choice)
texts = LensTexts(now, choice)
lens_panel(now)
follow_sections([maps, texts, trust])
