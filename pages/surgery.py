"""The Surgery page: what the plan does to the model's text and to its scores."""

import streamlit as st

from surgery_core.plans.words import describe
from surgery_ui.components.picture import show_plan
from surgery_ui.components.words import early_words
from surgery_ui.parts import keeping
from surgery_ui.parts.chart_specs import dark, times
from surgery_ui.parts.opening import KEY, LINE
from surgery_ui.parts.own_text import own_text_form
from surgery_ui.parts.sections import Section, follow_sections
from surgery_ui.parts.text_sets import set_choice
from surgery_ui.parts.trust import trust_section
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.surgery_page.details import detail_sections
from surgery_ui.surgery_page.first_steps import first_steps
from surgery_ui.surgery_page.least import least_important
from surgery_ui.surgery_page.mended import mended_section
from surgery_ui.surgery_page.results import offer_results
from surgery_ui.surgery_page.said import Said
from surgery_ui.surgery_page.scores import BUNDLED, scores_section
from surgery_ui.surgery_page.writing import writing_section
from surgery_ui.words import present

now = session.require()
keeping.offer_script(now, "surgery")
trust = trust_section(now)
st.header(present.title(now.loaded.info, now.plan), anchor=False)
if now.plan.is_identity:
    first_steps(now)
else:
    with st.container(key=KEY):
        sentence = st.skeleton(height=LINE)
    st.caption(present.plain(describe(now.plan)))
# its place is there before there is a picture, so that what stands below keeps its own
picture = st.empty()
if not now.plan.is_identity:
    with picture.container():
        show_plan(now.plan, dark=dark(), times=times())
least_important(now)
headline = st.container(key="headline")

with st.container(gap=None):  # the component has no height, and shall not have a gap either
    early_words(state.channel)
    st.subheader("Text", anchor=False)
writing = writing_section(now)

st.subheader("Perplexity", anchor=False)
set_choice("surgery-texts")
st.caption(session.text_set().about)
if now.is_stitched:
    st.caption("Before, cut and stitched, over all of these texts:")
beside = st.container()
scores = scores_section(now, headline, st.container())
own_text_form(now)
sections: list[Section] = [writing, scores]
if now.is_stitched:
    with beside:
        sections.append(mended_section(now, scores))
if not now.plan.is_identity:
    cut = scores.cuts_by_lane.get(BUNDLED)
    said = Said(now, sentence, scores.jobs_by_lane[BUNDLED], writing.jobs_by_side, cut)
    sections += [said, *detail_sections(now, scores)]

follow_sections([*sections, trust])
offer_results(now, scores, sections)
