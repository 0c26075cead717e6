"""Running one experiment on the open model: a button with how long it takes, progress, what came of it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from surgery_core.errors import SettingsError
from surgery_core.recipes.gallery import Card
from surgery_core.recipes.run import Report
from surgery_core.sweeps.estimate import Span
from surgery_core.sweeps.rows import frame as rows_frame
from surgery_ui.gallery_page.entries import kept_seconds
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import NOTHING, Section, emphasis
from surgery_ui.parts.tables import data_table
from surgery_ui.session import session
from surgery_ui.session.state import ModelKey, state
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work.job import Job
from surgery_ui.work.limits import limits
from surgery_ui.work.long_runs import running
from surgery_ui.work.study_jobs import Ran, study_job, study_outcome
from surgery_ui.work.sweep_jobs import SWEEPS


def running_section(now: session.Experiment, card: Card) -> Section:
    """Show the button that runs a card, or how far it is; return the section that follows it."""
    known = study_outcome(now.loaded, card.recipe)
    if known is not None:
        if isinstance(known, Report):
            _report(known)
        return NOTHING
    if _place(now, card) not in state.recipes_run:
        _button(now, card)
        return NOTHING
    job: Job[Ran] = study_job(now.owner, now.loaded, card.recipe)

    def draw() -> None:
        # the outcome stands above and below: the whole page is drawn anew with it
        st.rerun()

    return Awaited(
        now.owner, [job], "study", draw, text="Running", expected=lambda: kept_seconds(now, card), pool=SWEEPS,
    )  # fmt: skip


def _button(now: session.Experiment, card: Card) -> None:
    seconds = kept_seconds(now, card)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.button(
            f"Run it on {present.plain(now.loaded.info.title)}", key="gallery-run", icon=":material/play_arrow:",
            type=emphasis(), on_click=_start, args=(now, card),
        )  # fmt: skip
        if seconds is not None:
            st.caption(f"Takes {sweep_words.span(Span.about(seconds))}, going by the last time it was measured.")
    show_problem("gallery-run")


def _place(now: session.Experiment, card: Card) -> tuple[ModelKey, str]:
    return now.loaded.info.key, card.key


def _start(now: session.Experiment, card: Card) -> None:
    session.touch()
    try:
        limits().check_jobs(running(now.owner))
    except SettingsError as error:
        return session.set_problem("gallery-run", error)
    session.set_problem("gallery-run", None)
    state.recipes_run = state.recipes_run | {_place(now, card)}


def _report(found: Report) -> None:
    """Show what a recipe without a study came to."""
    st.subheader("What came of it", anchor=False)
    if found.plans:
        data_table(pd.DataFrame([one.row() for one in found.plans]), alt="Plans side by side")
    if found.comparison is not None:
        data_table(found.frame(), alt="Scores before and after, a row a text")
    if found.sweep is not None:
        data_table(rows_frame(found.sweep.rows), alt="Rows of the sweep")
    for one in found.continuations:
        st.caption(present.plain(one.prompt))
        st.text(one.before.text)
        st.text(one.after.text)
    if found.swap is not None:
        st.caption(present.plain(found.swap.says))
        for side, text in found.swap.written.items():
            st.caption(f"{side.capitalize()}:")
            st.text(text.text)
