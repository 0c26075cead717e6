"""The common skeleton of a section that waits for jobs and draws one result.

Its room is held open at the height of what comes: a bar that says how long that takes, and a skeleton below it. Once all
of its jobs are done, either their result is drawn there, or what went wrong, with a button that does them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import streamlit as st

from surgery_ui.parts import waiting
from surgery_ui.parts.held import held, let_go
from surgery_ui.parts.waiting import BAR, Waiting
from surgery_ui.work.job import Job
from surgery_ui.work.plan_jobs import WORK
from surgery_ui.work.pool import Pool


class Awaited:
    """A place of a page that shows what comes of some jobs, all at once; it is a `Section`.

    Args:
        owner: whose jobs these are.
        jobs: what is waited for; without any, nothing is shown.
        name: of the section; keys of its buttons have it.
        draw: draws the result, within the section's place.
        text: what is being done meanwhile, in a word or two; without it there is no bar.
        height: of what comes, in pixels; without it no place is held open.
        expected: returns how many seconds the jobs take in all, where that is known.
        said: whether what is wrong with what the person gave stands in another place already.
        place: an empty element with what stands there meanwhile, in place of a bar and a skeleton.
        pool: whose jobs these are.
    """

    def __init__(
        self, owner: str, jobs: Sequence[Job[Any]], name: str, draw: Callable[[], None], *, text: str = "",
        height: int = 0, expected: Callable[[], float | None] = lambda: None, said: bool = False, place: Any = None,
        pool: Pool = WORK,
    ) -> None:  # fmt: skip
        self.jobs, self._owner, self._name, self._draw, self._said = list(jobs), owner, name, draw, said
        self._pool = pool
        waits = bool(height) and not self._done
        # the bar stands in the same room, so that nothing moves up when it goes
        with held(name, height) if height else nullcontext():
            self._wait = Waiting(owner, jobs, text, name, expected, pool) if text and jobs else None
            if place is None:
                rest = max(1, height - (BAR if self._wait is not None else 0))
                place = st.skeleton(height=rest) if waits else st.empty()
        self._place, self._held = place, bool(height)
        self._drawn = not jobs

    @property
    def _done(self) -> bool:
        return all(job.done for job in self.jobs)

    def show(self) -> None:
        """Draw how far the jobs are, and the result once."""
        if self._wait is not None:
            self._wait.show()
        if self._drawn or not self._done:
            return
        self._drawn = True
        if waiting.failed(self._place, self._owner, self.jobs, self._name, self._pool, said=self._said):
            if self._held:
                let_go(self._name)
            return
        with self._place.container():
            self._draw()
