"""The common skeleton of a section that waits for jobs and draws one result.

Its place is held open by a skeleton of the height of what comes, below a bar that says how long that takes. Once all
of its jobs are done, either their result is drawn there, or what went wrong, with a button that does them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from surgery_ui.parts import waiting
from surgery_ui.parts.waiting import Waiting
from surgery_ui.work.job import Job


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
    """

    def __init__(
        self, owner: str, jobs: Sequence[Job[Any]], name: str, draw: Callable[[], None], *, text: str = "",
        height: int = 0, expected: Callable[[], float | None] = lambda: None, said: bool = False, place: Any = None,
    ) -> None:  # fmt: skip
        self.jobs, self._owner, self._name, self._draw, self._said = list(jobs), owner, name, draw, said
        self._wait = Waiting(owner, jobs, text, name, expected) if text and jobs else None
        if place is None:
            place = st.skeleton(height=height) if height and not self._done else st.empty()
        self._place = place
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
        if not waiting.failed(self._place, self._owner, self.jobs, self._name, said=self._said):
            with self._place.container():
                self._draw()
