"""Look at running jobs until they are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from surgery_ui.work.job import Job

TOUCHED = "touched"
"""A key of the session's state that nothing is kept under."""
TICK = 0.04
"""Seconds between two pieces of a text: short enough for it to stream; and until an edit is heard meanwhile."""
LOOK = 0.25
"""Seconds between two looks at how far jobs are that have no news. Thirty pages that wait look often enough together."""


def give_way() -> None:
    """Let Streamlit stop this run where the person has changed something; it does so when the state is touched."""
    _ = TOUCHED in st.session_state


def follow(jobs: list[Job[Any]], show: Callable[[], None]) -> None:
    """Look at running jobs, and call `show` whenever one may have news, until all are done.

    News that come after a pause are shown at once, a stream of them every `TICK`; how far they are, every `LOOK`.
    """
    news, shown = threading.Event(), 0.0
    for job in jobs:
        job.tell(news)
    while True:
        running = [job for job in jobs if not job.done]
        show()
        if not running:
            return
        for job in running:
            job.look()
        looked = time.monotonic()
        while not news.wait(TICK) and time.monotonic() - looked < LOOK:
            give_way()
        if news.is_set():
            news.clear()
            time.sleep(max(0.0, shown + TICK - time.monotonic()))
            shown = time.monotonic()
        give_way()
