"""One sweep of a session: what it is, what has come of it so far, and the job that makes more."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from surgery_core.errors import Stopped
from surgery_core.sweeps.estimate import Costs, Span, sweep_left
from surgery_core.sweeps.file import SweepIdentity, SweepResult
from surgery_core.sweeps.kinds import SweepKind, SweepPoint
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.work.following import TICK, give_way
from surgery_ui.work.job import Job

PATIENCE = 0.3
"""Seconds that a page waits for a sweep's first figure before it looks at anything else."""

Stage = Literal["planned", "running", "paused", "cancelled", "finished", "failed", "opened"]


@dataclass(eq=False)
class Entry:
    """One sweep: what it is, the rows that are there, and the job that makes more.

    Attributes:
        number: within the session.
        name: what lists call it; can be changed.
        kind: of the sweep.
        labels: of the positions of the starting plan.
        planned: its points, or for some opened files their rows.
        model: name of its model, as in results files.
        n_layers: depth of that model; 0 where it is not known.
        request: how to go on with it; None for an opened file.
        identity: once it is known.
        rows: what is there; `sync` adds what the job has made since.
        job: at work; None otherwise.
        before: numbers of the rows that were there when the job was asked for.
        specs: of its charts as they were drawn last; `chart_specs` fills it.
        drawn: whether the page shows it as it is now: planned, or at work.
    """

    number: int
    name: str
    kind: SweepKind
    labels: tuple[str, ...]
    planned: tuple[SweepPoint | SweepRow, ...]
    model: str
    n_layers: int = 0
    request: SweepRequest | None = None
    identity: SweepIdentity | None = None
    rows: tuple[SweepRow, ...] = ()
    state: Stage = "running"
    job: Job[str] | None = None
    note: str = ""
    error: str = ""
    costs: Costs | None = None
    before: frozenset[int] = frozenset()
    specs: dict[str, Any] = field(default_factory=dict)
    drawn: bool = False

    @property
    def first(self) -> SweepRow | None:
        """Return the row of the starting plan."""
        return next((row for row in self.rows if row.number < 0), None)

    @property
    def done(self) -> int:
        """Return how many points have a row."""
        return sum(row.number >= 0 for row in self.rows)

    @property
    def result(self) -> SweepResult | None:
        """Return the sweep as it can be saved, once there is something."""
        return SweepResult(self.identity, self.rows) if self.identity is not None and self.rows else None

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

    def time_left(self) -> Span | None:
        """Return how long it goes on, from the estimate and from how fast it went so far."""
        if self.request is None or self.job is None:
            return None
        asked = self.request
        return sweep_left(asked.start, asked.points, asked.measures, self.rows, self.before, self.costs)

    def _take(self, job: Job[str]) -> None:
        pieces = tuple(job.pieces)
        self.note = job.text or self.note
        known = {row.number for row in self.rows}
        for piece in pieces:
            if isinstance(piece, SweepIdentity):
                self.identity = piece
            elif piece.number not in known:
                self.rows = (*self.rows, piece)
