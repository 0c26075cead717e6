"""A plan's picture, drawn for a wide and for a narrow page; the page's own width decides which is seen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from surgery_core.charts.plan_picture import plan_picture
from surgery_core.plans.plan import LayerPlan

WIDE, NARROW = 780, 340
"""Widths in pixels."""
_HERE = Path(__file__).parent
_mount = st.components.v2.component(
    "model_surgery_picture",
    html='<div class="picture"></div>',
    css=(_HERE / "picture.css").read_text(encoding="utf-8"),
    js=(_HERE / "picture.js").read_text(encoding="utf-8"),
)


def show_plan(plan: LayerPlan, *, dark: bool) -> None:
    """Show which layers run where, before and after."""
    drawn = [plan_picture(plan, dark=dark, orient="rows", width=width) for width in (WIDE, NARROW)]
    _mount(key="plan-picture", data={"wide": drawn[0], "narrow": drawn[1]})
