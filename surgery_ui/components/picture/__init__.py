"""A plan's picture, drawn for a wide and for a narrow page; the page's own width decides which is seen."""

from __future__ import annotations

import math
import re
from pathlib import Path

import streamlit as st

from surgery_core.charts.plan_picture import plan_picture
from surgery_core.plans.plan import LayerPlan

WIDE, NARROW = 780, 340
"""Widths in pixels."""
_HEIGHT = re.compile(r'<svg [^>]*height="([\d.]+)"')
_HERE = Path(__file__).parent
_mount = st.components.v2.component(
    "model_surgery_picture",
    html='<div class="picture"></div>',
    css=(_HERE / "picture.css").read_text(encoding="utf-8"),
    js=(_HERE / "picture.js").read_text(encoding="utf-8"),
)


def show_plan(plan: LayerPlan, *, dark: bool, times: float = 1) -> None:
    """Show which layers run where, before and after; on a wide page so many times as large as usual."""
    widths = (round(WIDE / times), NARROW)
    wide, narrow = (plan_picture(plan, dark=dark, orient="rows", width=width) for width in widths)
    # its room is kept while a browser fetches what draws it, so that nothing below moves
    heights = [float(found[1]) for found in map(_HEIGHT.search, (wide, narrow)) if found]
    tallest = max(heights[0] * times, *heights[1:])
    _mount(key="plan-picture", data={"wide": wide, "narrow": narrow, "times": times}, height=math.ceil(tallest))
