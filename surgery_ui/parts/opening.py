"""The sentence that a page begins with, which says in words what its figures show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from surgery_ui.words import present
from surgery_ui.work.job import Job

LINE = 28
"""Height of the sentence's first line, in pixels."""
KEY = "said"
"""Key of its place, whose room the document's style sheet holds open."""


class Opening:
    """A place that is held open for a sentence; once a page knows the jobs that it waits for, it is a `Section`.

    What goes wrong with the jobs is said where their figures would be; here nothing is said then.
    """

    def __init__(self) -> None:
        with st.container(key=KEY):
            self._place = st.skeleton(height=LINE)
        self._say: Callable[[], str] | None = None
        self._help = ""
        self.jobs: Sequence[Job[Any]] = ()

    def await_(self, jobs: Sequence[Job[Any]], say: Callable[[], str], help: str) -> None:
        """Say something once all jobs are done.

        Args:
            jobs: that are waited for.
            say: returns the sentence; empty where there is nothing to say.
            help: what its figures mean.
        """
        self.jobs, self._say, self._help = jobs, say, help

    def show(self) -> None:
        """Draw the sentence once."""
        if self._say is None or not all(job.done for job in self.jobs):
            return
        say, self._say = self._say, None
        failed = any(job.error is not None for job in self.jobs)
        if said := "" if failed else say():
            self._place.markdown(present.plain(said), help=self._help)
        else:
            self._place.empty()
