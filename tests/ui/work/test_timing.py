"""Timings: whoever asks for one is looking at it, and one that takes longer than a look at a page is kept."""

from __future__ import annotations

import time

from surgery_ui.work import timing
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import PATIENCE, TABLE


def test_who_asks_for_a_timing_is_looking_at_it() -> None:
    job: Job[float] = Job(("speeds",), lambda job: 1.0, patience=0.05)
    time.sleep(0.1)
    assert job.abandoned
    assert timing.known(job) is None
    assert not job.abandoned
    assert timing.known(None) is None


def test_a_timing_that_outlasts_a_look_is_done_once() -> None:
    """On SmolLM2 it takes half a minute beside other work; a page that was redrawn asked for it again at every edit."""
    (kind,) = [kind for kind in TABLE if kind.key == "speeds"]
    assert kind.patience > 4 * PATIENCE
