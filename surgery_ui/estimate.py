"""The line beside a Start button that says how long the work would take."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from surgery_core.sweep import SweepMeasures
from surgery_core.sweep_estimate import Costs
from surgery_core.sweep_plans import SweepOptions, sweep_points
from surgery_ui import present, session, sweep_words
from surgery_ui.jobs import Job
from surgery_ui.sweep_jobs import Request, SearchRequest, costs_job


class Estimate:
    """The line that says how long a sweep would take, drawn when the model has been timed."""

    def __init__(self, now: session.Experiment, request: Request | SearchRequest | None, place: Any) -> None:
        self._request, self._place, self._drawn = request, place, False
        texts = request.texts if request is not None else ()
        self._job = costs_job(now.owner, now.loaded, texts) if texts else None

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
        plans = sweep_words.counted(count(self._request), "plan")
        if not self._job.done:
            self._place.caption(f"{plans}. Timing the model …")
            return
        self._drawn = True
        if self.costs is None:
            if self._job.error is not None:
                self._place.error(present.plain(str(self._job.error)))
            return
        about = f"{plans} over {sweep_words.counted(self.costs.n_tokens, 'token')}: about "
        whole = " This model cannot start in the middle, so every plan is run whole." if self.costs.whole else ""
        self._place.caption(f"{about}**{sweep_words.duration(seconds(self._request, self.costs))}**.{whole}")


def count(request: Request | SearchRequest) -> int:
    """Return how many plans a request measures."""
    if isinstance(request, Request):
        return len(request.points)
    return _removal(request)[0]


def seconds(request: Request | SearchRequest, costs: Costs) -> float:
    """Return about how long a request takes."""
    if isinstance(request, Request):
        return sum(costs.seconds(request.start, request.points, request.measures))
    return _removal(request, costs)[1]


@lru_cache(maxsize=32)
def _removal(request: SearchRequest, costs: Costs | None = None) -> tuple[int, float]:
    """Return how many plans a removal tries and about how long that takes, as if a middle layer went each time."""
    plan, tried, time = request.start, 0, 0.0
    while len(plan) > request.least:
        points, beam = sweep_points("delete", plan, SweepOptions()), request.beam if tried else 1
        tried += len(points) * beam
        if costs is not None:
            time += sum(costs.seconds(plan, points, SweepMeasures())) * beam
            time += costs.point_seconds(len(plan), request.measures)
        plan = points[len(points) // 2].plan
    return tried, time
