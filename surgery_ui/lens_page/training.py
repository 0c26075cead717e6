"""Train a tuned lens for the open model, fit a Jacobian lens, and see how good the one that reads is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.errors import SettingsError, Stopped, SurgeryError
from surgery_core.lenses.fitted import Fitted
from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_fit import FitProgress
from surgery_core.lenses.quality import summed_quality
from surgery_core.lenses.training import LensTraining, Progress
from surgery_core.sweeps.estimate import SETTLED, Span, training_seconds
from surgery_core.text import Text, bundled_texts
from surgery_ui.lens_page.controls import NAMES, own_lenses
from surgery_ui.lens_page.cost import estimate
from surgery_ui.lens_page.fitting import fit_form, fitted_title, own_sets, show_fit
from surgery_ui.lens_page.lens_files import keep, open_panel
from surgery_ui.parts import chart_specs
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.choices import segments
from surgery_ui.parts.own_text import own_text_form
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import NOTHING, Section, emphasis
from surgery_ui.session import session
from surgery_ui.session.state import State, state
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import lens_jobs
from surgery_ui.work.job import Job
from surgery_ui.work.lens_jobs import JACOBIAN, LOGIT, TUNED
from surgery_ui.work.limits import limits
from surgery_ui.work.long_runs import running

LENGTHS = {"Quick": 40, "Thorough": 120}
"""Steps of 1,024 tokens."""
BUNDLED, OWN = "The bundled texts", "My own"


def lens_panel(now: session.Experiment) -> Section:
    """Show the section about lenses of the open model; return the part that says how good the one that reads is."""
    section = st.expander(
        "Train, fit, open or save a lens", icon=":material/model_training:", key="lens-panel", on_change="rerun"
    )
    if _job() is None and not section.open:
        return NOTHING
    with section:
        train, files = st.columns(2, gap="large")
        with train:
            if _job() is None:
                _form(now)
                fit_form(now)
            else:
                _running(now.loaded.info.key)
        with files:
            open_panel(now)
        return _quality(now) if section.open else NOTHING


def _job() -> Job[Fitted] | None:
    return state.lens_job


def _form(now: session.Experiment) -> None:
    st.markdown("**Train a tuned lens**")
    st.caption(
        "A translator for each layer learns to say what the model says in the end. It is trained in the background, "
        "for this session; go on working meanwhile."
    )
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        source = segments("On", [BUNDLED, *own_sets(), OWN], "lens-source")
        length = st.segmented_control(
            "Length", list(LENGTHS), key="lens-length", default="Quick", required=True,
            help="40 or 120 steps of 1,024 tokens.",
        )  # fmt: skip
    steps = LENGTHS[length or "Quick"]
    missing = source == OWN and session.own_text() is None
    if source == OWN:
        own_text_form(now)
    if missing:
        st.info("There is no text of your own yet; paste or upload one above.")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.button(
            "Train a lens",
            type=emphasis(),
            disabled=missing or not limits().training,
            on_click=_start,
            args=(now, source, steps),
        )
        _estimate(now, steps)
    show_problem("lens-training")


def _estimate(now: session.Experiment, steps: int) -> None:
    """Say how long a training takes."""
    settings = _settings(steps)
    estimate(
        now, lambda speeds: training_seconds(speeds, steps, settings.tokens_per_step, settings.window, settings.checks)
    )


def _settings(steps: int) -> LensTraining:
    return LensTraining(steps=steps, tokens_per_step=1024, window=256, learning_rate=3e-3)


def _start(now: session.Experiment, source: str, steps: int) -> None:
    try:
        limits().check_training()
        limits().check_jobs(running(now.owner))
    except SettingsError as error:
        return session.set_problem("lens-training", error)
    session.set_problem("lens-training", None)
    text = session.own_text() if source == OWN else None
    chosen = own_sets().get(source)
    texts: tuple[Text, ...] = chosen.scored() if chosen else (text,) if text else bundled_texts()
    state.lens_job = lens_jobs.training_job(now.owner, now.loaded, texts, _settings(steps))
    state.lens_job_model = now.loaded


@st.fragment(run_every=0.5)
def _running(key: tuple[str, ...]) -> None:
    """Show a training's progress, and take its lens over when it ends."""
    job = _job()
    if job is None:
        return None
    job.look()
    if job.done:
        _take(job)
        st.rerun()
    progress = job.pieces[-1] if job.pieces else None
    if isinstance(progress, FitProgress):
        return show_fit(job, progress)
    if progress is None:
        waiting = "Waiting for another training to end" if job.started is None else "Reading the texts"
        st.progress(0.0, text=waiting)
    else:
        left = f"{sweep_words.span(Span.about(progress.seconds_left, SETTLED))} left"
        st.progress(progress.step / progress.steps, text=f"Step {progress.step} of {progress.steps}, {left}")
    st.button("Stop and keep the best so far", on_click=job.stop.set, disabled=job.stop.is_set())
    if progress is not None:
        st.caption("Loss by layer: KL to the output, of this lens and of the logit lens. Lower is better.")
        frame = _losses(job.pieces[0].losses, progress.losses)
        chart_specs.show(
            lens_line_charts.lens_quality(frame), alt="Loss by layer while the lens is trained", key="lens-losses"
        )


def _losses(first: tuple[float, ...], now: tuple[float, ...]) -> pd.DataFrame:
    """Return the losses by layer; those of the first step are the logit lens's."""
    return pd.DataFrame({"layer": range(len(now)), "logit_lens": first, "tuned_lens": now})


def _take(job: Job[Fitted]) -> None:
    """Take over what a training made; what went wrong is said beside the button."""
    loaded = State.lens_job_model.take()
    state.lens_job = None
    try:
        steps = job.pieces[-1].step if job.pieces and isinstance(job.pieces[-1], Progress) else 0
        found = job.result
        keep(loaded, found, fitted_title(found) if isinstance(found, Jacobians) else f"Trained, {steps} steps")
    except Stopped:
        pass
    except SurgeryError as error:
        state.problems["lens-training"] = error


def _quality(now: session.Experiment) -> Section:
    """Have measured how far the lens that reads now is from the output, beside the logit lens."""
    kind = state.lens_kind
    if kind == LOGIT and lens_jobs.has_lens(now.loaded):
        kind = TUNED
    if kind == LOGIT or lens_jobs.plan_of_lens(kind):
        return NOTHING
    st.divider()
    title = own_lenses(now).get(kind, NAMES.get(kind, "Lens"))
    st.markdown(f"**How good is it?** {present.plain(title)}, on the bundled texts")
    job = lens_jobs.quality_job(now.owner, now.loaded, bundled_texts(), kind)
    what = lens_jobs.what_reads(kind)
    return Awaited(now.owner, [job], "quality", lambda: _draw_quality(job.result, what), text="Measuring")


def _draw_quality(quality: pd.DataFrame, what: str) -> None:
    logit, other = summed_quality(quality)
    aim = " A Jacobian lens is not trained to be near it: it reads what a state leads to." if what == JACOBIAN else ""
    st.caption(
        f"KL to the output, summed over the layers: {other:.2f} nats a token; "
        f"the logit lens {logit:.2f}. Lower is nearer. At the last layer both are the output itself.{aim}"
    )
    chart_specs.show(
        lens_line_charts.lens_quality(quality), alt="KL of both lenses to the output by layer", key="lens-quality"
    )
