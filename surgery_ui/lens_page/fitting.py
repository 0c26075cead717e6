"""Fit a Jacobian lens in the background: on what, at what cost, and how far it is."""

from __future__ import annotations

import math

import streamlit as st

from surgery_core.errors import SettingsError
from surgery_core.lenses.fitted import Fitted
from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_fit import FitProgress, JacobianFit
from surgery_core.sweeps.estimate import SETTLED, Span, jacobian_seconds
from surgery_core.text import Text, TextSet, bundled_texts
from surgery_ui.lens_page.controls import jacobian_of_base
from surgery_ui.lens_page.cost import estimate
from surgery_ui.parts.choices import segments
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import own_texts, session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import lens_jobs
from surgery_ui.work.job import Job
from surgery_ui.work.limits import limits
from surgery_ui.work.long_runs import running

SETTINGS = JacobianFit(cut=True)
CHARACTERS = 4
"""Characters a token, about."""
BUNDLED = "The bundled texts"
UNCHANGED, OPERATED = "The unchanged model", "This plan"


def fit_form(now: session.Experiment) -> None:
    """Show what a Jacobian lens is fitted on, what that costs, and the button."""
    st.markdown("**Fit a Jacobian lens**")
    st.caption(
        f"The model's own gradients are averaged, a piece of {SETTINGS.tokens} tokens after the other; nothing is trained. "
        f"A hundred pieces and more give a steady lens, fewer a rough one. It runs in the background, and ends when a piece "
        f"changes the mean by less than {SETTINGS.tolerance:.1%}."
    )
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        source = segments("Over", [BUNDLED, *own_sets(), *_own_text()], "lens-fit-source")
        what = UNCHANGED
        if not now.plan.is_identity and jacobian_of_base(now):
            help_ = "A lens that is fitted on the operated model reads its rows with what really comes behind them."
            what = segments("Of", [UNCHANGED, OPERATED], "lens-fit-of", help=help_)
    texts = _texts(source)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.button(
            "Fit a lens",
            disabled=not limits().training,
            on_click=_start,
            args=(now, texts, what == OPERATED),
            key="lens-fit",
        )
        _estimate(now, texts)
    show_problem("lens-fit")


def show_fit(job: Job[Fitted], progress: FitProgress) -> None:
    """Show how far a fit is, how steady its mean, and the button that ends it."""
    left = f"{sweep_words.span(Span.about(progress.seconds_left, SETTLED))} left"
    share = progress.text / max(progress.text, _expected(progress))
    st.progress(share, text=f"Piece {progress.text}, {left}")
    st.button("Stop and keep the mean so far", on_click=job.stop.set, disabled=job.stop.is_set())
    if not math.isnan(progress.change):
        st.caption(
            f"With each piece the mean changes by {progress.change:.2%} of its size, averaged over layers and the last ten "
            f"pieces; below {SETTINGS.tolerance:.1%} the fit is done."
        )
    if progress.short:
        st.caption(f"Too short, and left out: {present.plain(', '.join(progress.short[:5]))}.")


def fitted_title(found: Jacobians) -> str:
    """Return what a fitted lens is called here."""
    return f"Jacobian, {found.plan}" if found.plan else f"Jacobian, {found.n_texts} pieces"


def own_sets() -> dict[str, TextSet]:
    """Return the person's own sets by their titles."""
    return {one.title: one for name, one in own_texts.all_sets().items() if name in state.own_sets}


def _own_text() -> dict[str, Text]:
    text = session.own_text()
    return {"My own": text} if text else {}


def _texts(source: str) -> tuple[Text, ...]:
    if (own := _own_text().get(source)) is not None:
        return (own,)
    chosen = own_sets().get(source)
    return chosen.scored() if chosen else bundled_texts()


def _pieces(texts: tuple[Text, ...]) -> int:
    """Return about how many pieces are read: those of the texts, or of the rule where it ends sooner."""
    return min(
        SETTINGS.least, sum(math.ceil(len(text.text) / (CHARACTERS * SETTINGS.tokens)) for text in texts)
    )  # fmt: skip


def _expected(progress: FitProgress) -> int:
    """Return about how many pieces will have been read at the end."""
    if math.isnan(progress.change):
        return min(progress.texts, SETTINGS.least)
    return min(progress.texts, max(SETTINGS.least, math.ceil(progress.text * progress.change / SETTINGS.tolerance)))


def _estimate(now: session.Experiment, texts: tuple[Text, ...]) -> None:
    """Say how long a fit takes."""
    pieces = _pieces(texts)
    tokens = min(SETTINGS.tokens, sum(len(text.text) for text in texts) // (CHARACTERS * max(1, len(texts))) + 1)
    width = now.loaded.info.d_model
    estimate(now, lambda speeds: jacobian_seconds(speeds, width, pieces, tokens), f" for about {pieces} pieces")


def _start(now: session.Experiment, texts: tuple[Text, ...], operated: bool) -> None:
    try:
        limits().check_training()
        limits().check_jobs(running(now.owner))
    except SettingsError as error:
        return session.set_problem("lens-fit", error)
    session.set_problem("lens-fit", None)
    plan = now.plan if operated else now.identity
    state.lens_job = lens_jobs.fitting_job(now.owner, now.loaded, plan, texts, SETTINGS)
    state.lens_job_model = now.loaded
