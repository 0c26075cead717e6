"""Preflight in the app: its result on the Models page, and a warning on every page where it failed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from surgery_core.errors import Stopped
from surgery_core.preflight import PreflightReport
from surgery_ui import cached, present, session
from surgery_ui.jobs import Job


class Preflight:
    """The checks of the open model, drawn when they are done."""

    def __init__(self, now: session.Experiment) -> None:
        st.subheader("Can surgery be trusted here?", anchor=False)
        st.caption(
            "Each check compares two ways to the same numbers on this model, with a plan that drops the first layer "
            "and runs the others backwards."
        )
        self._job = cached.preflight_job(now.owner, now.loaded)
        self._place = st.empty()
        self._place.caption("Checking, which takes a few seconds.")
        self._drawn = False

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the job to look at."""
        return [self._job]

    def show(self) -> None:
        """Draw the result once."""
        if self._drawn or not self._job.done:
            return
        self._drawn = True
        if self._job.error is None:
            _draw(self._place, self._job.result)
        elif not isinstance(self._job.error, Stopped):
            self._place.error(present.plain(str(self._job.error)))


def warn(now: session.Experiment) -> None:
    """Ask for the checks of the open model, and warn where they are done and one failed."""
    job = cached.preflight_job(now.owner, now.loaded)
    if job.done and job.error is None and not job.result.passed:
        st.warning(
            f"Do not trust these numbers: surgery on this model failed a check. {present.plain(job.result.reason)} "
            "The Models page has the details."
        )


def _draw(place: Any, report: PreflightReport) -> None:
    with place.container():
        if report.passed:
            st.success(f"All {len(report.checks)} checks passed, in {report.seconds:.1f} s.", icon=":material/check:")
        else:
            st.warning("At least one check failed: numbers of this model cannot be trusted.")
        rows = {
            present.plain(check.title): f"{'Yes' if check.passed else 'No'}. {present.plain(check.detail)}"
            for check in report.checks
        }
        st.table(rows, border="horizontal", hide_header=True)
