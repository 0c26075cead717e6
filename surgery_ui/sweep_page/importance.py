"""Importance of layers from one run over the texts, ranked beside the measured sweep."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from surgery_core.charts import layers as layer_charts
from surgery_core.measure.importance import Importance
from surgery_core.sweeps.estimate import Costs, reading_seconds
from surgery_core.sweeps.file import model_name
from surgery_core.sweeps.findings import costliest, measured_damage, rank_frame
from surgery_core.sweeps.frames import figure, wants_log
from surgery_core.sweeps.kinds import SweepOptions
from surgery_core.sweeps.request import SweepRequest
from surgery_ui.parts import chart_specs, sweep_shelf
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import NOTHING, Section, emphasis
from surgery_ui.session import session
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.sweep_page.controls import chosen_texts, start_choice
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import timing
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane
from surgery_ui.work.sweep_jobs import importance_job

ESTIMATES = {
    "block_influence": "Block Influence",
    "angular_distance": "Angular distance",
    "contribution_norm": "Contribution norm",
}
ABOUT = {
    "block_influence": "1 less the mean cosine similarity of what enters and what leaves the layer (arXiv 2403.03853).",
    "angular_distance": "arccos of the cosine similarity over π, at the last token of each text (arXiv 2403.17887).",
    "contribution_norm": "Mean length of what the layer adds to the residual stream.",
}
HEIGHT = 900
"""Height in pixels of what stands here, where it is not there yet."""


def importance_section(now: session.Experiment) -> Section:
    """Show the controls of the section about importance, and return what draws its figures when they are there."""
    st.caption(
        "What each layer does to the residual stream, from one run over the texts and without any surgery; "
        "beside it, what deleting it really costs."
    )
    with st.container(border=True):
        st.markdown(f"**What papers saw.** {present.plain(sweep_words.IMPORTANCE)} {sweep_words.SMALL}")
    plan, texts = start_choice(now, "importance", "Of which model"), chosen_texts(now, "importance")
    if not texts:
        return NOTHING
    job = importance_job(now.owner, now.loaded, plan, texts)
    costs: Job[Costs] | None = None
    if not job.done and timing.are_long(texts):
        costs = timing.reading_job(now.owner, now.loaded, texts, Lane.COSTS_IMPORTANCE)

    def expected() -> float | None:
        known = timing.known(costs)
        return None if known is None else reading_seconds(known)

    def draw() -> None:
        _draw(now, job.result, SweepRequest("delete", SweepOptions(), plan, texts))

    return Awaited(now.owner, [job], "importance", draw, text="Reading the texts", height=HEIGHT, expected=expected)


def _draw(now: session.Experiment, result: Importance, request: SweepRequest) -> None:
    frame, dark = result.frame(), chart_specs.dark()
    if frame.empty:
        st.info("No layer runs under this plan, so there is nothing to rank.")
        return
    grid = st.container().grid(3, min_column_width=230)
    for column, title in ESTIMATES.items():
        with grid.container():
            log = ", log scale" if wants_log(frame[column], column) else ""
            st.markdown(f"**{title}**{log}", help=present.plain(ABOUT[column]))
            chart_specs.show(
                layer_charts.layer_bars(frame, column, title, dark=dark), key=f"bars-{column}",
                alt=f"{title} of every layer",
            )  # fmt: skip
    _ranked(now, frame, request, dark)
    _streams(result, dark)


def _ranked(now: session.Experiment, frame: pd.DataFrame, request: SweepRequest, dark: bool) -> None:
    """Show the ranking beside that of the measured sweep, and start that sweep where it is missing."""
    st.subheader("Beside the measured damage", anchor=False)
    running = sweep_shelf.sync()
    st.fragment(_comparison, run_every=0.5 if running is not None else None)(
        now, frame, request, running is not None, dark
    )


def _comparison(now: session.Experiment, frame: pd.DataFrame, request: SweepRequest, was: bool, dark: bool) -> None:
    if (sweep_shelf.sync() is not None) != was:
        st.rerun()
    # Only now: a sweep that somebody else ran is there as soon as it is asked for.
    entry = _measured(now, request)
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
                help="Spearman's rank correlation: 1 when both rank the layers alike, 0 when one says nothing about the "
                "other, -1 when they are opposite. Below it stands its 95 % interval over layers like these.",
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


def _measured(now: session.Experiment, request: SweepRequest) -> Entry | None:
    """Return the sweep of this session that deletes each layer over the same texts."""
    mine = model_name(now.loaded.info)
    wanted = [
        entry for entry in sweep_shelf.entries()
        if entry.request is not None and entry.model == mine
        and (entry.request.kind, entry.request.start, entry.request.texts) == ("delete", request.start, request.texts)
    ]  # fmt: skip
    return max(wanted, key=lambda entry: (entry.state in ("finished", "running"), entry.number), default=None)


def _measure(now: session.Experiment, request: SweepRequest) -> None:
    session.touch()
    sweep_shelf.guarded("importance", lambda: sweep_shelf.start(now, request))
