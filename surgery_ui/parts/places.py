"""Where the pages lie, and how a run goes on to another one."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from surgery_ui.session import session
from surgery_ui.session.state import State, state

_PACKAGE = Path(__file__).resolve().parents[1]
PAGES = "shipped/pages" if (_PACKAGE / "shipped" / "pages").is_dir() else "../pages"
"""Where the pages lie, seen from the main script: in the installed package, or in the repository."""


def go_to(name: str) -> None:
    """Have the run that comes next show another page; for callbacks, which cannot switch pages themselves."""
    session.touch()
    state.go_to = name


def follow() -> None:
    """Show the page that was asked for, if any."""
    if name := State.go_to.take():
        st.switch_page(f"{PAGES}/{name}.py")
