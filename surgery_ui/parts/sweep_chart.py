"""The chart of a sweep, its choices, and how far it is: for every page that shows one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
import streamlit as st

from surgery_core.charts.sweep_marks import Sheet
from surgery_core.charts.sweeps import MAPS, heat, sweep_chart
from surgery_core.sweeps.frames import ValueScale, map_frame, map_names, sweep_frame, value_scale, wants_log
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.rows import METRICS
from surgery_ui.parts import adoption, chart_specs, sweep_shelf, waiting
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import echo, session
from surgery_ui.session.state import state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work.kinds import Lane
from surgery_ui.work.sweep_jobs import SWEEPS

METRIC, LOG = "sweep-metric", "sweep-log"
"""Keys of the fields."""
TICK = 0.3
"""Seconds between two looks at a running sweep."""


UNDER_WAY = ("running", "paused", "failed")
"""States of a sweep that is not at its end; it has a line with its progress."""


FILLS = ("planned", "running")
"""States of a sweep whose chart is filling, or about to."""


def metric_choice(shown: Sequence[Entry]) -> str:
    """Show which figure is drawn and return it; only those that all sweeps shown have."""
    known = known_metrics(shown)
    if st.session_state.get(METRIC) not in known:
        st.session_state[METRIC] = known[0]
    chosen = st.selectbox(
        "Show", known, key=METRIC, format_func=METRICS.__getitem__, width=240, persist_state="session",
        on_change=session.touch,
    )  # fmt: skip
    return str(chosen)


def known_metrics(shown: Sequence[Entry]) -> list[str]:
    """Return the figures that all sweeps shown have; perplexity where they have none in common."""
    return [metric for metric in METRICS if all(_has(entry, metric) for entry in shown)] or ["perplexity"]


def chart(entry: Entry, metric: str, now: session.Experiment, scale: ValueScale | None = None, title: str = "") -> None:
    """Draw a sweep; a click on it takes its plan over into the strip."""
    frame = partial(sweep_frame, entry.kind, entry.labels, entry.planned, entry.rows, metric)
    if entry.kind.form == "maps":
        scale = scale or shared_scale([entry], metric)
        said = replace(sheet(entry, metric, str(now.plan), scale), log=log_of(metric), live=entry.state in FILLS)
        _maps(entry, said, title, frame)
        return
    said = replace(sheet(entry, metric, str(now.plan), scale), log=log_of(metric))
    _drawn(entry, said, title, lambda shown: sweep_chart(entry.kind.form, frame(), shown))


def _maps(entry: Entry, said: Sheet, title: str, frame: Callable[[], pd.DataFrame]) -> None:
    """Draw maps side by side, each with its name above it, and below each other where there is no room."""
    names = map_names(point.y for point in entry.planned if point.number >= 0)
    row = st.container().grid(len(names), min_column_width=280)
    for name in names:
        with row.container():
            st.markdown(f"**{present.plain(MAPS.get(name, name))}**")
            _drawn(entry, said, f"{title}{name}", partial(_map, frame, name))


def _map(frame: Callable[[], pd.DataFrame], name: str, said: Sheet) -> object:
    return heat(map_frame(frame(), name), said)


def _drawn(entry: Entry, said: Sheet, title: str, make: Callable[[Sheet], object]) -> None:
    """Draw one chart of a sweep, anew only where what it is made of has changed."""
    said = replace(said, dark=chart_specs.dark())
    key = f"sweep-chart-{entry.number}-{title}-{adoption.clicks()}"
    chart_specs.draw(
        entry.specs, f"sweep-{title}", (len(entry.rows), said), lambda: make(said), key=key,
        on_select=adoption.on_click("sweep", plans_of(entry), key), alt=f"{entry.name}: {METRICS[said.metric]} of every plan",
    )  # fmt: skip


def sheet(
    entry: Entry, metric: str, chosen: str | None = None, scale: ValueScale | None = None, *, dark: bool = False,
    pick: str | None = "point",
) -> Sheet:  # fmt: skip
    """Return what a sweep's chart says besides its figures."""
    first = entry.first
    value = float(getattr(first, metric)) if first is not None else None
    kind = entry.kind
    live = entry.state in FILLS and scale is None
    return Sheet(metric, METRICS[metric], kind.x_title, kind.y_title, value, scale, chosen, dark, pick, live=live)


def shared_scale(shown: Sequence[Entry], metric: str) -> ValueScale:
    """Return one scale for the charts of several sweeps."""
    values = [float(getattr(row, metric)) for entry in shown for row in entry.rows if not row.refused]
    firsts = [entry.first for entry in shown if entry.first is not None]
    first = float(getattr(firsts[0], metric)) if firsts else None
    return value_scale(values, metric, first, log=log_of(metric))


def plans_of(entry: Entry) -> dict[int, str]:
    """Return the plans of a sweep's points, in notation, by number."""
    return {point.number: str(point.plan) for point in entry.planned if point.number >= 0}


def log_switch(metric: str, values: Sequence[float], first: float | None = None, *, colours: bool = False) -> None:
    """Show the switch for a logarithmic axis of a figure; until a person sets it, it stands as the figures ask for.

    Colours are logarithmic far from the starting plan's figure unless a person wants them even.
    """
    chosen = log_of(metric)
    echo.hold(LOG, (colours or wants_log(values, metric, first)) if chosen is None else chosen)
    st.toggle(
        "Log scale", st.session_state[LOG], key=LOG, on_change=_take_log, args=(metric,),
        help="A logarithmic scale shows small damage beside a catastrophe. Nothing is cut off on either.",
    )  # fmt: skip


def log_of(metric: str) -> bool | None:
    """Return whether a person wants a figure on a logarithmic axis; None where they did not say."""
    return state.log_chosen.get(metric)


def _take_log(metric: str) -> None:
    session.touch()
    state.log_chosen[metric] = bool(st.session_state[LOG])


def progress(entry: Entry, now: session.Experiment) -> None:
    """Show how far a sweep is, with the buttons that stop it and go on with it."""
    if entry.state not in UNDER_WAY:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.progress(entry.share, text=_said(entry))
        if entry.state == "running":
            st.button("Pause", key="sweep-pause", icon=":material/pause:", on_click=_act, args=("pause", entry, now))
        elif entry.request is not None:
            st.button(
                "Go on", key="sweep-resume", icon=":material/play_arrow:", on_click=_act, args=("resume", entry, now)
            )
        st.button("Cancel", key="sweep-cancel", icon=":material/close:", on_click=_act, args=("cancel", entry, now))
    show_problem("sweep-act")


NOUNS = {Lane.SWEEP: "", Lane.SEARCH: " removals", Lane.IMPORTANCE: " windows of text"}
"""What the results of work are called where they are counted, by its lane."""


def count(entry: Entry) -> str:
    """Return how far a sweep is: `3 of 12`, `2 of 11 removals`."""
    return f"{entry.done} of {entry.total}{NOUNS[entry.lane]}" if entry.total else "the beginning"


def _said(entry: Entry) -> str:
    if entry.state != "running":
        return f"Paused at {count(entry)}"
    if entry.job is not None and entry.job.started is None:
        return waiting.in_line(SWEEPS, [entry.job], "Waiting for its turn") or "Waiting for its turn"
    parts = [count(entry) if entry.total else "Starting"]
    if entry.lane is Lane.SEARCH and entry.job is not None and entry.job.progress[1]:
        parts.append("{} of at most {} plans tried".format(*entry.job.progress))
    if (left := entry.time_left()) is not None:
        parts.append(f"{sweep_words.span(left)} left")
    return ", ".join(parts)


def _act(action: str, entry: Entry, now: session.Experiment) -> None:
    session.touch()
    acts = {
        "pause": lambda: sweep_shelf.pause(entry),
        "resume": lambda: sweep_shelf.resume(entry, now),
        "cancel": lambda: sweep_shelf.cancel(entry),
    }
    sweep_shelf.guarded("sweep-act", acts[action])


def _has(entry: Entry, metric: str) -> bool:
    """Whether a sweep has a figure, or will have it."""
    rows = [row for row in entry.rows if not row.refused and not row.not_finite]
    if not rows and isinstance(entry.request, SweepRequest):
        return metric in entry.request.measures.metrics
    return not any(math.isnan(float(getattr(row, metric))) for row in rows)
