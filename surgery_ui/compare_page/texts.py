"""What the plans side by side write, in columns; where each parts from the unchanged model's text is underlined."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from surgery_core.plans.plan import LayerPlan
from surgery_ui.parts import chat
from surgery_ui.parts.text_columns import Column, TextColumns
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.tray import Kept
from surgery_ui.words.labels import UNCHANGED
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import Lane, tray_lanes


def texts_section(now: session.Experiment, kept: Sequence[Kept]) -> TextColumns:
    """Have the plans write, the unchanged model before them, and return the section that shows it.

    Args:
        now: what the page works on.
        kept: the plans.
    """
    settings, lanes = chat.settings(now), tray_lanes("text")
    asked: list[tuple[str, str, LayerPlan]] = [(UNCHANGED, Lane.TEXT_BEFORE, now.identity)]
    asked += [(one.name, lanes[at], one.plan) for at, one in enumerate(kept)]
    columns = [
        Column(name, cached.text_job(now.owner, lane, now.loaded, plan, state.prompt, settings), 0 if at else None)
        for at, (name, lane, plan) in enumerate(asked)
    ]
    section = TextColumns(now.owner, chat.shown(now, state.prompt), columns, "tray-text")
    st.caption("Underlined: from where a text differs from the unchanged model's, to its end.")
    return section
