"""Two charts with all plans side by side: the loss after each layer, and the skills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts.plans import plan_lines, plan_skills
from surgery_core.charts.style import layer_losses
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.measure.skills.frames import skill_frame
from surgery_ui.parts import chart_specs
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.sections import NOTHING, Section
from surgery_ui.session import session
from surgery_ui.session.tray import Kept
from surgery_ui.words.labels import UNCHANGED, unique
from surgery_ui.work import lens_jobs
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane, tray_lanes
from surgery_ui.work.sweep_jobs import skills_job

TEXT, ASK = "tray-layers-text", "tray-skills"


def layers_section(now: session.Experiment, kept: Sequence[Kept]) -> Section:
    """Have one text read layer by layer under every plan, and return the section that draws it."""
    texts = session.scored_texts()
    titles = unique({at: one.title for at, one in enumerate(texts)}, {})
    at = st.selectbox(
        "Text", range(len(texts)), format_func=titles.__getitem__, key=TEXT, width=320, on_change=session.touch
    )
    beginning = lens_jobs.beginning(now.loaded, texts[at or 0])
    lanes = tray_lanes("layers")
    asked = [(Lane.LAYERS_BEFORE, now.identity), *((lanes[n], one.plan) for n, one in enumerate(kept))]
    jobs = [lens_jobs.lens_job(now.owner, lane, now.loaded, plan, beginning) for lane, plan in asked]
    names = [UNCHANGED, *(one.name for one in kept)]

    def draw() -> None:
        chart = plan_lines(_losses(names, [job.result for job in jobs]), names, dark=chart_specs.dark())
        chart_specs.show(chart, key="tray-layers", alt="Loss after each layer, a line a plan")

    return Awaited(now.owner, jobs, "tray-layers", draw, text="Reading the layers", height=330)


def skills_section(now: session.Experiment, kept: Sequence[Kept]) -> Section:
    """Ask every plan the skills, where the person wants to, and return the section that draws it."""
    if not st.toggle("Ask the skills too", key=ASK, persist_state="session", on_change=session.touch, help=_HELP):
        return NOTHING
    lanes = tray_lanes("skills")
    asked = [(Lane.SKILLS_BEFORE, now.identity), *((lanes[n], one.plan) for n, one in enumerate(kept))]
    jobs: list[Job[Any]] = [skills_job(now.owner, lane, now.loaded, plan) for lane, plan in asked]
    names = [UNCHANGED, *(one.name for one in kept)]

    def draw() -> None:
        frame = _accuracies(names, [job.result for job in jobs])
        chart_specs.show(
            plan_skills(frame, names, dark=chart_specs.dark()), key="tray-skill-dots",
            alt="How much of each skill every plan gets right",
        )  # fmt: skip
        st.caption("Thin lines are Wilson's 95 % intervals of each plan alone; two that overlap can still differ.")

    return Awaited(now.owner, jobs, "tray-skills", draw, text="Asking the skills", height=400)


_HELP = "Small sets of prompts with right answers, as on the Skills page. A large model takes minutes for each plan."


def _losses(names: Sequence[str], read: Sequence[Trajectory]) -> pd.DataFrame:
    sides = zip(names, read, strict=True)
    return pd.concat([layer_losses(one.frame()).assign(plan=name) for name, one in sides], ignore_index=True)


def _accuracies(names: Sequence[str], results: Sequence[Any]) -> pd.DataFrame:
    sides = zip(names, results, strict=True)
    frame = pd.concat([skill_frame(one).assign(plan=name) for name, one in sides], ignore_index=True)
    return frame.rename(columns={"accuracy_low": "low", "accuracy_high": "high"})
