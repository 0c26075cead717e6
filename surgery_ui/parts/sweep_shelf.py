"""The sweeps of one session: started, paused, finished, opened from files. They stay until they are removed.

Greedy removals and importance are among them; each of the three has a lane, in which one runs at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from surgery_core.bounded import read_json
from surgery_core.errors import InputError, SettingsError, SweepFileError
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.estimate import Costs
from surgery_core.sweeps.file import SweepIdentity, SweepResult, model_name
from surgery_core.sweeps.importance_file import ImportanceResult, read_result
from surgery_core.sweeps.kinds import MAX_POINTS, SweepPoint, sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import GREEDY, Request, SweepRequest, any_kind
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.words import labels
from surgery_ui.work.kinds import Lane
from surgery_ui.work.limits import limits
from surgery_ui.work.long_runs import running
from surgery_ui.work.sweep_jobs import SWEEPS, lane_of, start_job

MAX_ENTRIES = 40
"""Most sweeps that a session keeps."""
MAX_LAYERS = 1024
"""Depth under which the starting plan of an opened file is read; its model may not be here."""


def entries(lane: Lane | None = None) -> list[Entry]:
    """Return the sweeps of this session, the newest last; of one lane, or all of them."""
    return [entry for entry in state.sweeps if lane is None or entry.lane == lane]


def sync(lane: Lane = Lane.SWEEP) -> Entry | None:
    """Bring everything up to date and return what runs in a lane, if anything."""
    for entry in entries():
        entry.sync()
    return next((entry for entry in entries(lane) if entry.state == "running"), None)


def shown(lane: Lane = Lane.SWEEP) -> Entry | None:
    """Return what the page shows of a lane: the chosen sweep, or the newest."""
    found, chosen = entries(lane), state.sweeps_shown.get(lane)
    return next((entry for entry in found if entry.number == chosen), found[-1] if found else None)


def show(entry: Entry) -> None:
    """Choose what the page shows of a sweep's lane."""
    state.sweeps_shown = state.sweeps_shown | {entry.lane: entry.number}


def same_sweep(now: session.Experiment, request: SweepRequest) -> Entry | None:
    """Return the sweep of this session that tried the same plans over the same texts: one that ended, or else the newest."""
    mine, wanted = model_name(now.loaded.info), (request.kind, request.options, request.start, request.texts)
    found = [
        entry for entry in entries(Lane.SWEEP)
        if isinstance(asked := entry.request, SweepRequest) and entry.model == mine
        and (asked.kind, asked.options, asked.start, asked.texts) == wanted
    ]  # fmt: skip
    return max(found, key=lambda entry: (entry.state in ("finished", "running"), entry.number), default=None)


def deletion_costs(now: session.Experiment) -> dict[int, float]:
    """Return the change of loss in nats a token that deleting each layer of the open model alone brought.

    It is that of the newest sweep of this session that deletes each layer of the unchanged model; none where there is none.
    """
    mine, identity = model_name(now.loaded.info), str(now.identity)
    for entry in reversed(entries()):
        entry.sync()
        first = entry.first
        if entry.kind.key == "delete" and entry.model == mine and first is not None and first.plan == identity:
            rows = [row for row in entry.rows if row.number >= 0 and math.isfinite(row.loss_change)]
            return {int(row.x): row.loss_change for row in rows if isinstance(row.x, int)}
    return {}


def start(now: session.Experiment, request: Request, costs: Costs | None = None) -> Entry:
    """Start what is asked for and show it; what is there already is shown instead.

    Raises:
        SettingsError: when one of its lane runs already, there are too many, or the plans cannot be made.
    """
    _none_runs(lane_of(request.family))
    mine = model_name(now.loaded.info)
    same = (entry for entry in entries() if (entry.request, entry.model, entry.state) == (request, mine, "finished"))
    if (known := next(same, None)) is not None:
        show(known)
        return known
    _room()
    limits().check_plans(len(request.points))
    limits().check_jobs(running(now.owner))
    entry = draft(now, request)
    entry.costs, entry.state, entry.drawn = costs, "running", False
    entry.job = start_job(now.owner, now.loaded, request)
    _put(entry)
    return entry


def begin(control: str, now: session.Experiment, *requests: Request, costs: Costs | None = None) -> None:
    """Start what a control of the Sweep page asks for, and have the page go there."""
    session.touch()
    if guarded(control, lambda: _start_all(now, requests, costs)):
        state.sweep_starts += 1


def _start_all(now: session.Experiment, requests: Sequence[Request], costs: Costs | None) -> None:
    """Start all that is asked for, or nothing."""
    for request in requests:
        _none_runs(lane_of(request.family))
    limits().check_jobs(running(now.owner) + len(requests) - 1)
    for request in requests:
        start(now, request, costs)


def draft(now: session.Experiment, request: Request) -> Entry:
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
    """Stop a sweep's work; what there is of it stays, and its memory is given back."""
    entry.sync()
    if entry.job is not None:
        SWEEPS.leave(state.owner, (entry.lane,))
        entry.job, entry.state = None, "paused"


def resume(entry: Entry, now: session.Experiment) -> None:
    """Go on with a sweep from what is there.

    Raises:
        SettingsError: when another one of its lane runs, or its model is not open.
    """
    _none_runs(entry.lane)
    if entry.request is None or entry.model != model_name(now.loaded.info):
        raise SettingsError(f"This sweep is of {entry.model}; open that model to go on with it.")
    limits().check_jobs(running(now.owner))
    entry.job = start_job(now.owner, now.loaded, entry.request, entry.go_on())


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
    result = read_result(_decoded(data, name), name)
    entry = _opened(result, name)
    _put(entry)
    return entry


def _opened(result: SweepResult | ImportanceResult, name: str) -> Entry:
    """Return what a file has, to be shown only."""
    identity = result.identity
    begin = _beginning(identity)
    entry = Entry(
        number=_next_number(), name=_name(name.rsplit(".", 1)[0]), kind=any_kind(identity.kind), planned=(),
        model=identity.model, labels=tuple(slot_labels(begin)) if begin is not None else (), identity=identity,
        state="opened",
    )  # fmt: skip
    if isinstance(result, ImportanceResult):
        entry.importance = result.found
        return entry
    if len(result.rows) > MAX_POINTS + 1:
        raise SweepFileError(f"{name} has {len(result.rows):,} rows; a sweep has at most {MAX_POINTS:,}.")
    entry.rows, entry.planned = result.rows, _planned(result, begin)
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
    show(entry)


def _none_runs(lane: Lane) -> None:
    if (running := sync(lane)) is not None:
        raise SettingsError(f"“{running.name}” is running. Wait for it, or cancel it first.")


def _room() -> None:
    """Make room for one more: what was only made on the way to something else goes, the oldest first.

    Raises:
        SettingsError: when nothing may go.
    """
    passing = [entry for entry in entries() if entry.passing and entry.state != "running"]
    if len(entries()) >= MAX_ENTRIES and passing:
        remove(passing[0])
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


def _beginning(identity: SweepIdentity) -> LayerPlan | None:
    """Return the plan that an opened file starts from, where it can be read."""
    try:
        return LayerPlan.parse(identity.start, MAX_LAYERS)
    except InputError:
        return None


def _planned(result: SweepResult, begin: LayerPlan | None) -> tuple[SweepPoint | SweepRow, ...]:
    """Return the points of an opened sweep, or its rows where they cannot be made again; none of a removal."""
    rows = tuple(sorted((row for row in result.rows if row.number >= 0), key=lambda row: row.number))
    if begin is None or result.identity.kind == GREEDY.key:
        return rows
    try:
        options = read_json(result.identity.options)
        options["factors"] = tuple(float(factor) for factor in options["factors"])
        points = sweep_points(result.identity.kind, begin, SweepOptions(**options))
    except (InputError, ValueError, TypeError, KeyError):
        return rows
    return points if _same(points, rows) else rows


def _same(points: Sequence[SweepPoint], rows: Sequence[SweepRow]) -> bool:
    return all(row.number < len(points) and str(points[row.number].plan) == row.plan for row in rows)
