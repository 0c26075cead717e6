"""One sweep of a session: what it is, what has come of it so far, and the job that makes more.

A greedy removal and importance are entries too: they pause, go on, are kept, named and saved in the same way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from surgery_core.errors import Stopped
from surgery_core.measure.importance import Importance, Reading
from surgery_core.sweeps.estimate import Costs, Span, sweep_left
from surgery_core.sweeps.file import SweepIdentity, SweepResult
from surgery_core.sweeps.importance_file import ImportanceResult
from surgery_core.sweeps.kinds import SweepKind, SweepPoint
from surgery_core.sweeps.removal import Removal
from surgery_core.sweeps.request import Request, SweepRequest
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.work import timing
from surgery_ui.work.following import TICK, give_way
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane
from surgery_ui.work.sweep_jobs import Mark, lane_of

PATIENCE = 0.3
"""Seconds that a page waits for a sweep's first figure before it looks at anything else."""

Stage = Literal["planned", "running", "paused", "cancelled", "finished", "failed", "opened"]


@lru_cache(maxsize=64)
def seconds(request: Request, costs: Costs) -> float:
    """Return about how long a request takes; counting that for a long removal takes a while itself."""
    return request.seconds(costs)


@dataclass(eq=False)
class Entry:
    """One sweep: what it is, the rows that are there, and the job that makes more.

    Attributes:
        number: within the session.
        name: what lists call it; can be changed.
        kind: of the sweep.
        labels: of the positions of the starting plan.
        planned: its points, or for some opened files their rows; none of a removal or of importance.
        model: name of its model, as in results files.
        n_layers: depth of that model; 0 where it is not known.
        request: how to go on with it; None for an opened file.
        identity: once it is known.
        rows: what is there; `sync` adds what the job has made since. Of a removal, those of its steps.
        importance: what was read so far, where it is that.
        mark: the last step or all that was read, from which work goes on; a sweep goes on from its rows.
        job: at work; None otherwise.
        before: numbers of the rows that were there when the job was asked for.
        begun: share of the work that was done then.
        specs: of its charts as they were drawn last; `chart_specs` fills it.
        drawn: whether the page shows it as it is now: planned, or at work.
        passing: whether it was made on the way to something else, and may go where there is no room for more.
    """

    number: int
    name: str
    kind: SweepKind
    labels: tuple[str, ...]
    planned: tuple[SweepPoint | SweepRow, ...]
    model: str
    n_layers: int = 0
    request: Request | None = None
    identity: SweepIdentity | None = None
    rows: tuple[SweepRow, ...] = ()
    importance: Importance | None = None
    mark: Removal | Reading | None = None
    state: Stage = "running"
    job: Job[str] | None = None
    note: str = ""
    error: str = ""
    costs: Costs | None = None
    before: frozenset[int] = frozenset()
    begun: float = 0.0
    specs: dict[str, Any] = field(default_factory=dict)
    drawn: bool = False
    passing: bool = False

    @property
    def lane(self) -> Lane:
        """Return where its work is asked for."""
        return lane_of(self.kind)

    @property
    def first(self) -> SweepRow | None:
        """Return the row of the starting plan."""
        return next((row for row in self.rows if row.number < 0), None)

    @property
    def done(self) -> int:
        """Return how many results are there: points with a row, layers removed, windows read."""
        return self.importance.read if self.importance is not None else sum(row.number >= 0 for row in self.rows)

    @property
    def total(self) -> int:
        """Return how many there will be; 0 where that is not known yet."""
        if self.importance is not None:
            return self.importance.windows
        return self.request.total if self.request is not None else max(len(self.planned), self.done)

    @property
    def share(self) -> float:
        """Return which share of the work is done, 0 to 1; of a removal, of the plans that it tries."""
        if self.lane is Lane.SEARCH:
            return self._tried()
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def result(self) -> SweepResult | ImportanceResult | None:
        """Return the sweep as it can be saved, once there is something."""
        if self.identity is None:
            return None
        if self.importance is not None:
            return ImportanceResult(self.identity, self.importance)
        return SweepResult(self.identity, self.rows) if self.rows else None

    def sync(self) -> None:
        """Take over what the job has made, and say that a page still looks at it."""
        job = self.job
        if job is None:
            return
        job.look()
        finished = job.done
        self._take(job)
        if not finished:
            return
        self.job = None
        if job.error is None:
            self.state = "finished"
        elif isinstance(job.error, Stopped):
            self.state = "paused"
        else:
            self.state, self.error = "failed", str(job.error)

    def await_first(self) -> None:
        """Wait a moment for the first figure, so that it is drawn as soon as it is there."""
        until = time.monotonic() + PATIENCE
        while self.state == "running" and not self.done and time.monotonic() < until and self.job is not None:
            self.job.wait(TICK)
            give_way()
            self.sync()

    def go_on(self) -> Mark:
        """Say that work begins from what is there, and return from where."""
        self.before = frozenset(row.number for row in self.rows if row.number >= 0)
        self.begun, self.error, self.state = self.share, "", "running"
        return self.before if isinstance(self.request, SweepRequest) else self.mark

    def time_left(self) -> Span | None:
        """Return how long it goes on, from the estimate and from how fast it went so far."""
        asked = self.request
        if asked is None or self.job is None:
            return None
        if isinstance(asked, SweepRequest):
            return sweep_left(asked.start, asked.points, asked.measures, self.rows, self.before, self.costs)
        return timing.left(self.job, None if self.costs is None else seconds(asked, self.costs), self.begun)

    def _tried(self) -> float:
        """Return which share of a removal's plans was tried; a paused one has those of its steps."""
        if self.request is None or self.state == "finished":
            return 1.0
        here = self.job.progress[0] if self.job is not None else 0
        steps = self.mark.tried if isinstance(self.mark, Removal) else 0
        return min(1.0, max(here, steps) / max(1, self.request.n_plans))

    def _take(self, job: Job[str]) -> None:
        pieces = tuple(job.pieces)
        self.note = job.text or self.note
        known = {row.number for row in self.rows}
        for piece in pieces:
            if isinstance(piece, SweepIdentity):
                self.identity = piece
            elif isinstance(piece, Reading):
                self._read(piece)
            else:
                row = piece.row if isinstance(piece, Removal) else piece
                if row.number not in known:
                    self.rows = (*self.rows, row)
                    self.mark = piece if isinstance(piece, Removal) else None

    def _read(self, reading: Reading) -> None:
        if reading is not self.mark:
            self.mark, self.importance = reading, reading.result()
