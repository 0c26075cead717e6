"""The line beside a Start button that says how long the work would take."""

from __future__ import annotations

from typing import Any

from surgery_core.sweeps.estimate import Costs, Span
from surgery_core.sweeps.request import Request
from surgery_ui.session import session
from surgery_ui.session.sweep_entry import seconds
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import timing
from surgery_ui.work.job import Job
from surgery_ui.work.timing import costs_job


def estimate_of(now: session.Experiment, request: Request | None, place: Any) -> Estimate:
    """Have the model timed for a request, and return the section that says in a place how long it would take."""
    job = costs_job(now.owner, now.loaded, request.texts) if request is not None and request.texts else None
    return Estimate(request, job, place)


class Estimate:
    """The line that says how long a sweep would take, drawn when the model has been timed.

    Args:
        request: what is asked for, if anything.
        job: times the model.
        place: of the line.
    """

    def __init__(self, request: Request | None, job: Job[Costs] | None, place: Any) -> None:
        self._request, self._job, self._place, self._drawn = request, job, place, False
        self._said = ""

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the job to look at."""
        return [self._job] if self._job is not None else []

    @property
    def costs(self) -> Costs | None:
        """Return the timing, once it is there."""
        known = self._job is not None and self._job.done and self._job.error is None
        return self._job.result if known and self._job is not None else None

    def show(self) -> None:
        """Draw the estimate once."""
        if self._drawn or self._request is None or self._job is None:
            return
        plans = sweep_words.counted(self._request.n_plans, "plan")
        if not self._job.done:
            left = timing.left(self._job)
            wait = "" if left is None else f", {sweep_words.span(left)} left"
            if (said := f"{plans}. Timing the model{wait} …") != self._said:
                self._said = said
                self._place.caption(said)
            return
        self._drawn = True
        if self.costs is None:
            if self._job.error is not None:
                self._place.error(present.plain(str(self._job.error)))
            return
        about = f"{plans} over {sweep_words.counted(self.costs.n_tokens, 'token')}: "
        whole = self.costs.whole and self._request.n_plans > 1
        more = " This model cannot start in the middle, so every plan is run whole." if whole else ""
        time = sweep_words.span(Span.about(seconds(self._request, self.costs)))
        self._place.caption(f"{about}**{time}**.{more}")
