"""The script that Streamlit runs for every session: sidebar, then the chosen page."""

from pathlib import Path

import streamlit as st

from surgery_ui.parts import keeping, tags
from surgery_ui.session import session
from surgery_ui.sidebar import sidebar as controls
from surgery_ui.sidebar import sweep_status
from surgery_ui.surgery_page.writing import begin_writing

HERE = Path(__file__).parent
ICON = HERE / "icon.png"
LOGO = HERE / "logo.svg"
PAGES = "shipped/pages" if (HERE / "shipped" / "pages").is_dir() else "../pages"
"""Where the pages lie, seen from here: in the installed package, or in the repository."""
SIDEBAR_WIDTH = 340

st.set_page_config("Model Surgery", ICON, layout="wide", initial_sidebar_state=SIDEBAR_WIDTH)
st.logo(LOGO, size="medium", icon_image=ICON)
page = st.navigation(
    [
        st.Page(f"{PAGES}/surgery.py", title="Surgery", icon=":material/content_cut:", default=True),
        st.Page(f"{PAGES}/lens.py", title="Lens", icon=":material/grid_on:"),
        st.Page(f"{PAGES}/sweep.py", title="Sweep", icon=":material/bar_chart:"),
        st.Page(f"{PAGES}/skills.py", title="Skills", icon=":material/school:"),
        st.Page(f"{PAGES}/models.py", title="Models", icon=":material/database:"),
    ],
    position="top",
)
session.begin()
if page.url_path == "":
    begin_writing()
with st.sidebar:
    controls.sidebar()
    if page.url_path not in ("sweep", "skills"):
        sweep_status.status()
page.run()
keeping.finish()
tags.legible()
