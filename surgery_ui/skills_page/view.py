"""Skills before and after surgery: a chart, figures, and every prompt with both answers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts import layers as layer_charts
from surgery_core.measure.said import answers_said
from surgery_core.measure.skills.frames import item_frame, skill_frame, skill_means, skills_verdict
from surgery_ui.parts import chart_specs, keeping
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.choices import segments
from surgery_ui.parts.opening import Opening
from surgery_ui.parts.sections import Section
from surgery_ui.parts.tables import data_table
from surgery_ui.session import session
from surgery_ui.work.kinds import Lane
from surgery_ui.work.sweep_jobs import skills_job

VERDICT = (
    "All prompts of all skills, each before and after: McNemar's exact test, and Newcombe's interval for paired shares. "
    "Lines on bars are Wilson's 95 % intervals of each side alone; two that overlap can still differ."
)
LANES = {"before": Lane.SKILLS_BEFORE, "after": Lane.SKILLS_AFTER}
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


def skills_section(now: session.Experiment, opening: Opening) -> Section:
    """Ask both sides the skills, hold their place open, and return the section that draws them."""
    plans = {"before": now.identity} if now.plan.is_identity else {"before": now.identity, "after": now.plan}
    jobs = [skills_job(now.owner, LANES[side], now.loaded, plan) for side, plan in plans.items()]

    def draw() -> None:
        results = [job.result for job in jobs]
        told_apart = skills_verdict(*results).word if len(results) > 1 else ""
        _overview(skill_frame(*results), len(results) > 1, told_apart)
        _prompts(item_frame(*results), len(results) > 1)

    opening.await_(jobs, lambda: answers_said([job.result for job in jobs], now.plan), VERDICT)
    return Awaited(now.owner, jobs, "skills", draw, text="Asking the skills", height=HEIGHT)


def offer_skills(section: Section) -> None:
    """Offer the tables and charts of the skills to be kept."""
    if any(job.error is not None or not job.done for job in section.jobs):
        return
    results = [job.result for job in section.jobs]
    frame = skill_frame(*results)
    charts = {
        f"{title} by skill": keeping.chart_file(partial(layer_charts.skill_bars, frame, metric, title))
        for metric, title in FIGURES.items()
    }
    keeping.offer_results({"Skills": frame, "Every prompt": item_frame(*results)}, charts)


def _overview(frame: pd.DataFrame, compared: bool, word: str) -> None:
    """Show means and charts; the accuracy's change has a colour only where the verdict on the answers says so."""
    means = skill_means(frame)
    decided = word == ("better" if means.accuracy_change > 0 else "worse")
    row = st.container().grid(2, min_column_width=155)
    row.metric(
        "Mean accuracy", f"{means.accuracy:.1%}",
        f"{100 * means.accuracy_change:+.1f} points" if compared else None, delta_arrow="off", border=True,
        delta_color="normal" if decided else "gray", height="stretch",
        help="Share of prompts where the right answer is the most probable one, averaged over the skills.",
    )  # fmt: skip
    row.metric(
        "Mean margin", f"{means.margin:.2f} nats", f"{means.margin_change:+.2f} nats" if compared else None,
        delta_arrow="off", border=True, delta_color="gray", height="stretch",
        help="How far the right answer is ahead of the best wrong one; negative when it is behind.",
    )  # fmt: skip
    charts = st.container().grid(2, min_column_width=330)
    for metric, title in FIGURES.items():
        with charts.container():
            chart_specs.show(
                layer_charts.skill_bars(frame, metric, title, dark=chart_specs.dark()),
                key=f"skills-{metric}",
                alt=f"{title} by skill",
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
    data_table(
        shown[list(answers)], column_config=answers,
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
