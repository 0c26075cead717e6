"""Look at running jobs until they are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from surgery_ui.work.pool import Job

TICK = 0.04
"""Seconds between two looks at running jobs: short enough for text to stream."""


def follow(jobs: list[Job[Any]], show: Callable[[], None]) -> None:
    """Look at running jobs, and call `show` whenever one may have news, until all are done.

    Touching the session's state gives Streamlit the chance to stop this run when the person changes something.
    """
    while True:
        running = [job for job in jobs if not job.done]
        show()
        if not running:
            return
        for job in running:
            job.look()
        running[0].wait(TICK)
        _ = st.session_state["owner"]
