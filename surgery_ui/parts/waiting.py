"""What stands where a result will be: how long it takes, a way to cancel it, and a way to try again.

A section that waits has skeletons of the height of what comes, so that no figure of a former plan stands under a new
title and nothing moves when the figures are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.errors import InputError, Stopped
from surgery_core.sweeps.estimate import Span
from surgery_ui.session import session
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import timing
from surgery_ui.work.job import Cancelled, Job
from surgery_ui.work.plan_jobs import WORK
from surgery_ui.work.pool import Pool

SHORT = 4.0
"""Seconds: work that ends sooner needs no button to cancel it."""
PROMPT = 1.0
"""Seconds within which work begins on a server that is not busy; until then nothing is said of a queue."""
BAR = 52
"""Height of the bar in pixels, with the gap below it."""
STITCHING = "Stitching the cut"
ROW = 35
"""Height of a row of a table in pixels."""


class Waiting:
    """A bar with the time that is left and a Cancel button, for jobs of one section. Nothing when they are done.

    Args:
        owner: whose jobs these are.
        jobs: what is waited for.
        text: what is being done, in a word or two.
        name: of the section; its button has it in its key.
        expected: returns how many seconds the jobs take in all, where that is known.
        pool: whose jobs these are.
    """

    def __init__(
        self, owner: str, jobs: Sequence[Job[Any]], text: str, name: str,
        expected: Callable[[], float | None] = lambda: None, pool: Pool = WORK,
    ) -> None:  # fmt: skip
        self._owner, self._jobs, self._text, self._name = owner, tuple(jobs), text, name
        self._expected, self._pool = expected, pool
        # One empty element takes no room on the page; a container would.
        self._place = st.empty()
        self._bar: Any = None
        self._button: Any = None
        self._drawn: tuple[float, str] | None = None
        self._offered = False

    def show(self) -> None:
        """Draw how far the jobs are; clear everything once they are done."""
        if all(job.done for job in self._jobs):
            return self._clear()
        done, total = (sum(job.progress[at] for job in self._jobs) for at in (0, 1))
        share = min(1.0, done / total) if total else 0.0
        expected = self._expected()
        left = _together(self._jobs, expected)
        text = doing(self._jobs, self._text)
        now = (round(share, 2), in_line(self._pool, self._jobs, text) or _said(text, left))
        if self._bar is None:
            row = self._place.container(horizontal=True, vertical_alignment="center", gap="small")
            self._bar, self._button = row.empty(), row.empty()
        if now != self._drawn:
            self._drawn = now
            self._bar.progress(share, text=now[1])
        if not self._offered and _is_long(self._jobs, left):
            self._offered = True
            self._button.button(
                "Cancel", key=f"cancel-{self._name}", icon=":material/close:", on_click=_cancel,
                args=(self._pool, self._owner, self._jobs),
            )  # fmt: skip
        return None

    def _clear(self) -> None:
        if self._bar is not None:
            self._place.empty()
            self._bar = None


def in_line(pool: Pool, jobs: Sequence[Job[Any]], text: str) -> str:
    """Return that jobs wait for others, how many and about how long, or nothing: not for work that has just been asked for."""
    open_jobs = [job for job in jobs if not job.done]
    if not open_jobs or time.monotonic() - min(job.asked for job in open_jobs) < PROMPT:
        return ""
    queued = [None if job.working is not None else pool.queued(job) for job in open_jobs]
    waiting = [one for one in queued if one is not None]
    if len(waiting) < len(queued):
        return ""
    first = min(waiting, key=lambda one: one.before)
    if not first.before:
        return f"{text}: its turn is next"
    when = f", about {sweep_words.duration(first.seconds)} until its turn" if first.seconds >= 1 else ""
    return f"{text}: {first.before:,} before it{when}"


def doing(jobs: Sequence[Job[Any]], text: str) -> str:
    """Return what is being done for some jobs: `text`, or that a cut is stitched where all of them wait for that."""
    open_jobs = [job for job in jobs if not job.done]
    return STITCHING if open_jobs and all(map(_sews, open_jobs)) else text


def stitching(job: Job[Any]) -> str:
    """Return that a job waits for a cut to be stitched, and how far that is; nothing where it does not."""
    needs = _sews(job)
    if not needs:
        return ""
    done, total = needs[0].reported
    return f"{STITCHING} … {done / total:.0%}" if total else f"{STITCHING} …"


def _sews(job: Job[Any]) -> list[Job[Any]]:
    return [need for need in job.needs if need.key[0] == "stitches" and not need.done]


def writing(job: Job[Any]) -> str:
    """Return how far a text is and how long it goes on, for the line below it."""
    if line := in_line(WORK, [job], doing([job], "Writing")) or stitching(job):
        return line
    (done, total), left = job.reported, timing.left(job)
    if job.done or not done or left is None:
        return "Writing …"
    return f"Writing … {done} of {total} tokens, {sweep_words.span(left)} left"


def failed(
    place: DeltaGenerator, owner: str, jobs: Sequence[Job[Any]], name: str, pool: Pool = WORK, *, said: bool = False
) -> bool:  # fmt: skip
    """Say in a section's place what went wrong with its jobs, with a button that does them again; return whether.

    Args:
        place: of the section.
        owner: whose jobs these are.
        jobs: all jobs of the section; only those that are done are looked at.
        name: of the section; its button has it in its key.
        pool: whose jobs these are.
        said: whether what is wrong with what the person gave stands in another place already.
    """
    wrong = [job for job in jobs if job.done and job.error is not None]
    if not wrong:
        return False
    error = wrong[0].error
    if said and isinstance(error, InputError):
        place.caption("Not computed; the reason stands above.")
        return True
    with place.container(horizontal=True, vertical_alignment="center", gap="small"):
        if isinstance(error, Cancelled):
            st.info("Cancelled before it was done.")
        elif isinstance(error, Stopped):
            st.info("This stopped before it was done, because no page was waiting for it.")
        else:
            st.error(present.plain(str(error)))
        # What a person gave is not mended by the same again; its sentence has the next step.
        if not isinstance(error, InputError):
            retry(owner, wrong, name, "Run it" if isinstance(error, Cancelled) else "Retry", pool)
    return True


def retry(owner: str, jobs: Sequence[Job[Any]], name: str, label: str = "Retry", pool: Pool = WORK) -> None:
    """Show the button that has jobs done again; `name` makes its key."""
    st.button(label, key=f"retry-{name}", icon=":material/refresh:", on_click=_again, args=(pool, owner, jobs))


def not_finite(place: Any, result: Any) -> bool:
    """Say in place of figures that they are no numbers, and from where on; return whether that is so."""
    said = str(getattr(result, "not_finite", ""))
    if said:
        place.error(f"There are no figures to show. {present.plain(said)}")
    return bool(said)


def table_height(rows: int) -> int:
    """Return the height in pixels of a table with so many rows and a header."""
    return ROW * (rows + 1) + 3


def _together(jobs: Sequence[Job[Any]], expected: float | None) -> Span | None:
    """Return how long jobs go on that share what is expected, one after the other or side by side."""
    running = [job for job in jobs if not job.done]
    each = None if expected is None else expected / len(jobs)
    return timing.longest([timing.left(job, each) for job in running])


def _said(text: str, left: Span | None) -> str:
    return text if left is None or left.high < SHORT else f"{text}, {sweep_words.span(left)} left"


def _is_long(jobs: Sequence[Job[Any]], left: Span | None) -> bool:
    began = [job.working for job in jobs if not job.done and job.working is not None]
    waited = time.monotonic() - min(began) if began else 0.0
    return waited > SHORT or (left is not None and left.high > SHORT)


def _cancel(pool: Pool, owner: str, jobs: Sequence[Job[Any]]) -> None:
    session.touch()
    for job in jobs:
        if not job.done:
            pool.cancel(owner, job)


def _again(pool: Pool, owner: str, jobs: Sequence[Job[Any]]) -> None:
    session.touch()
    for job in jobs:
        pool.again(owner, job)
