"""What the plans side by side write, in columns; where each parts from the unchanged model's text is underlined."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import streamlit as st

from surgery_core.plans.plan import LayerPlan
from surgery_ui.parts import chat, waiting
from surgery_ui.parts.text_columns import text_columns
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.tray import Kept
from surgery_ui.words import present, texts
from surgery_ui.words.labels import UNCHANGED
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane, tray_lanes

SELDOM = 1.0
"""Seconds between two times that it is said how far a text is."""


class Texts:
    """A section with a column a plan, that fills while they write.

    Args:
        now: what the page works on.
        kept: the plans; the unchanged model stands before them.
    """

    def __init__(self, now: session.Experiment, kept: Sequence[Kept]) -> None:
        settings, lanes = chat.settings(now), tray_lanes("text")
        asked: list[tuple[str, str, LayerPlan]] = [(UNCHANGED, Lane.TEXT_BEFORE, now.identity)]
        asked += [(one.name, lanes[at], one.plan) for at, one in enumerate(kept)]
        self._owner = now.owner
        self._prompt = f"{state.prompt}\n\n" if settings.chat else state.prompt
        self._jobs = [
            cached.text_job(now.owner, lane, now.loaded, plan, state.prompt, settings) for _, lane, plan in asked
        ]
        columns = text_columns([name for name, _, _ in asked])
        self._places = [(column.empty(), column.caption("Writing …")) for column in columns]
        self._shown: dict[int, tuple[str, str, bool]] = {}
        self._said_at = time.monotonic()
        st.caption("Underlined: from where a text differs from the unchanged model's, to its end.")

    @property
    def jobs(self) -> Sequence[Job[Any]]:
        """Return the jobs to look at."""
        return self._jobs

    def show(self) -> None:
        """Draw what is new."""
        if late := time.monotonic() > self._said_at + SELDOM:
            self._said_at = time.monotonic()
        for at, job in enumerate(self._jobs):
            if late and not job.done:
                self._places[at] = (self._places[at][0], self._places[at][1].caption(waiting.writing(job)))
            # the text first: a job that ends in between is drawn once more
            base, text, done = ("" if at == 0 else self._jobs[0].text), job.text, job.done
            if self._shown.get(at) == (base, text, done):
                continue
            self._shown[at] = (base, text, done)
            place, note = self._places[at]
            if done and waiting.failed(place, self._owner, [job], f"tray-text-{at}"):
                note.empty()
            else:
                self._places[at] = (place.html(texts.continuation(self._prompt, text, base)), note)
                if done:
                    note.caption(present.written(job.result))
