"""What can be trusted: preflight on the Models page, a warning where it failed, and the refusal of plans."""

from __future__ import annotations

import re
from typing import Any

import streamlit as st

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.checks import Check
from surgery_core.proof.preflight import PreflightReport
from surgery_ui.parts import waiting
from surgery_ui.parts.sections import emphasis
from surgery_ui.session import session
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.following import follow
from surgery_ui.work.pool import Job, Unexpected


class Preflight:
    """The checks of the open model, drawn when they are done."""

    def __init__(self, now: session.Experiment) -> None:
        st.subheader("Can surgery be trusted here?", anchor=False)
        st.caption(
            "Each check compares two ways to the same numbers on this model, with a plan that drops the first layer "
            "and runs the others backwards."
        )
        self._owner, self._job = now.owner, cached.preflight_job(now.owner, now.loaded)
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
        else:
            waiting.failed(self._place, self._owner, [self._job], "preflight")


class Trust:
    """Whether what the page shows can be trusted: the checks of the open model, and those of the plan.

    Put first on a page, and last among the sections that it follows: checks are asked for when everything else is.
    A plan that is refused ends the run where this stands, so that no number of it is shown, unless the person asks.
    """

    def __init__(self, now: session.Experiment) -> None:
        self._now = now
        self._place = st.empty()
        self._jobs: list[Job[Any]] = []
        self._drawn = self._unchecked = False
        self._insists = _experiment_key(now) in st.session_state.get("unproved", ())
        refused = cached.refusal(now.loaded, now.plan)
        if refused is not None:
            self._refuse(refused)

    @property
    def jobs(self) -> list[Job[Any]]:
        """Ask for the checks and return their jobs."""
        if not self._jobs:
            now = self._now
            self._jobs = [cached.preflight_job(now.owner, now.loaded)]
            if not now.plan.is_identity:
                self._jobs.append(cached.proof_job(now.owner, now.loaded, now.plan))
        return self._jobs

    def show(self) -> None:
        """Warn where a check of the model failed; start the run again where the plan is refused."""
        if not self._insists and cached.refusal(self._now.loaded, self._now.plan) is not None:
            st.rerun()
        if not self._drawn and self._jobs and self._jobs[0].done:
            self._drawn = True
            with self._place.container():
                _warn(self._jobs[0])
        if self._jobs and self._jobs[-1].done and isinstance(self._jobs[-1].error, Unexpected) and not self._unchecked:
            self._unchecked = True
            with self._place.container():
                st.warning("This plan could not be checked, so its numbers may be wrong; the server's log says why.")
                waiting.retry(self._now.owner, self._jobs[-1:], "proof", "Check again")

    def _refuse(self, refused: RefusedPlanError) -> None:
        """Say why the plan is refused, offer the nearest that is allowed, and end the run."""
        if self._insists:
            st.error(f"Do not trust these numbers. {present.plain(str(refused))}")
            return
        st.error(f"No numbers are shown for this plan. {present.plain(str(refused))}")
        with st.container(horizontal=True, vertical_alignment="center"):
            place = st.empty()
            st.button("Show the numbers anyway", on_click=_insist, args=(_experiment_key(self._now),))
        place.caption("Looking for the nearest plan that is allowed.")
        nearest = cached.nearest_job(self._now.owner, self._now.loaded, self._now.plan)
        follow([nearest], lambda: None)
        _offer(place, None if nearest.error is not None else nearest.result)
        st.stop()


def _offer(place: Any, nearest: LayerPlan | None) -> None:
    if nearest is None:
        place.caption("Not even the unchanged model passes its checks.")
    else:
        place.button(
            f"Use {nearest}", type=emphasis(), on_click=session.change, args=("notation", lambda plan: nearest)
        )


def _experiment_key(now: session.Experiment) -> tuple[Any, ...]:
    return now.loaded.info.key, str(now.plan)


def _insist(key: tuple[Any, ...]) -> None:
    session.touch()
    st.session_state["unproved"] = {*st.session_state.get("unproved", ()), key}


def warn(now: session.Experiment) -> None:
    """Ask for the checks of the open model, and warn where they are done and one failed."""
    _warn(cached.preflight_job(now.owner, now.loaded))
    refused = cached.refusal(now.loaded, now.plan)
    if refused is not None:
        st.error(f"Do not trust the numbers of this plan. {present.plain(str(refused))}")


def _warn(job: Job[PreflightReport]) -> None:
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
        rows = {present.plain(check.title): f"{_held(check)} {_unbroken(check.detail)}" for check in report.checks}
        st.table(rows, border="horizontal", hide_header=True)


def _held(check: Check) -> str:
    return "" if not check.tried else "Yes." if check.passed else "No."


def _unbroken(detail: str) -> str:
    """Return a check's detail with numbers such as 1.9e-05 that stay on one line."""
    return present.plain(re.sub(r"(\de)-(\d)", "\\1\u2011\\2", detail))
