"""What is wrong, said beside the control that it is about."""

from __future__ import annotations

import streamlit as st

from surgery_ui.session import session
from surgery_ui.words import present


def show_problem(control: str) -> None:
    """Show what is wrong beside a control, if anything is."""
    error = session.problem(control)
    if error is not None:
        st.error(present.plain(str(error)))
