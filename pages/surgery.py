"""The Surgery page: what the plan does to the model's text and to its scores."""

import streamlit as st

from surgery_ui.parts.own_text import own_text_form
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.trust import Trust
from surgery_ui.session import session
from surgery_ui.surgery_page.details import Details
from surgery_ui.surgery_page.scores import Scores
from surgery_ui.surgery_page.writing import Writing
from surgery_ui.words import present

now = session.require()
trust = Trust(now)
st.header(present.title(now.loaded.info, now.plan), anchor=False)
st.caption(present.plain(present.describe(now.plan)))
headline = st.container()

st.subheader("Text", anchor=False)
writing = Writing(now)

st.subheader("Perplexity", anchor=False)
scores = Scores(now, headline, st.container())
own_text_form()
sections = [writing, scores]
if not now.plan.is_identity:
    sections.append(Details(now, scores))

follow_sections([*sections, trust])
