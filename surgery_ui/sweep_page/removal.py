"""The removal tab: layers taken out one at a time, the curve of that, and any of its plans for the strip."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts import layers as layer_charts
from surgery_core.errors import Stopped
from surgery_core.measure.skills import load_skills
from surgery_core.sweeps.frames import figure
from surgery_core.sweeps.removal import Removal, removal_frame
from surgery_core.sweeps.rows import METRICS
from surgery_core.sweeps.setup import SweepMeasures
from surgery_ui.parts import adoption, chart_specs, doubts, sweep_chart, waiting
from surgery_ui.parts import files as saved
from surgery_ui.parts.estimate import Estimate, estimate_of, seconds
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.sweep_page.controls import chosen_texts, start_choice
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import timing
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane
from surgery_ui.work.sweep_jobs import SWEEPS, SearchRequest, search_job

BEAM = "search-beam"
MAX_BEAM = 8
COLUMNS = {"layers_left": "Layers left", "removed": "Removed", "plan": "Plan"}


def search_tab(now: session.Experiment) -> Estimate:
    """Show the controls of a search and its removal curve; return the estimate of its time, to be drawn."""
    st.caption(
        "Greedy removal: layers go one at a time, each time the one without which the loss stays lowest, so that you "
        "see how short the model can get."
    )
    with st.container(border=True):
        st.markdown(
            "**What a paper saw.** "
            + present.plain(
                "ShortGPT (arXiv 2403.03853) removed 5 of Llama-2-7B's 32 layers for a perplexity of 11.4 instead of "
                "8.0, and 9 for 40.8, while its answers to MMLU hardly changed."
            )
        )
    request = _form(now)
    job = state.search_job
    running = job is not None and not job.done
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.button(
            "Start", key="search-start", type=emphasis(), icon=":material/play_arrow:",
            disabled=running or request is None, on_click=_begin, args=(now, request),
        )  # fmt: skip
        if running:
            st.button("Cancel", key="search-cancel", icon=":material/close:", on_click=_cancel)
        line = st.empty()
    estimate = estimate_of(now, request, line)
    st.fragment(_curve, run_every=0.5 if running else None)(now, job, running)
    return estimate


def _form(now: session.Experiment) -> SearchRequest | None:
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        start = start_choice(now, "search")
        st.session_state.setdefault(BEAM, 1)
        beam = st.number_input(
            "Beam width", 1, MAX_BEAM, key=BEAM, width=150, persist_state="session", on_change=session.touch,
            help="How many of the best plans of each size are tried further: 1 is the quickest, 3 finds better plans in "
            "about three times as long.",
        )  # fmt: skip
        key = f"search-least-{len(start)}"
        st.session_state.setdefault(key, min(1, len(start)))
        least = st.number_input(
            "Layers to keep", 0, max(1, len(start)), key=key, width=150, persist_state="session",
            on_change=session.touch, help="How many layers are left in the end.",
        )  # fmt: skip
        skills = st.toggle("Ask the skills too", key="search-skills", persist_state="session", on_change=session.touch)
    texts = chosen_texts(now, "search")
    if not texts:
        return None
    if not len(start):
        st.info("No layer runs under this plan, so there is nothing to remove.")
        return None
    measures = SweepMeasures(skills=load_skills() if skills else ())
    return SearchRequest(start, texts, int(beam), min(int(least), len(start)), measures)


def _begin(now: session.Experiment, request: SearchRequest) -> None:
    session.touch()
    session.set_problem("search", None)
    state.search_job = search_job(now.owner, now.loaded, request)
    known = timing.known(timing.costs_job(now.owner, now.loaded, request.texts))
    state.search_seconds = None if known is None else seconds(request, known)
    state.search_ends = request.least


def _cancel() -> None:
    session.touch()
    SWEEPS.leave(state.owner, (Lane.SEARCH,))


def _curve(now: session.Experiment, job: Job[None] | None, was: bool) -> None:
    running = job is not None and not job.done
    adoption.follow()
    if running != was:
        st.rerun()
    if job is None:
        st.info("No search yet. Press Start to see how perplexity grows as layers go.")
        return
    job.look()
    steps: list[Removal] = list(job.pieces)
    if running:
        _progress(job, steps)
    elif job.error is not None and not isinstance(job.error, Stopped):
        waiting.failed(st.container(), now.owner, [job], "search", SWEEPS)
    elif job.error is not None:
        st.caption(f"Cancelled after {sweep_words.counted(max(0, len(steps) - 1), 'removal')}.")
    show_problem("search")
    if steps:
        _draw(now, steps, running)


def _progress(job: Job[None], steps: list[Removal]) -> None:
    done, total = job.progress
    layers = f", {sweep_words.counted(steps[-1].layers_left, 'layer')} remaining" if steps else ""
    time_left = timing.left(job, state.search_seconds)
    left = layers if time_left is None else f"{layers}, {sweep_words.span(time_left)} left"
    waiting = job.started is None
    text = (
        "Waiting for its turn" if waiting else f"{done} of at most {total} plans tried{left}" if total else "Starting"
    )
    st.progress(min(1.0, done / total) if total else 0.0, text=text)


def _draw(now: session.Experiment, steps: list[Removal], running: bool) -> None:
    frame = removal_frame(steps)
    dark, plans = chart_specs.dark(), dict(zip(frame["number"], frame["plan"], strict=True))
    sweep_chart.log_switch("perplexity", list(frame["perplexity"]))
    metrics = ["perplexity", *(["skill_accuracy"] if frame["skill_accuracy"].notna().any() else [])]
    clicks, ends = adoption.clicks(), state.search_ends
    grid = st.container().grid(len(metrics), min_column_width=330)
    for metric in metrics:
        key = f"removal-{metric}-{clicks}"
        chart = layer_charts.removal_curve(
            frame,
            metric,
            METRICS[metric],
            dark=dark,
            chosen=str(now.plan),
            ends_at=ends,
            log=sweep_chart.log_of(metric),
        )
        with grid.container():
            chart_specs.show(
                chart, key=key, on_select=adoption.on_click("search", plans, key),
                alt=f"{METRICS[metric]} against layers left",
            )  # fmt: skip
    st.caption("A label names the layer that went last.")
    if not running:
        said = {
            int(number): f"{left} layers{', without ' if gone else ''}{gone}: {figure(value, 'perplexity')}"
            for number, left, gone, value in zip(
                *(frame[name] for name in ("number", "layers_left", "removed", "perplexity")), strict=True
            )
        }
        adoption.field("search", plans, said, "point")
    doubts.show([step.row for step in steps])
    with st.expander("Table", icon=":material/table_rows:"):
        st.dataframe(_titled(frame), hide_index=True, alt="All steps of the search")
    theme = saved.palette()
    drawn = {kind: partial(curve_file, frame, metrics, kind, theme) for kind in saved.CHARTS}
    files = {"csv": frame.to_csv(index=False), "json": frame.to_json(orient="records", indent=2), **drawn}
    saved.buttons("removal", files, "save-removal")


def curve_file(frame: pd.DataFrame, metrics: Sequence[str], kind: str, theme: dict[str, Any]) -> bytes:
    """Return the removal curves as SVG, PNG or HTML with everything inside; light, as for a paper."""
    sheet = layer_charts.removal_sheet(frame, {name: METRICS[name] for name in metrics}, width=saved.WIDTH)
    return saved.rendered(sheet, kind, theme)


def _titled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the steps as a person reads them: what is known, under names in words."""
    known = frame.drop(columns="number").dropna(axis="columns", how="all")
    return known.rename(columns=COLUMNS | METRICS)
