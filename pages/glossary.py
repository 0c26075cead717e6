"""The Glossary page: what the words and figures of the other pages mean."""

import streamlit as st

from surgery_ui.glossary_page.view import words_view

st.header("What do these words mean?", anchor=False)
st.caption("Every word and figure of these pages: what it is, what values it can have, and what a large one says.")
words_view()
