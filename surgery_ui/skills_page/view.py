"""Skills before and after surgery: a chart, figures, and every prompt with both answers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts import layers as layer_charts
from surgery_core.measure.skills.frames import item_frame, skill_frame
from surgery_ui.parts import chart_specs, waiting
from surgery_ui.parts.choices import segments
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.work.pool import Job
from surgery_ui.work.sweep_jobs import skills_job

FIGURES = {"accuracy": "Accuracy", "margin": "Margin in nats"}
HEIGHT = 900
"""Height in pixels of what stands here, where it is not there yet."""
SHOWN = {
    "All": None,
    "Changed": ("change", ("lost", "gained")),
    "Lost": ("change", ("lost",)),
    "Gained": ("change", ("gained",)),
    "Wrong before": ("correct_before", (False,)),
    "Wrong after": ("correct_after", (False,)),
}
"""Filters of the list of prompts: a column and the values that stay."""


class SkillsView:
    """Both sides of the skills, drawn when they are there."""

    def __init__(self, now: session.Experiment) -> None:
        plans = {"before": now.identity} if now.plan.is_identity else {"before": now.identity, "after": now.plan}
        self._jobs = {side: skills_job(now.owner, f"skills-{side}", now.loaded, plan) for side, plan in plans.items()}
        self._owner = now.owner
        self._wait = Waiting(now.owner, self.jobs, "Asking the skills", "skills")
        waits = not all(job.done for job in self.jobs)
        self._place = st.skeleton(height=HEIGHT) if waits else st.empty()
        self._drawn = False

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return list(self._jobs.values())

    def show(self) -> None:
        """Draw everything once all sides are there."""
        self._wait.show()
        if self._drawn or not all(job.done for job in self.jobs):
            return
        self._drawn = True
        if waiting.failed(self._place, self._owner, self.jobs, "skills"):
            return
        results = [job.result for job in self.jobs]
        with self._place.container():
            _overview(skill_frame(*results), len(results) > 1)
            _prompts(item_frame(*results), len(results) > 1)


def _overview(frame: pd.DataFrame, compared: bool) -> None:
    means = frame.groupby("side")[["accuracy", "margin"]].mean()
    row = st.container().grid(2, min_column_width=155)
    last, first = ("After", "Before") if compared else ("Before", "Before")
    change = means.loc[last] - means.loc[first]
    row.metric(
        "Mean accuracy", f"{means.loc[last, 'accuracy']:.1%}",
        f"{100 * change['accuracy']:+.1f} points" if compared else None, delta_arrow="off", border=True,
        delta_color="gray" if change["accuracy"] == 0 else "normal", height="stretch",
        help="Share of prompts where the right answer is the most probable one, averaged over the skills.",
    )  # fmt: skip
    row.metric(
        "Mean margin", f"{means.loc[last, 'margin']:.2f} nats", f"{change['margin']:+.2f} nats" if compared else None,
        delta_arrow="off", border=True, delta_color="gray" if change["margin"] == 0 else "normal", height="stretch",
        help="How far the right answer is ahead of the best wrong one; negative when it is behind.",
    )  # fmt: skip
    charts = st.container().grid(2, min_column_width=330)
    for metric, title in FIGURES.items():
        with charts.container():
            chart_specs.show(
                layer_charts.skill_bars(frame, metric, title), key=f"skills-{metric}", alt=f"{title} by skill"
            )
    if not compared:
        st.caption(
            "Nothing is changed yet. Change the plan in the sidebar, and the answers after surgery stand beside these."
        )


def _prompts(frame: pd.DataFrame, compared: bool) -> None:
    st.subheader("Every prompt", anchor=False)
    shown = _filtered(frame, compared)
    answers: dict[str, Any] = {
        "skill": "Skill",
        "prompt": st.column_config.TextColumn("Prompt", width="medium"),
        "right": "Right answer",
        "prefers_before": "Before it prefers",
        "margin_before": st.column_config.NumberColumn("Margin before", format="%.2f", help="Nats; below 0 is wrong."),
    }
    if compared:
        answers["prefers_after"] = "After it prefers"
        answers["margin_after"] = st.column_config.NumberColumn("Margin after", format="%.2f", help="Nats.")
        answers["change"] = "Change"
    answers["wrong"] = "Wrong answers"
    if shown.empty:
        st.info("No prompt is left by this filter.")
        return
    st.dataframe(
        shown[list(answers)], hide_index=True, column_config=answers,
        alt="Every prompt with its right answer and what each model prefers",
    )  # fmt: skip
    st.caption(f"{len(shown)} of {len(frame)} prompts.")


def _filtered(frame: pd.DataFrame, compared: bool) -> pd.DataFrame:
    filters = list(SHOWN) if compared else ["All", "Wrong before"]
    left, right = st.columns([2, 3], gap="medium", vertical_alignment="top")
    with left:
        skills = st.multiselect(
            "Skills", list(dict.fromkeys(frame["skill"])), key="skills-which", placeholder="All skills",
            persist_state="session", on_change=session.touch,
        )  # fmt: skip
    with right:
        rule = SHOWN[segments("Prompts", filters, "skills-show")]
    if skills:
        frame = frame[frame["skill"].isin(skills)]
    return frame if rule is None else frame[frame[rule[0]].isin(rule[1])]
