"""The Lens page: what each layer would say next, before and after."""

import streamlit as st

from surgery_ui import present, session
from surgery_ui.lens_map import LensMap, lens_text
from surgery_ui.sections import follow_sections

now = session.require()
st.header("What each layer would say next", anchor=False)
st.caption(
    "Each cell decodes the residual stream after a layer (rows, last on top) at a token (columns) "
    "with the model's own head: the logit lens. Colour is the probability of the word in the cell."
)
text = lens_text()
st.caption(present.plain(present.describe(now.plan)))
follow_sections([LensMap(now, text)])
