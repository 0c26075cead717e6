"""Importance on the page: its figures as the texts are read, ranked beside the measured sweep."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts import layers as layer_charts
from surgery_core.charts import sheets
from surgery_core.measure.importance import Importance
from surgery_core.sweeps.file import model_name
from surgery_core.sweeps.findings import costliest, measured_damage, rank_frame
from surgery_core.sweeps.frames import figure, wants_log
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import SweepRequest
from surgery_ui.components.arrival import arrival
from surgery_ui.parts import chart_specs, files, sweep_shelf
from surgery_ui.parts.estimate import Estimate
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.parts.tables import data_table
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.sweep_page import saving, view
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work.kinds import Lane

ESTIMATES = {
    "block_influence": "Block Influence",
    "angular_distance": "Angular distance",
    "contribution_norm": "Contribution norm",
}
CORRELATION = (
    "Spearman's rank correlation: 1 when both rank the layers alike, 0 when one says nothing about the other, -1 when they "
    "are opposite. Beside it stands its 95 % interval over layers like these."
)
ABOUT = {
    "block_influence": "1 less the mean cosine similarity of what enters and what leaves the layer (arXiv 2403.03853).",
    "angular_distance": "arccos of the cosine similarity over π, at the last token of each text (arXiv 2403.17887).",
    "contribution_norm": "Mean length of what the layer adds to the residual stream.",
}


def draw(entry: Entry, now: session.Experiment, estimate: Estimate) -> None:
    """Show one reading: its bars from the first window on, and the rest once it stands still."""
    view.head(entry)
    view.trouble(entry, now, estimate)
    result = entry.importance
    if result is None:
        return
    frame, dark = result.frame(), chart_specs.dark()
    measured = _measured(entry, now)
    if entry.state != "running":
        sweep_shelf.sync()
        _seen(frame, None if measured is None else sweep_shelf.same_sweep(now, measured))
    _bars(entry, frame, dark)
    if entry.state == "running":
        return
    if measured is not None:
        _ranked(now, frame, measured, dark)
    _streams(result, dark)
    with st.expander("Table", icon=":material/table_rows:"):
        titles = {"position": "Position", "layer": "Layer"} | ESTIMATES
        data_table(frame.rename(columns=titles), alt="What each layer does")
    theme = files.palette()
    saving.save(entry, {kind: partial(picture, result, kind, theme) for kind in files.CHARTS})


def picture(result: Importance, kind: str, theme: dict[str, Any]) -> bytes:
    """Return all charts of a reading as SVG, PNG or HTML with everything inside; light, as for a paper."""
    sheet = sheets.importance_sheet(
        result.frame(), ESTIMATES, result.similarities(), result.blocks(), list(result.labels), width=files.WIDTH
    )
    return files.rendered(sheet, kind, theme)


def _measured(entry: Entry, now: session.Experiment) -> SweepRequest | None:
    """Return the sweep that measures what a reading estimates; None where it cannot be run here."""
    asked = entry.request
    if asked is None or entry.model != model_name(now.loaded.info):
        return None
    return SweepRequest("delete", SweepOptions(), asked.start, asked.texts)


def _seen(frame: pd.DataFrame, sweep: Entry | None) -> None:
    """Say in words which layers do most and least, and whether the measured damage agrees."""
    column = "block_influence"
    known = measured_damage(frame, sweep.rows) if sweep is not None and sweep.state == "finished" else None
    damage = None if known is None else (list(known[column]), list(known["damage"]))
    estimates = dict(zip(frame["layer"], frame[column], strict=True))
    view.say(sweep_words.ranked(estimates, ESTIMATES[column], damage), f"{ABOUT[column]} {CORRELATION}")


def _bars(entry: Entry, frame: pd.DataFrame, dark: bool) -> None:
    """Draw each estimate of every layer; they are drawn anew with every window that was read."""
    grid = st.container().grid(3, min_column_width=230)
    for column, title in ESTIMATES.items():
        with grid.container():
            log = ", log scale" if wants_log(frame[column], column) else ""
            st.markdown(f"**{title}**{log}", help=present.plain(ABOUT[column]))
            chart_specs.draw(
                entry.specs, f"bars-{column}", (entry.done, dark),
                lambda: layer_charts.layer_bars(frame, column, title, dark=dark),  # noqa: B023 - it is called at once
                key=f"bars-{entry.number}-{column}", on_select=None, alt=f"{title} of every layer",
            )  # fmt: skip


def _ranked(now: session.Experiment, frame: pd.DataFrame, request: SweepRequest, dark: bool) -> None:
    """Show the ranking beside that of the measured sweep, and start that sweep where it is missing."""
    arrival("measured-arrival", state.measured)
    st.subheader("Beside the measured damage", anchor=False)
    running = sweep_shelf.sync()
    st.fragment(_comparison, run_every=0.5 if running is not None else None)(
        now, frame, request, running is not None, dark
    )


def _comparison(now: session.Experiment, frame: pd.DataFrame, request: SweepRequest, was: bool, dark: bool) -> None:
    if (sweep_shelf.sync() is not None) != was:
        st.rerun()
    # Only now: a sweep that somebody else ran is there as soon as it is asked for.
    entry = sweep_shelf.same_sweep(now, request)
    if entry is None or entry.state not in ("finished", "running"):
        st.caption("Delete each layer once over the same texts, and see whether the estimates agree with the damage.")
        st.button(
            "Measure it", key="importance-measure", type=emphasis(), disabled=was, on_click=_measure,
            args=(now, request),
        )  # fmt: skip
        show_problem("importance")
        return
    if entry.state == "running":
        st.progress(entry.done / max(1, len(entry.planned)), text=f"{entry.done} of {len(entry.planned)}")
        return
    known = measured_damage(frame, entry.rows)
    grid = st.container().grid(3, min_column_width=230)
    for column, title in ESTIMATES.items():
        with grid.container():
            said, ends = sweep_words.agreement(list(known[column]), list(known["damage"]))
            st.metric(
                f"{title} and damage", said or "–", ends or None, delta_color="gray", delta_arrow="off",
                help=CORRELATION,
            )  # fmt: skip
            chart = layer_charts.rank_chart(rank_frame(known, column), title, dark=dark)
            chart_specs.show(chart, key=f"rank-{column}", alt=f"Ranks by {title} and by measured damage")
    if (worst := costliest(known)) is not None:
        st.caption(
            present.plain(
                f"Deleting {worst[0]} costs most: {figure(worst[1], 'loss_change')} nats a token. Rank 1 is the most "
                "important layer; on the dashed line both ranks are the same."
            )
        )


def _measure(now: session.Experiment, request: SweepRequest) -> None:
    session.touch()
    if sweep_shelf.guarded("importance", lambda: sweep_shelf.start(now, request)):
        state.measured += 1


def _streams(result: Importance, dark: bool) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Similarity of the residual stream", anchor=False)
        st.caption("Mean cosine similarity of the stream at every two places, the input first.")
        chart = layer_charts.similarity_map(result.similarities(), dark=dark)
        chart_specs.show(chart, key="similarity", alt="Cosine similarity of the residual stream at every two places")
    with right:
        st.subheader("Angular distance of blocks", anchor=False)
        st.caption("How far a block of layers turns the stream; a small distance says that the block may go.")
        chart = layer_charts.block_map(result.blocks(), list(result.labels), dark=dark)
        chart_specs.show(chart, key="blocks", alt="Angular distance of every block of layers")


READINGS = view.Board(
    Lane.IMPORTANCE, draw, "Nothing read yet. Press Start to see what each layer does to the residual stream."
)
