"""Parts of a page that draw results as they come, while the work runs elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import streamlit as st

from surgery_ui.work.following import follow
from surgery_ui.work.job import Job


class Section(Protocol):
    """A part of a page that draws results as they come; `Awaited` is the usual one."""

    @property
    def jobs(self) -> Sequence[Job[Any]]:
        """Return the jobs that it waits for."""

    def show(self) -> None:
        """Draw what is new."""


class Nothing:
    """A section with nothing to wait for and nothing to draw."""

    jobs: tuple[Job[Any], ...] = ()

    def show(self) -> None:
        """Draw nothing."""


NOTHING = Nothing()


def emphasis() -> Literal["primary", "secondary"]:
    """Return the type of a section's main button.

    Streamlit writes in white on the theme's first colour. In the dark theme that colour is light, for the words that
    are written in it, and white on it could not be read.
    """
    return "secondary" if st.context.theme.type == "dark" else "primary"


def follow_sections(sections: Sequence[Section]) -> None:
    """Draw the sections of a page until all of their jobs are done."""

    def show() -> None:
        for section in sections:
            section.show()

    follow([job for section in sections for job in section.jobs], show)
