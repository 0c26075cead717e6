"""The Gallery page: experiments of papers, each with the paper's number beside what was measured here."""

import streamlit as st

from surgery_ui.gallery_page.cards import cards
from surgery_ui.gallery_page.detail import detail
from surgery_ui.gallery_page.entries import entries, open_entry
from surgery_ui.gallery_page.own import own_recipes
from surgery_ui.session import session

now = session.require()
found = entries()
opened = open_entry(found)
if opened is not None:
    detail(now, opened)
else:
    st.header("Experiments of papers, run again", anchor=False)
    cards(now, found)
    own_recipes()
