"""What someone sees who has changed nothing yet: what a layer is, and six changes that are worth one click."""

from __future__ import annotations

import streamlit as st

from surgery_core.charts.plan_strip import plan_strip
from surgery_core.plans.presets import all_presets, preset
from surgery_ui.components.pictured import Choice, pictured_buttons
from surgery_ui.parts.chart_specs import dark
from surgery_ui.session import session

SHOWN = 6
"""Presets that have a button here; the sidebar has all of them."""
SHORT = {
    "drop-one": "Drop a layer",
    "drop-last-quarter": "Drop a quarter",
    "reverse-middle": "Reverse the middle",
    "swap-neighbours": "Swap two",
    "repeat-middle": "Repeat the middle",
    "shuffle-middle": "Shuffle the middle",
}
"""Titles that fit a small button, by the preset's key."""


def first_steps(now: session.Experiment) -> None:
    """Say what a layer is, and show presets as buttons with a small picture each; nothing for a model of one layer."""
    n_layers = now.plan.n_layers
    if n_layers < 2:
        return
    st.markdown(
        f"A layer reads what those before it made of the text, and adds what it has to say; this model has {n_layers}, one "
        "after the other. **What if one were missing, or ran twice?** Drag a layer in the sidebar, or try:"
    )
    choices = [
        Choice(
            one.key, SHORT.get(one.key, one.title), one.help,
            plan_strip(one.apply(n_layers), dark=dark(), width=126),
        )
        for one in all_presets()[:SHOWN]
    ]  # fmt: skip
    pictured_buttons(choices, "first-steps", _apply)


def _apply(key: str) -> None:
    session.change("strip", lambda plan: preset(key).apply(plan.n_layers))
