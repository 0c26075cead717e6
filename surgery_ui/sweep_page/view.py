"""One sweep on the page: how far it is, its chart as it fills, what was refused, its table and its files."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from surgery_core.sweeps.file import model_name
from surgery_core.sweeps.findings import best_on_unseen
from surgery_core.sweeps.frames import OF_LOSS, SHARES, figure, sweep_frame
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.rows import METRICS, SweepRow
from surgery_core.sweeps.rows import frame as rows_frame
from surgery_ui.parts import adoption, doubts, sweep_shelf
from surgery_ui.parts.estimate import Estimate
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sweep_chart import FILLS, TICK, chart, log_switch, metric_choice, plans_of, progress
from surgery_ui.session import session
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.sweep_page import comparing as sweep_compare
from surgery_ui.sweep_page import saving as sweep_save
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words


def live(now: session.Experiment, request: SweepRequest | None, estimate: Estimate) -> None:
    """Show the sweeps of the session; while one runs, look at it again and again.

    Args:
        now: what the page works on.
        request: what the controls above ask for; without any sweep yet, its empty chart is shown.
        estimate: of the same; the model may still be timed.
    """
    state = _state(estimate)
    st.fragment(_live, run_every=TICK if state != SETTLED else None)(now, request, estimate, state)


POINTS = {"bars": "bar", "heat": "cell", "lines": "point"}
"""What is clicked, by the form of a chart."""


SETTLED = (False, True)
"""No sweep runs, and the model has been timed."""


def _state(estimate: Estimate) -> tuple[bool, bool]:
    return sweep_shelf.sync() is not None, all(job.done for job in estimate.jobs)


def _live(now: session.Experiment, request: SweepRequest | None, estimate: Estimate, before: tuple[bool, bool]) -> None:
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
        _below(entry, metric)
    entry.drawn = True


def _log_choice(entry: Entry, metric: str) -> None:
    """Show whether the axis or the colours are logarithmic, where that is a question: not of shares."""
    if metric in SHARES:
        return
    values = [float(getattr(row, metric)) for row in entry.rows if row.number >= 0 and not row.refused]
    first = float(getattr(entry.first, metric)) if entry.first is not None else None
    log_switch(metric, values, first, colours=entry.kind.form == "heat")


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


def _below(entry: Entry, metric: str) -> None:
    """Show what a sweep says besides its chart."""
    doubts.show(entry.rows)
    if entry.done and metric in OF_LOSS and entry.kind.form != "lines":
        st.caption(sweep_words.MARKS)
    if entry.done == len(entry.planned):
        _best(entry)
    _finding(entry)
    if left := sum(row.left != "" for row in entry.rows):
        st.caption(sweep_words.left_early(left))
    refused = [row for row in entry.rows if row.refused]
    if refused:
        with st.expander(f"{sweep_words.counted(len(refused), 'plan')} refused", icon=":material/block:"):
            st.dataframe(_refusals(refused), hide_index=True, height="content", alt="Refused plans and why")
    if entry.done:
        with st.expander("Table", icon=":material/table_rows:"):
            _table(entry)
        sweep_save.save(entry, metric)


def _best(entry: Entry) -> None:
    """Show the best plan on texts that its choice has not seen."""
    found = best_on_unseen(entry.rows)
    if found is not None:
        named = _names(entry)[found.row.number] if entry.kind.form == "bars" else found.row.plan
        st.markdown(present.plain(sweep_words.best(found, named)))


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
    shown["Verdict"] = frame["verdict"]
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
