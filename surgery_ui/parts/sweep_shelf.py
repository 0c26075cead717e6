"""The sweeps of one session: started, paused, finished, opened from files. They stay until they are removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from surgery_core.errors import InputError, SettingsError, SweepFileError
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.estimate import Costs
from surgery_core.sweeps.file import SweepResult, model_name
from surgery_core.sweeps.kinds import MAX_POINTS, SweepOptions, SweepPoint, sweep_kind, sweep_points
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.words import labels
from surgery_ui.work.kinds import Lane
from surgery_ui.work.sweep_jobs import SWEEPS, sweep_job

MAX_ENTRIES = 40
"""Most sweeps that a session keeps."""
MAX_LAYERS = 1024
"""Depth under which the starting plan of an opened file is read; its model may not be here."""


def entries() -> list[Entry]:
    """Return the sweeps of this session, the newest last."""
    return state.sweeps


def sync() -> Entry | None:
    """Bring all sweeps up to date and return the one that runs, if any."""
    for entry in entries():
        entry.sync()
    return next((entry for entry in entries() if entry.state == "running"), None)


def shown() -> Entry | None:
    """Return the sweep that the page shows: the chosen one, or the newest."""
    found = entries()
    chosen = state.sweep_shown
    return next((entry for entry in found if entry.number == chosen), found[-1] if found else None)


def start(now: session.Experiment, request: SweepRequest, costs: Costs | None = None) -> Entry:
    """Start a sweep and show it; one that is there already is shown instead.

    Raises:
        SettingsError: when one runs already, there are too many, or the plans cannot be made.
    """
    if (running := sync()) is not None:
        raise SettingsError(f"“{running.name}” is running. Wait for it, or cancel it first.")
    mine = model_name(now.loaded.info)
    same = (entry for entry in entries() if (entry.request, entry.model, entry.state) == (request, mine, "finished"))
    if (known := next(same, None)) is not None:
        state.sweep_shown = known.number
        return known
    _room()
    entry = draft(now, request)
    entry.costs, entry.state, entry.drawn = costs, "running", False
    entry.job = sweep_job(now.owner, now.loaded, request)
    _put(entry)
    return entry


def draft(now: session.Experiment, request: SweepRequest) -> Entry:
    """Return the sweep that a request would start; it is kept until another one is asked for, and in no list.

    It has the number that it will have, so that a browser that shows it keeps its chart when it starts.
    """
    known = state.sweep_draft
    mine, number = model_name(now.loaded.info), _next_number()
    if known is None or (known.request, known.model, known.number, known.state) != (request, mine, number, "planned"):
        known = state.sweep_draft = Entry(
            number=number, name=_name(request.family.title), kind=request.family, planned=request.points,
            labels=tuple(slot_labels(request.start)), model=mine, n_layers=now.loaded.info.n_layers,
            request=request, state="planned",
        )  # fmt: skip
    return known


def pause(entry: Entry) -> None:
    """Stop a sweep's work; its rows stay, and its memory is given back."""
    entry.sync()
    if entry.job is not None:
        SWEEPS.leave(state.owner, (Lane.SWEEP,))
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
    state.sweeps = [one for one in entries() if one is not entry]


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
        model=result.identity.model, labels=tuple(slot_labels(begin)) if begin is not None else (),
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
    state.sweep_count = entry.number
    state.sweeps = [*entries(), entry]
    state.sweep_shown = entry.number


def _room() -> None:
    if len(entries()) >= MAX_ENTRIES:
        raise SettingsError(f"There are {MAX_ENTRIES} sweeps in this session; remove one first.")


def _next_number() -> int:
    return state.sweep_count + 1


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
