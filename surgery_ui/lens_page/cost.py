"""How long the work on a lens takes, said as soon as the model has been timed."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from surgery_core.sweeps.estimate import Span
from surgery_core.sweeps.speeds import Speeds
from surgery_ui.session import session
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import timing


def estimate(now: session.Experiment, seconds: Callable[[Speeds], float], behind: str = "") -> None:
    """Say how long something takes.

    Args:
        now: the open model.
        seconds: from the model's speeds to the time.
        behind: what follows the time in the sentence.
    """
    job = timing.speeds_job(now.owner, now.loaded)

    def show() -> None:
        job.look()
        speeds = timing.known(job)
        if speeds is not None:
            st.caption(f"**{sweep_words.span(Span.about(seconds(speeds)))}**{behind}")
        elif not job.done:
            st.caption("Timing the model …")
        if job.done and not was:
            st.rerun()

    was = job.done
    st.fragment(show, run_every=None if was else 0.5)()
