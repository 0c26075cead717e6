"""The Skills page: which skills survive surgery, and which layer they need."""

import streamlit as st

from surgery_ui import adoption, present, session
from surgery_ui.sections import follow_sections
from surgery_ui.skills_map import skill_by_layer
from surgery_ui.skills_view import SkillsView
from surgery_ui.trust import Trust

now = session.require()
trust = Trust(now)
adoption.say()
st.header("Which skills survive", anchor=False)
st.caption(present.plain(present.describe(now.plan)))
view = SkillsView(now)
estimate = skill_by_layer(now)
follow_sections([view, estimate, trust])
