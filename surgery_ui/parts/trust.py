"""What can be trusted: preflight on the Models page, a warning where it failed, and the refusal of plans."""

from __future__ import annotations

import re
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.checks import Check
from surgery_core.proof.preflight import PreflightReport
from surgery_ui.parts import waiting
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.sections import Section, emphasis
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.session.state import ModelKey, state
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.following import follow
from surgery_ui.work.job import Job, Unexpected
from surgery_ui.work.kinds import Lane

CHECKS = 460
"""Height of the checks' table with the line above it, in pixels."""


def preflight_section(now: session.Experiment) -> Section:
    """Have the open model checked, and return the section that draws what came of it."""
    st.subheader("Can surgery be trusted here?", anchor=False)
    st.caption(
        "Each check compares two ways to the same numbers on this model, with a plan that drops the first layer "
        "and runs the others backwards."
    )
    job = cached.preflight_job(now.owner, now.loaded)
    return Awaited(
        now.owner, [job], "preflight", lambda: _draw(job.result), text="Checking", height=CHECKS
    )  # fmt: skip


def trust_section(now: session.Experiment) -> Trust:
    """Return the section that says whether what the page shows can be trusted.

    Put it first on a page, and last among the sections that are followed: checks are asked for when everything else is.
    A plan that is refused ends the run where this stands, so that no number of it is shown, unless the person asks.
    """
    place = st.empty()
    insists = _experiment_key(now) in state.unproved
    refused = cached.refusal(now.loaded, now.plan)
    if refused is not None:
        _refuse(now, refused, insists)
    return Trust(now, place, insists)


class Trust:
    """Whether what the page shows can be trusted: the checks of the open model, and those of the plan.

    Args:
        now: what the page works on.
        place: where the warnings go.
        insists: whether the person wants to see the numbers of a plan that is refused.
    """

    def __init__(self, now: session.Experiment, place: DeltaGenerator, insists: bool) -> None:
        self._now, self._place, self._insists = now, place, insists
        self._jobs: list[Job[Any]] = []
        self._drawn = self._unchecked = False

    @property
    def jobs(self) -> list[Job[Any]]:
        """Ask for the checks and return their jobs."""
        if not self._jobs:
            now = self._now
            self._jobs = [cached.preflight_job(now.owner, now.loaded)]
            if not now.plan.is_identity:
                self._jobs.append(cached.proof_job(now.owner, Lane.PROOF, now.loaded, now.plan))
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


def _refuse(now: session.Experiment, refused: RefusedPlanError, insists: bool) -> None:
    """Say why the plan is refused; unless the person insists, offer the nearest that is allowed, and end the run."""
    if insists:
        st.error(f"Do not trust these numbers. {present.plain(str(refused))}")
        return
    st.error(f"No numbers are shown for this plan. {present.plain(str(refused))}")
    with st.container(horizontal=True, vertical_alignment="center"):
        place = st.empty()
        st.button("Show the numbers anyway", on_click=_insist, args=(_experiment_key(now),))
    nearest = cached.nearest_job(now.owner, now.loaded, now.plan)
    with place:
        bar = Waiting(now.owner, [nearest], "Looking for the nearest plan that is allowed", "nearest")
    follow([nearest], bar.show)
    if not waiting.failed(place, now.owner, [nearest], "nearest"):
        _offer(place, nearest.result)
    st.stop()


def _offer(place: Any, nearest: LayerPlan | None) -> None:
    if nearest is None:
        place.caption("Not even the unchanged model passes its checks.")
    else:
        place.button(
            f"Use {nearest}", type=emphasis(), on_click=session.change, args=("notation", lambda plan: nearest)
        )


def _experiment_key(now: session.Experiment) -> tuple[ModelKey, str]:
    return now.loaded.info.key, str(now.plan)


def _insist(key: tuple[ModelKey, str]) -> None:
    session.touch()
    state.unproved |= {key}


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


def _draw(report: PreflightReport) -> None:
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
