"""Long work that goes on while a person looks at other pages: how far it is, in the sidebar."""

from __future__ import annotations

import streamlit as st

from surgery_ui.parts import sweep_chart, sweep_shelf
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.words import present
from surgery_ui.work.kinds import Lane

TICK = 2.0
"""Seconds between two looks; a job that no page looks at stops itself after some more of them."""


def status(drawn: Lane | None) -> None:
    """Show work in progress and keep it going; nothing where there is none.

    Args:
        drawn: the lane whose work the page itself shows.
    """
    if _busy(drawn):
        st.fragment(_show, run_every=TICK)(drawn)


def _busy(drawn: Lane | None) -> list[Entry]:
    sweep_shelf.sync()
    return [entry for entry in sweep_shelf.entries() if entry.state == "running" and entry.lane != drawn]


def _show(drawn: Lane | None) -> None:
    for entry in _busy(drawn):
        st.progress(entry.share, text=present.plain(f"{entry.name}: {sweep_chart.count(entry)}"))
