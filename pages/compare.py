"""The Compare page: plans side by side, with figures, texts, layers and skills of all of them."""

import streamlit as st

from surgery_ui.compare_page.figures import Figures
from surgery_ui.compare_page.layers import layers_section, skills_section
from surgery_ui.compare_page.shelf import empty, shelf
from surgery_ui.compare_page.texts import texts_section
from surgery_ui.parts import adoption, keeping
from surgery_ui.parts.opening import KEY, LINE
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.text_sets import set_choice
from surgery_ui.session import session, tray

now = session.require()
keeping.offer_script(now, "compare")
adoption.say()
st.header("Plans side by side", anchor=False)
kept = tray.kept()
if not kept:
    empty(now)
    st.stop()
with st.container(key=KEY):
    sentence = st.skeleton(height=LINE)
shelf(now)

st.subheader("Figures", anchor=False)
set_choice("compare-texts")
figures = Figures(now, kept, sentence)

st.subheader("Text", anchor=False)
texts = texts_section(now, kept)

st.subheader("Layer by layer", anchor=False)
st.caption("Loss of the right next token if the model stopped after this layer and spoke (logit lens).")
layers = layers_section(now, kept)

st.subheader("Skills", anchor=False)
skills = skills_section(now, kept)

follow_sections([texts, figures, layers, skills])
figures.offer()
