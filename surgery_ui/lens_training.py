"""Train a tuned lens for the open model, open one from a file, download one, and see how good it is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from surgery_core import lens_line_charts
from surgery_core.errors import LensError, Stopped, SurgeryError
from surgery_core.lens_archive import pack_lens, unpack_lens
from surgery_core.lens_training import LensTraining
from surgery_core.text import Text, bundled_texts
from surgery_core.tuned_lens import Translators
from surgery_ui import lens_jobs, present, session
from surgery_ui.controls import show_problem
from surgery_ui.jobs import Job
from surgery_ui.lens_controls import NAMES, own_lenses
from surgery_ui.lens_jobs import LOGIT, TUNED
from surgery_ui.sections import follow

LENGTHS = {"Quick": 40, "Thorough": 120}
"""Steps of 1,024 tokens."""
BUNDLED, OWN = "The bundled texts", "Your own text"
MAX_FILE_MB = 64


def lens_panel(now: session.Experiment) -> None:
    """Show the section about tuned lenses of the open model."""
    section = st.expander(
        "Train, open or save a tuned lens", icon=":material/model_training:", key="lens-panel", on_change="rerun"
    )
    if _job() is None and not section.open:
        return
    with section:
        train, files = st.columns(2, gap="large")
        with train:
            st.markdown("**Train one**")
            if _job() is None:
                _form(now)
            else:
                _running(now.loaded.info.key)
        with files:
            _files(now)
        if section.open:
            _quality(now)


def _job() -> Job[Translators] | None:
    found: Job[Translators] | None = st.session_state.get("lens-job")
    return found


def _form(now: session.Experiment) -> None:
    own = session.own_text()
    st.caption(
        "A translator for each layer learns to say what the model says in the end. It is trained in the background, "
        "for this session; go on working meanwhile. Add a text of your own on the Surgery page."
    )
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        source = st.selectbox("On", [BUNDLED, OWN] if own else [BUNDLED], key="lens-source", width=200)
        length = st.segmented_control("Length", list(LENGTHS), key="lens-length", default="Quick", required=True)
        st.button(
            "Train a lens", type="primary", on_click=_start, args=(now, source == OWN, LENGTHS[length or "Quick"])
        )
    show_problem("lens-training")


def _start(now: session.Experiment, own: bool, steps: int) -> None:
    session.set_problem("lens-training", None)
    text = session.own_text() if own else None
    texts: tuple[Text, ...] = (text,) if text else bundled_texts()
    settings = LensTraining(steps=steps, tokens_per_step=1024, window=256, learning_rate=3e-3)
    st.session_state["lens-job"] = lens_jobs.training_job(now.owner, now.loaded, texts, settings)
    st.session_state["lens-job-model"] = now.loaded


@st.fragment(run_every=0.5)
def _running(key: tuple[str, ...]) -> None:
    """Show a training's progress, and take its lens over when it ends."""
    job = _job()
    if job is None:
        return
    job.look()
    if job.done:
        _take(job)
        st.rerun()
    progress = job.pieces[-1] if job.pieces else None
    if progress is None:
        waiting = "Waiting for another training to end" if job.started is None else "Reading the texts"
        st.progress(0.0, text=waiting)
    else:
        left = f"{progress.seconds_left:.0f} s left"
        st.progress(progress.step / progress.steps, text=f"Step {progress.step} of {progress.steps}, {left}")
    st.button("Stop and keep the best so far", on_click=job.stop.set, disabled=job.stop.is_set())
    if progress is not None:
        frame = _losses(job.pieces[0].losses, progress.losses)
        st.altair_chart(
            lens_line_charts.lens_quality(frame), alt="Loss by layer while the lens is trained", key="lens-losses"
        )


def _losses(first: tuple[float, ...], now: tuple[float, ...]) -> pd.DataFrame:
    """Return the losses by layer; those of the first step are the logit lens's."""
    return pd.DataFrame({"layer": range(len(now)), "logit_lens": first, "tuned_lens": now})


def _take(job: Job[Translators]) -> None:
    """Take over what a training made; what went wrong is said beside the button."""
    loaded = st.session_state.pop("lens-job-model")
    st.session_state["lens-job"] = None
    try:
        steps = job.pieces[-1].step if job.pieces else 0
        _keep(loaded, job.result, f"Trained, {steps} steps")
    except Stopped:
        pass
    except SurgeryError as error:
        st.session_state["problems"]["lens-training"] = error


def _keep(loaded: lens_jobs.LoadedModel, found: Translators, title: str) -> None:
    """Keep a lens under a title of its own and read through it from now on."""
    own = st.session_state.setdefault("own-lenses", {}).setdefault(loaded.info.key, {})
    digest = lens_jobs.keep_lens(loaded, found)
    taken = {name for key, name in own.items() if key != digest}
    number = next(n for n in range(1, len(taken) + 2) if (title if n == 1 else f"{title} ({n})") not in taken)
    own[digest] = title if number == 1 else f"{title} ({number})"
    st.session_state["lens-kind"] = digest


def _files(now: session.Experiment) -> None:
    st.markdown("**Open one**")
    st.file_uploader(
        "A zip of config.json and params.safetensors or params.pt, as the tuned-lens library writes them",
        ["zip"],
        key="lens-file",
        max_upload_size=MAX_FILE_MB,
        on_change=_open_file,
        args=(now,),
    )
    show_problem("lens-file")
    kind = st.session_state.get("lens-kind", LOGIT)
    if kind == LOGIT:
        return
    st.markdown("**Save the one that reads now**")
    try:
        found = lens_jobs.translators(now.loaded, kind)
    except LensError as error:
        st.error(present.plain(str(error)))
        return
    with st.container(horizontal=True):
        name = f"{now.loaded.info.name.replace('/', '-')}-lens"
        st.download_button("Download", lambda: pack_lens(found), f"{name}.zip", "application/zip", on_click="ignore")
        st.download_button(
            "For the tuned-lens library", lambda: pack_lens(found, pickled=True), f"{name}-pt.zip", "application/zip",
            on_click="ignore", type="tertiary",
        )  # fmt: skip


def _open_file(now: session.Experiment) -> None:
    """Open an uploaded lens; a bad file changes nothing."""
    file = st.session_state["lens-file"]
    if file is None:
        return session.set_problem("lens-file", None)
    try:
        _keep(now.loaded, unpack_lens(file.getvalue()), file.name.removesuffix(".zip")[:24])
    except SurgeryError as error:
        return session.set_problem("lens-file", error)
    session.set_problem("lens-file", None)


def _quality(now: session.Experiment) -> None:
    """Show how far the lens that reads now is from the output, beside the logit lens."""
    kind = st.session_state.get("lens-kind", LOGIT)
    if kind == LOGIT and lens_jobs.has_lens(now.loaded):
        kind = TUNED
    if kind == LOGIT:
        return
    title = own_lenses(now).get(kind, NAMES.get(kind, "Lens"))
    st.markdown(f"**How good is it?** {present.plain(title)}, on the bundled texts")
    job = lens_jobs.quality_job(now.owner, now.loaded, bundled_texts(), kind)
    with st.spinner("Measuring"):
        follow([job], lambda: None)
    if job.error is not None:
        if not isinstance(job.error, Stopped):
            st.error(present.plain(str(job.error)))
        return
    sums = job.result[["logit_lens", "tuned_lens"]].sum()
    st.caption(
        f"KL to the output, summed over the layers: {sums['tuned_lens']:.2f} nats a token; "
        f"the logit lens {sums['logit_lens']:.2f}. Lower is better."
    )
    st.altair_chart(
        lens_line_charts.lens_quality(job.result), alt="KL of both lenses to the output by layer", key="lens-quality"
    )
