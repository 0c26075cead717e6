"""The Models page: what is open, what can be opened, and the facts of both."""

import streamlit as st

from surgery_ui.models_page.cards import choices_table, facts_table, offer_facts
from surgery_ui.parts import keeping
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.trust import preflight_section
from surgery_ui.session import session
from surgery_ui.words import present

now = session.require()
keeping.offer_script(now, "models")
info = now.loaded.info
st.header(present.plain(info.title), anchor=False)
st.caption("The open model. Every session of this server shares it, and surgery never changes it.")
facts_table(info)
for note in info.notes:
    st.caption(present.plain(note))

preflight = preflight_section(now)
st.subheader("Ready to open", anchor=False)
choices_table(info)
st.caption(
    "A folder with a Hugging Face checkpoint (config, tokenizer, safetensors), or with an adapter (PEFT) for one, that you "
    "put into the models folder appears here; `streamlit run app.py -- FOLDER` offers one that lies elsewhere. A hub id "
    "such as `org/name` can be typed into the model field; it is downloaded once."
)
follow_sections([preflight])
offer_facts(info, preflight)
