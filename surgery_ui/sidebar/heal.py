"""Heal what a cut has left: how long and on what, how far it is, and what came of it."""

from __future__ import annotations

import streamlit as st

from surgery_core.charts import heals as heal_charts
from surgery_core.errors import SettingsError, Stopped, SurgeryError
from surgery_core.suture.calibration import USUAL_SET
from surgery_core.suture.healing import HealProgress
from surgery_core.sweeps.estimate import SETTLED, Span
from surgery_core.text import TextSet, text_sets
from surgery_ui.parts import chart_specs
from surgery_ui.parts.choices import segments
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.session import own_texts, session, switching
from surgery_ui.session.state import State, state
from surgery_ui.words import heals as words
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work.heal_jobs import Healed, heal_job
from surgery_ui.work.limits import limits
from surgery_ui.work.long_runs import running

PROBLEM = "heal"
"""Beside what its problems are said."""
MINUTES = {"1 min": 1.0, "3 min": 3.0, "10 min": 10.0}
TICK = 1.0
"""Seconds between two looks at a training."""


def offer_heal(now: session.Experiment) -> None:
    """Offer to heal the plan, where there is something to heal and no heal under way."""
    if state.heal_job is None and len(now.plan) and not now.plan.is_identity:
        with st.popover("Heal", key="heal", icon=":material/model_training:", width="stretch", on_change=session.touch):
            _form(now)


def heal_standing() -> None:
    """Show how far a heal is, what is wrong with it, and what came of the last one."""
    if state.heal_job is not None:
        st.fragment(_running, run_every=TICK)()
    show_problem(PROBLEM)
    if state.heal_shown is not None:
        _result(state.heal_shown)


def _form(now: session.Experiment) -> None:
    st.caption(
        "Trains what is left a little, towards the predictions of the unchanged model. Cuts are stitched first. It goes on "
        "in the background and ends as a model of its own."
    )
    length = segments("For", list(MINUTES), "heal-minutes")
    sets = _sets()
    chosen = st.selectbox("On", list(sets), key="heal-texts", on_change=session.touch)
    st.caption(
        "One of eight texts is never trained on and decides what is kept. Stitching and the last figures take some seconds "
        "more; one training at a time runs on this server."
    )
    st.button(
        "Start healing", key="heal-start", type=emphasis(), width="stretch", disabled=not limits().training,
        help=None if limits().training else "Nothing is trained on this server.",
        on_click=_start, args=(now, MINUTES[length], sets[chosen]),
    )  # fmt: skip


def _sets() -> dict[str, TextSet]:
    """Return the sets that can be trained on by their titles, the usual one first."""
    usual = text_sets()[USUAL_SET]
    return {usual.title: usual} | {one.title: one for one in own_texts.all_sets().values()}


def _start(now: session.Experiment, minutes: float, chosen: TextSet) -> None:
    try:
        limits().check_training("models")
        limits().check_jobs(running(now.owner))
    except SettingsError as error:
        return session.set_problem(PROBLEM, error)
    session.set_problem(PROBLEM, None)
    state.heal_shown = None
    state.heal_job = heal_job(now.owner, now.loaded, now.plan, chosen.scored(), minutes)


def _running() -> None:
    """Show how far a heal is, and take its model over when it ends."""
    job = state.heal_job
    if job is None:
        return
    job.look()
    if job.done:
        _take()
        st.rerun()
    known: HealProgress | None = job.pieces[-1] if job.pieces else None
    if known is None:
        waiting = "Waiting for another training to end" if job.started is None else "Stitching, and reading the texts"
        st.progress(0.0, text=waiting)
    else:
        left = f"{sweep_words.span(Span.about(known.seconds_left, SETTLED))} left"
        st.progress(known.share, text=f"Healing: step {known.step:,}, {left}")
        st.caption(words.standing(known))
        chart = heal_charts.held_out_loss(words.readings(known.held))
        chart_specs.show(chart, alt="Loss on the texts held out while the model is healed", key="heal-losses")
    st.button(
        "Stop and keep the best", key="heal-stop", width="stretch", on_click=job.stop.set, disabled=job.stop.is_set()
    )


def _take() -> None:
    """Take over what a heal made; what went wrong is said beside the button."""
    job = State.heal_job.take()
    if job is None:
        return
    try:
        state.heal_shown = job.result
    except Stopped:
        state.heal_shown = None
    except SurgeryError as error:
        state.problems[PROBLEM] = error


def _result(found: Healed) -> None:
    """Show base, cut, stitched and healed side by side, and offer to open the last of them."""
    with st.container(border=True):
        st.markdown(f"**{present.plain(found.model.title)}**")
        st.table(words.side_table(found.report.sides), border="horizontal")
        for sentence in (*words.verdicts(found.report.sides), words.texts_said(found.report), *found.report.notes):
            st.caption(present.plain(sentence))
        st.button(
            "Open the healed model", key="heal-open", type=emphasis(), width="stretch", icon=":material/open_in_new:",
            disabled=state.model == found.model.name, on_click=switching.choose, args=(found.model.name,),
        )  # fmt: skip
        st.button("Close", key="heal-close", type="tertiary", on_click=_dismiss)


def _dismiss() -> None:
    session.touch()
    state.heal_shown = None
