"""The Skills page: which skills survive surgery, and which layer they need."""

import streamlit as st

from surgery_core.plans.words import describe
from surgery_ui.parts import adoption, keeping
from surgery_ui.parts.opening import Opening
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.trust import trust_section
from surgery_ui.session import session
from surgery_ui.skills_page.by_layer import skill_by_layer
from surgery_ui.skills_page.view import offer_skills, skills_section
from surgery_ui.words import present

now = session.require()
keeping.offer_script(now, "skills")
trust = trust_section(now)
adoption.say()
st.header("Which skills survive", anchor=False)
opening = Opening()
st.caption(present.plain(describe(now.plan)))
view = skills_section(now, opening)
estimate = skill_by_layer(now)
follow_sections([opening, view, estimate, trust])
offer_skills(view)
