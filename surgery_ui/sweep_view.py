"""One sweep on the page: how far it is, its chart as it fills, what was refused, its table and its files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from surgery_core.charts.sweeps import Sheet, sweep_chart
from surgery_core.sweeps.file import model_name
from surgery_core.sweeps.frames import SHARES, ValueScale, figure, sweep_frame, value_scale, wants_log
from surgery_core.sweeps.rows import METRICS, SweepRow
from surgery_core.sweeps.rows import frame as rows_frame
from surgery_ui import (
    adoption,
    chart_specs,
    doubts,
    present,
    session,
    sweep_compare,
    sweep_save,
    sweep_shelf,
    sweep_words,
)
from surgery_ui.controls import show_problem
from surgery_ui.estimate import Estimate
from surgery_ui.sweep_jobs import SWEEPS, Request
from surgery_ui.sweep_shelf import Entry

TICK = 0.3
"""Seconds between two looks at a running sweep."""


def live(now: session.Experiment, request: Request | None, estimate: Estimate) -> None:
    """Show the sweeps of the session; while one runs, look at it again and again.

    Args:
        now: what the page works on.
        request: what the controls above ask for; without any sweep yet, its empty chart is shown.
        estimate: of the same; the model may still be timed.
    """
    state = _state(estimate)
    st.fragment(_live, run_every=TICK if state != SETTLED else None)(now, request, estimate, state)


UNDER_WAY = ("running", "paused", "failed")
"""States of a sweep that is not at its end; it has a line with its progress."""
FILLS = ("planned", "running")
"""States of a sweep whose chart is filling, or about to."""
POINTS = {"bars": "bar", "heat": "cell", "lines": "point"}
"""What is clicked, by the form of a chart."""
SETTLED = (False, True)
"""No sweep runs, and the model has been timed."""


def _state(estimate: Estimate) -> tuple[bool, bool]:
    return sweep_shelf.sync() is not None, all(job.done for job in estimate.jobs)


def _live(now: session.Experiment, request: Request | None, estimate: Estimate, before: tuple[bool, bool]) -> None:
    adoption.follow()
    if (running := sweep_shelf.sync()) is not None and running.drawn:
        running.await_first()
    if _state(estimate) != before:
        # Only a whole run redraws the controls that wait for a sweep to end.
        st.rerun()
    entry, others = sweep_shelf.shown(), sweep_compare.compared()
    if entry is None and request is not None:
        entry = sweep_shelf.draft(now, request)
    if entry is None:
        st.info("No sweep yet. Choose one above and press Start, or check a paper's finding with one click.")
    elif others:
        sweep_compare.side_by_side(others, now)
    else:
        _one(entry, now, estimate)


def _one(entry: Entry, now: session.Experiment, estimate: Estimate) -> None:
    """Show one sweep. Its chart keeps its place on the page, so that a browser goes on with the one that it has."""
    above, drawn, below = st.container(), st.container(), st.container()
    with above:
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            with st.container():
                _head(entry)
            metric = metric_choice([entry])
            _log_choice(entry, metric)
        _trouble(entry, now, estimate.costs.texts if estimate.costs is not None else None)
    with drawn:
        chart(entry, metric, now)
    with below:
        _adopt_field(entry, metric)
        _below(entry)
    entry.drawn = True


def metric_choice(shown: Sequence[Entry]) -> str:
    """Show which figure is drawn and return it; only those that all sweeps shown have."""
    known = [metric for metric in METRICS if all(_has(entry, metric) for entry in shown)] or ["perplexity"]
    if st.session_state.get("sweep-metric") not in known:
        st.session_state["sweep-metric"] = known[0]
    chosen = st.selectbox(
        "Show", known, key="sweep-metric", format_func=METRICS.__getitem__, width=240, persist_state="session",
        on_change=session.touch,
    )  # fmt: skip
    return str(chosen)


def chart(entry: Entry, metric: str, now: session.Experiment, scale: ValueScale | None = None, title: str = "") -> None:
    """Draw a sweep; a click on it takes its plan over into the strip."""
    chosen, dark = str(now.plan), chart_specs.dark()
    log = log_of(metric)
    made_of = (len(entry.rows), entry.state in FILLS, metric, chosen, scale, dark, log)

    def make() -> object:
        frame = sweep_frame(entry.kind, entry.labels, entry.planned, entry.rows, metric)
        return sweep_chart(entry.kind.form, frame, replace(sheet(entry, metric, chosen, scale, dark=dark), log=log))

    key = f"sweep-chart-{entry.number}-{title}-{adoption.clicks()}"
    chart_specs.draw(
        entry.specs, f"sweep-{title}", made_of, make, key=key,
        on_select=adoption.on_click("sweep", plans_of(entry), key), alt=f"{entry.name}: {METRICS[metric]} of every plan",
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


def _log_choice(entry: Entry, metric: str) -> None:
    """Show whether the axis or the colours are logarithmic, where that is a question: not of shares."""
    if metric in SHARES:
        return
    values = [float(getattr(row, metric)) for row in entry.rows if row.number >= 0 and not row.refused]
    first = float(getattr(entry.first, metric)) if entry.first is not None else None
    log_switch(metric, values, first, colours=entry.kind.form == "heat")


def log_switch(metric: str, values: Sequence[float], first: float | None = None, *, colours: bool = False) -> None:
    """Show the switch for a logarithmic axis of a figure; until a person sets it, it stands as the figures ask for.

    Colours are logarithmic far from the starting plan's figure unless a person wants them even.
    """
    chosen = log_of(metric)
    st.session_state["sweep-log"] = (colours or wants_log(values, metric, first)) if chosen is None else chosen
    st.toggle(
        "Log scale", key="sweep-log", on_change=_take_log, args=(metric,),
        help="A logarithmic scale shows small damage beside a catastrophe. Nothing is cut off on either.",
    )  # fmt: skip


def log_of(metric: str) -> bool | None:
    """Return whether a person wants a figure on a logarithmic axis; None where they did not say."""
    found: bool | None = st.session_state.get("log-chosen", {}).get(metric)
    return found


def _take_log(metric: str) -> None:
    session.touch()
    chosen = st.session_state.get("log-chosen", {})
    st.session_state["log-chosen"] = {**chosen, metric: bool(st.session_state["sweep-log"])}


def _adopt_field(entry: Entry, metric: str) -> None:
    """Show the field that takes a plan over, once the figures stand still."""
    if not entry.done or entry.state in FILLS:
        return
    places = sweep_frame(entry.kind, entry.labels, entry.planned, entry.rows, metric)
    known = places[places["state"].isin(["done", "broken"])]
    said = {
        int(number): f"{x}{', ' if y else ''}{y}: {figure(value, metric)}"
        for number, x, y, value in zip(known["number"], known["x"], known["y"], known["value"], strict=True)
    }
    adoption.field("sweep", plans_of(entry), said, POINTS[entry.kind.form])


def _head(entry: Entry) -> None:
    st.subheader(present.plain(entry.name), anchor=False)
    st.caption(present.plain(_facts(entry)))


def _trouble(entry: Entry, now: session.Experiment, texts: str | None) -> None:
    """Say what is special about a sweep: opened from a file, broken off, run whole, not done yet."""
    if entry.identity is not None and entry.state == "opened":
        different = sweep_words.differences(entry.identity, model_name(now.loaded.info), texts)
        if different:
            st.warning(present.plain(f"Opened to read only: {'; '.join(different)}."))
    if entry.error:
        st.error(present.plain(entry.error))
    if entry.note:
        st.caption(present.plain(entry.note))
    progress(entry, now)
    show_problem("sweep")


def _facts(entry: Entry) -> str:
    request = entry.request
    if entry.state == "planned":
        return f"Press Start and each {POINTS[entry.kind.form]} fills in as soon as it is measured."
    start = entry.identity.start if entry.identity is not None else str(request.start) if request is not None else ""
    texts = entry.identity.texts.split(",")[0] if entry.identity is not None else ""
    model = entry.model.split(" ")[0]
    return f"{model}, from {start or 'no layers'}{', ' if texts else ''}{texts}. {_where(entry)}"


def _where(entry: Entry) -> str:
    total = len(entry.planned)
    words = {
        "running": "", "paused": f"Paused at {entry.done} of {total}.", "opened": "Opened from a file.",
        "cancelled": f"Cancelled at {entry.done} of {total}.", "failed": f"Stopped at {entry.done} of {total}.",
        "finished": f"All {total} plans measured.",
    }  # fmt: skip
    return words[entry.state]


def progress(entry: Entry, now: session.Experiment) -> None:
    """Show how far a sweep is, with the buttons that stop it and go on with it."""
    if entry.state not in UNDER_WAY:
        return
    total = max(1, len(entry.planned))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.progress(min(1.0, entry.done / total), text=_said(entry))
        if entry.state == "running":
            st.button("Pause", key="sweep-pause", icon=":material/pause:", on_click=_act, args=("pause", entry, now))
        elif entry.request is not None:
            st.button(
                "Go on", key="sweep-resume", icon=":material/play_arrow:", on_click=_act, args=("resume", entry, now)
            )
        st.button("Cancel", key="sweep-cancel", icon=":material/close:", on_click=_act, args=("cancel", entry, now))
    show_problem("sweep-act")


def _said(entry: Entry) -> str:
    count = f"{entry.done} of {len(entry.planned)}"
    if entry.state != "running":
        return f"Paused at {count}"
    if entry.job is not None and entry.job.started is None:
        return f"Waiting for its turn; {sweep_words.counted(max(1, sum(SWEEPS.load()) - 1), 'sweep')} before it"
    left = entry.time_left()
    return count if left is None else f"{count}, {sweep_words.span(left)} left"


def _act(action: str, entry: Entry, now: session.Experiment) -> None:
    session.touch()
    acts = {
        "pause": lambda: sweep_shelf.pause(entry),
        "resume": lambda: sweep_shelf.resume(entry, now),
        "cancel": lambda: sweep_shelf.cancel(entry),
    }
    sweep_shelf.guarded("sweep-act", acts[action])


def _below(entry: Entry) -> None:
    """Show what a sweep says besides its chart."""
    doubts.show(entry.rows)
    _finding(entry)
    refused = [row for row in entry.rows if row.refused]
    if refused:
        with st.expander(f"{sweep_words.counted(len(refused), 'plan')} refused", icon=":material/block:"):
            st.dataframe(_refusals(refused), hide_index=True, height="content", alt="Refused plans and why")
    if entry.done:
        with st.expander("Table", icon=":material/table_rows:"):
            _table(entry)
        sweep_save.save(entry, str(st.session_state["sweep-metric"]))


def _table(entry: Entry) -> None:
    """Show all rows with the figures that this sweep has, as labels where charts have labels."""
    places = sweep_frame(entry.kind, entry.labels, entry.planned, (), "perplexity").set_index("number")
    frame = rows_frame(entry.rows)
    known = [metric for metric in METRICS if metric in frame and frame[metric].notna().any()]
    shown = pd.DataFrame({entry.kind.x_title: frame["number"].map(places["x"]).fillna("start")})
    if entry.kind.y_title:
        shown[entry.kind.y_title] = frame["number"].map(places["y"]).fillna("")
    shown["Plan"] = frame["plan"]
    number = st.column_config.NumberColumn
    columns = {METRICS[metric]: number(METRICS[metric], format="%.4g") for metric in known}
    st.dataframe(
        shown.assign(**{METRICS[metric]: frame[metric] for metric in known}), hide_index=True, column_config=columns,
        alt="All rows of the sweep",
    )  # fmt: skip


def _refusals(rows: Sequence[SweepRow]) -> list[dict[str, str]]:
    return [{"Plan": row.plan, "Why": row.refused} for row in rows[:200]]


def _finding(entry: Entry) -> None:
    paper = sweep_words.PAPERS.get(entry.kind.key)
    if paper is None:
        return
    with st.container(border=True):
        st.markdown(f"**What a paper saw.** {present.plain(paper)} {sweep_words.SMALL}")
        if entry.done == len(entry.planned):
            names = _names(entry)
            if said := sweep_words.here(entry.kind.key, entry.rows, names):
                st.markdown(f"**What this model shows.** {present.plain(said)}")


def _names(entry: Entry) -> dict[int, str]:
    frame = sweep_frame(entry.kind, entry.labels, entry.planned, (), "perplexity")
    swapped = entry.kind.key == "swap-neighbours"
    return {
        int(number): f"{x} with the next" if swapped else str(x)
        for number, x in zip(frame["number"], frame["x"], strict=True)
    }


def _has(entry: Entry, metric: str) -> bool:
    """Whether a sweep has a figure, or will have it."""
    rows = [row for row in entry.rows if not row.refused and not row.not_finite]
    if not rows and entry.request is not None:
        return metric in entry.request.measures.metrics
    return not any(math.isnan(float(getattr(row, metric))) for row in rows)
