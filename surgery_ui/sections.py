"""Parts of a page that draw results as they come, while the work runs elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import streamlit as st

from surgery_ui.jobs import Job

TICK = 0.04
"""Seconds between two looks at running jobs: short enough for text to stream."""


class Section(Protocol):
    """A part of a page that draws results as they come."""

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs that it waits for."""

    def show(self) -> None:
        """Draw what is new."""


def emphasis() -> Literal["primary", "secondary"]:
    """Return the type of a section's main button.

    Streamlit writes in white on the theme's first colour. In the dark theme that colour is light, for the words that
    are written in it, and white on it could not be read.
    """
    return "secondary" if st.context.theme.type == "dark" else "primary"


def follow(jobs: list[Job[Any]], show: Callable[[], None]) -> None:
    """Look at running jobs, and call `show` whenever one may have news, until all are done.

    Touching the session's state gives Streamlit the chance to stop this run when the person changes something.
    """
    while True:
        running = [job for job in jobs if not job.done]
        show()
        if not running:
            return
        for job in running:
            job.look()
        running[0].wait(TICK)
        _ = st.session_state["owner"]


def follow_sections(sections: Sequence[Section]) -> None:
    """Draw the sections of a page until all of their jobs are done."""

    def show() -> None:
        for section in sections:
            section.show()

    follow([job for section in sections for job in section.jobs], show)
