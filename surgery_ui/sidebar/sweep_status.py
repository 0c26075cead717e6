"""Long work that goes on while a person looks at other pages: how far it is, in the sidebar."""

from __future__ import annotations

from typing import Any

import streamlit as st

from surgery_ui.parts import sweep_shelf
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.work.job import Job

TICK = 2.0
"""Seconds between two looks; a job that no page looks at stops itself after some more of them."""


def status() -> None:
    """Show work in progress and keep it going; nothing where there is none."""
    if _busy():
        st.fragment(_show, run_every=TICK)()


def _busy() -> bool:
    return sweep_shelf.sync() is not None or _search() is not None


def _search() -> Job[Any] | None:
    job = state.search_job
    if job is None or job.done:
        return None
    job.look()
    return job


def _show() -> None:
    entry, search = sweep_shelf.sync(), _search()
    if entry is not None:
        total = max(1, len(entry.planned))
        st.progress(min(1.0, entry.done / total), text=present.plain(f"{entry.name}: {entry.done} of {total}"))
    if search is not None:
        done, most = search.progress
        st.progress(min(1.0, done / most) if most else 0.0, text="Removing layers")
