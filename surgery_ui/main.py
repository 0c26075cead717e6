"""The script that Streamlit runs for every session: sidebar, then the chosen page."""

from pathlib import Path

import streamlit as st

from surgery_ui.components import early
from surgery_ui.parts import asked_sweep, keeping, places, tags
from surgery_ui.parts.places import PAGES
from surgery_ui.session import looks, room, session
from surgery_ui.sidebar import sidebar as controls
from surgery_ui.sidebar import sweep_status
from surgery_ui.sidebar.foot import foot
from surgery_ui.sidebar.room import room_panel, room_task
from surgery_ui.surgery_page import least
from surgery_ui.surgery_page.writing import begin_writing
from surgery_ui.words.pages import BAR
from surgery_ui.work.kinds import Lane

HERE = Path(__file__).parent
SURGERY = ""
"""Path of the page that is shown first."""
BEGINNING = 120
"""Pixels of what stands for a page until it begins: a browser clears the one before at once, and the sidebar comes first."""
ICON = HERE / "icon.png"
LOGO = HERE / "logo.svg"

if begun := session.is_edit() and looks.last_page() == SURGERY:
    # a browser that takes in a page shows nothing meanwhile: the words of an edit go before all of it
    begin_writing()
st.set_page_config("Model Surgery", ICON, layout="wide", initial_sidebar_state=early.SIDEBAR_WIDTH[session.presents()])
st.logo(LOGO, size="medium", icon_image=ICON)
# before the pages' own bar: a sidebar that comes after it pushes everything aside
side = st.sidebar.container()
with side:
    st.empty()
room.take_key()
shown = room.pages()
page = st.navigation(
    [
        st.Page(
            f"{PAGES}/{name or 'surgery'}.py", title=title, icon=f":material/{icon}:", default=not name,
            visibility="visible" if shown(name) else "hidden",
        )
        for name, title, icon in BAR
    ],
    position="top",
)  # fmt: skip
with early.kinds() as place:
    if arriving := looks.last_page() not in {None, page.url_path}:
        place.skeleton(height=BEGINNING)
    if page.url_path == SURGERY:
        least.settle()
    session.begin()
    places.follow()
    looks.remember(page.url_path)
    if page.url_path == SURGERY and not begun:
        begin_writing()
    with side:
        room_panel(page.url_path)
        controls.sidebar()
        sweep_status.status({"sweep": asked_sweep.open_lane(), "skills": Lane.SWEEP}.get(page.url_path))
        foot(page.url_path)
    tags.legible()
    if arriving:
        place.empty()
    room_task(page.url_path)
    page.run()
    keeping.finish()
