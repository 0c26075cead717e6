"""Texts side by side in columns that fill while they are written; where each parts from another one is underlined."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from surgery_core.measure.generation import Generation
from surgery_ui.parts import waiting
from surgery_ui.words import present, texts
from surgery_ui.work.job import Job

NARROWEST = 260
"""Of a column, in pixels."""
ABREAST = 3
"""Columns in a row at most."""
SELDOM = 1.0
"""Seconds between two times that it is said how far a text is."""


def text_columns(titles: Sequence[str]) -> list[Any]:
    """Return a container for each text, with its title above; where there is no room, as on a phone, one below the other."""
    row = st.container().grid(min(ABREAST, len(titles)), min_column_width=NARROWEST)
    columns = [row.container(border=True, height="stretch") for _ in titles]
    for column, title in zip(columns, titles, strict=True):
        column.markdown(f"**{present.plain(title)}**")
    return columns


@dataclass(frozen=True)
class Column:
    """One text.

    Attributes:
        title: above it, as text.
        job: what writes it.
        beside: number of the column that it is compared with; None for no marks.
    """

    title: str
    job: Job[Generation]
    beside: int | None = None


class TextColumns:
    """A section with a column a text.

    Args:
        owner: whose jobs these are.
        prompt: what they continue, as it is shown.
        columns: from left to right.
        name: of the section; keys of its buttons have it.
    """

    def __init__(self, owner: str, prompt: str, columns: Sequence[Column], name: str) -> None:
        self._owner, self._prompt, self._columns, self._name = owner, prompt, tuple(columns), name
        places = text_columns([column.title for column in columns])
        self._places = [(place.empty(), place.caption("Writing …")) for place in places]
        self._shown: dict[int, tuple[str, str, bool]] = {}
        self._said_at = time.monotonic()

    @property
    def jobs(self) -> Sequence[Job[Any]]:
        """Return the jobs to look at."""
        return [column.job for column in self._columns]

    def show(self) -> None:
        """Draw what is new."""
        if late := time.monotonic() > self._said_at + SELDOM:
            self._said_at = time.monotonic()
        for at, column in enumerate(self._columns):
            job = column.job
            if late and not job.done:
                self._places[at] = (self._places[at][0], self._places[at][1].caption(waiting.writing(job)))
            # the text first: a job that ends in between is drawn once more
            other = "" if column.beside is None else self._columns[column.beside].job.text
            text, done = job.text, job.done
            if self._shown.get(at) == (other, text, done):
                continue
            self._shown[at] = (other, text, done)
            place, note = self._places[at]
            if done and waiting.failed(place, self._owner, [job], f"{self._name}-{at}"):
                note.empty()
            else:
                self._places[at] = (place.html(texts.continuation(self._prompt, text, other)), note)
                if done:
                    note.caption(present.written(job.result))
