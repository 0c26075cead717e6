"""The button that keeps the present plan, to stand beside others on the Compare page."""

from __future__ import annotations

import streamlit as st

from surgery_core.errors import PlanError
from surgery_ui.session import session, tray

PROBLEM = "tray"
"""Beside which problems of the tray are said."""


def keep_button(now: session.Experiment, *, key: str, width: str = "content") -> None:
    """Show the button that keeps the present plan."""
    held, full = tray.holds(now.plan), tray.is_full()
    said = "Compared" if held else "Compare"
    why = (
        "It stands on the Compare page." if held
        else f"{tray.MOST} plans stand side by side at most; remove one on the Compare page first." if full
        else "Puts this plan beside others on the Compare page."
    )  # fmt: skip
    st.button(
        said, key=key, icon=":material/check:" if held else ":material/add:", help=why, on_click=_keep,
        disabled=held or full or now.plan.is_identity, width=width,  # type: ignore[arg-type]
    )  # fmt: skip


def _keep() -> None:
    session.touch()
    session.set_problem(PROBLEM, None)
    try:
        tray.add(session.history().plan)
    except PlanError as error:
        session.set_problem(PROBLEM, error)
