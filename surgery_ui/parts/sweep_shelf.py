"""The sweeps of one session: started, paused, finished, opened from files. They stay until they are removed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import streamlit as st

from surgery_core.errors import InputError, SettingsError, Stopped, SweepFileError
from surgery_core.plans.labels import position_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.estimate import Costs, Span, corrected, remaining
from surgery_core.sweeps.file import SweepIdentity, SweepResult, model_name
from surgery_core.sweeps.kinds import MAX_POINTS, SweepKind, SweepOptions, SweepPoint, sweep_kind, sweep_points
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.parts.chart_specs import Specs
from surgery_ui.session import session
from surgery_ui.words import labels
from surgery_ui.work.following import TICK
from surgery_ui.work.kinds import Lane
from surgery_ui.work.pool import Job
from surgery_ui.work.sweep_jobs import SWEEPS, Request, sweep_job

MAX_ENTRIES = 40
"""Most sweeps that a session keeps."""
PATIENCE = 0.3
"""Seconds that a page waits for a sweep's first figure before it looks at anything else."""
MAX_LAYERS = 1024
"""Depth under which the starting plan of an opened file is read; its model may not be here."""

State = Literal["planned", "running", "paused", "cancelled", "finished", "failed", "opened"]


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
        specs: of its charts as they were drawn last.
        drawn: whether the page shows it as it is now: planned, or at work.
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
    state: State = "running"
    job: Job[str] | None = None
    note: str = ""
    error: str = ""
    costs: Costs | None = None
    before: frozenset[int] = frozenset()
    specs: Specs = field(default_factory=dict)
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
            # Touching the session's state gives Streamlit the chance to stop this run.
            _ = st.session_state["owner"]
            self.sync()

    def time_left(self) -> Span | None:
        """Return how long it goes on, from the estimate and from how fast it went so far."""
        if self.request is None or self.job is None:
            return None
        known = {row.number for row in self.rows}
        weights = self._weights()
        left = sum(weight for number, weight in enumerate(weights) if number not in known)
        new = [row for row in self.rows if row.number >= 0 and row.number not in self.before]
        done, took = sum(weights[row.number] for row in new), sum(row.seconds for row in new)
        if self.costs is None:
            return remaining(done, took, left)
        start = 0.0 if known else self.costs.start_seconds(self.request.start, self.request.measures)
        return corrected(done, took, left + start)

    def _weights(self) -> list[float]:
        if self.costs is None or self.request is None:
            return [1.0] * len(self.planned)
        return self.costs.seconds(self.request.start, self.request.points, self.request.measures)

    def _take(self, job: Job[str]) -> None:
        pieces = tuple(job.pieces)
        self.note = job.text or self.note
        known = {row.number for row in self.rows}
        for piece in pieces:
            if isinstance(piece, SweepIdentity):
                self.identity = piece
            elif piece.number not in known:
                self.rows = (*self.rows, piece)


def entries() -> list[Entry]:
    """Return the sweeps of this session, the newest last."""
    found: list[Entry] = st.session_state.setdefault("sweeps", [])
    return found


def sync() -> Entry | None:
    """Bring all sweeps up to date and return the one that runs, if any."""
    for entry in entries():
        entry.sync()
    return next((entry for entry in entries() if entry.state == "running"), None)


def shown() -> Entry | None:
    """Return the sweep that the page shows: the chosen one, or the newest."""
    found = entries()
    chosen = st.session_state.get("sweep-shown")
    return next((entry for entry in found if entry.number == chosen), found[-1] if found else None)


def start(now: session.Experiment, request: Request, costs: Costs | None = None) -> Entry:
    """Start a sweep and show it; one that is there already is shown instead.

    Raises:
        SettingsError: when one runs already, there are too many, or the plans cannot be made.
    """
    if (running := sync()) is not None:
        raise SettingsError(f"“{running.name}” is running. Wait for it, or cancel it first.")
    mine = model_name(now.loaded.info)
    same = (entry for entry in entries() if (entry.request, entry.model, entry.state) == (request, mine, "finished"))
    if (known := next(same, None)) is not None:
        st.session_state["sweep-shown"] = known.number
        return known
    _room()
    entry = draft(now, request)
    entry.costs, entry.state, entry.drawn = costs, "running", False
    entry.job = sweep_job(now.owner, now.loaded, request)
    _put(entry)
    return entry


def draft(now: session.Experiment, request: Request) -> Entry:
    """Return the sweep that a request would start; it is kept until another one is asked for, and in no list.

    It has the number that it will have, so that a browser that shows it keeps its chart when it starts.
    """
    known: Entry | None = st.session_state.get("sweep-draft")
    mine, number = model_name(now.loaded.info), _next_number()
    if known is None or (known.request, known.model, known.number, known.state) != (request, mine, number, "planned"):
        known = st.session_state["sweep-draft"] = Entry(
            number=number, name=_name(request.family.title), kind=request.family, planned=request.points,
            labels=tuple(position_labels(request.start)), model=mine, n_layers=now.loaded.info.n_layers,
            request=request, state="planned",
        )  # fmt: skip
    return known


def pause(entry: Entry) -> None:
    """Stop a sweep's work; its rows stay, and its memory is given back."""
    entry.sync()
    if entry.job is not None:
        SWEEPS.leave(st.session_state["owner"], (Lane.SWEEP,))
        entry.job, entry.state = None, "paused"


def resume(entry: Entry, now: session.Experiment) -> None:
    """Go on with a sweep from the rows that are there.

    Raises:
        SettingsError: when another one runs, or its model is not open.
    """
    if (running := sync()) is not None:
        raise SettingsError(f"“{running.name}” is running. Wait for it, or cancel it first.")
    if entry.request is None or entry.model != model_name(now.loaded.info):
        raise SettingsError(f"This sweep is of {entry.model}; open that model to go on with it.")
    done = {row.number for row in entry.rows if row.number >= 0}
    entry.before, entry.error, entry.state = frozenset(done), "", "running"
    entry.job = sweep_job(now.owner, now.loaded, entry.request, done)


def cancel(entry: Entry) -> None:
    """End a sweep; without any result it disappears."""
    pause(entry)
    entry.state = "cancelled"
    if not entry.done:
        remove(entry)


def remove(entry: Entry) -> None:
    """Take a sweep out of the session."""
    pause(entry)
    st.session_state["sweeps"] = [one for one in entries() if one is not entry]


def open_file(name: str, data: bytes) -> Entry:
    """Open a saved sweep, read-only.

    Raises:
        InputError: when it is no file of a sweep, or too large; it says what is wrong.
    """
    _room()
    result = SweepResult.read(_decoded(data, name), name)
    if len(result.rows) > MAX_POINTS + 1:
        raise SweepFileError(f"{name} has {len(result.rows):,} rows; a sweep has at most {MAX_POINTS:,}.")
    kind = sweep_kind(result.identity.kind)
    begin, planned = _plans(result)
    entry = Entry(
        number=_next_number(), name=_name(name.rsplit(".", 1)[0]), kind=kind, planned=planned,
        model=result.identity.model, labels=tuple(position_labels(begin)) if begin is not None else (),
        identity=result.identity, rows=result.rows, state="opened",
    )  # fmt: skip
    _put(entry)
    return entry


def guarded(control: str, action: Callable[[], object]) -> bool:
    """Do what a button asks for; what is wrong with it is said beside the control."""
    session.set_problem(control, None)
    try:
        action()
    except InputError as error:
        session.set_problem(control, error)
        return False
    return True


def _put(entry: Entry) -> None:
    st.session_state["sweep-count"] = entry.number
    st.session_state["sweeps"] = [*entries(), entry]
    st.session_state["sweep-shown"] = entry.number


def _room() -> None:
    if len(entries()) >= MAX_ENTRIES:
        raise SettingsError(f"There are {MAX_ENTRIES} sweeps in this session; remove one first.")


def _next_number() -> int:
    return int(st.session_state.get("sweep-count", 0)) + 1


def rename(entry: Entry, wanted: str) -> None:
    """Call a sweep something else; a name that another one has gets a number, an empty one changes nothing."""
    if wanted.strip():
        entry.name = labels.free(wanted, {one.name for one in entries() if one is not entry})


def _name(wanted: str) -> str:
    return labels.free(wanted, {entry.name for entry in entries()})


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SweepFileError(
            f"{name} is not text (byte {error.start + 1}); open a CSV or JSON file of a sweep."
        ) from None


def _plans(result: SweepResult) -> tuple[LayerPlan | None, tuple[SweepPoint | SweepRow, ...]]:
    """Return the starting plan and the points of an opened sweep, or its rows where they cannot be made again."""
    rows = tuple(sorted((row for row in result.rows if row.number >= 0), key=lambda row: row.number))
    try:
        begin = LayerPlan.parse(result.identity.start, MAX_LAYERS)
        options = json.loads(result.identity.options)
        options["factors"] = tuple(float(factor) for factor in options["factors"])
        points = sweep_points(result.identity.kind, begin, SweepOptions(**options))
    except (InputError, ValueError, TypeError, KeyError):
        return None, rows
    return (begin, points) if _same(points, rows) else (begin, rows)


def _same(points: Sequence[SweepPoint], rows: Sequence[SweepRow]) -> bool:
    return all(row.number < len(points) and str(points[row.number].plan) == row.plan for row in rows)
