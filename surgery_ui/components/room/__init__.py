"""How wide the page is: measured by the browser, so that a map takes the width that is there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import streamlit as st

from surgery_ui.session import session
from surgery_ui.session.state import state

KEY = "room"
LEAST, MOST = 280, 4_000
"""Widths in pixels that are believed."""
_HERE = Path(__file__).parent
_mount = st.components.v2.component(
    "model_surgery_room",
    html='<div class="room"></div>',
    js=(_HERE / "room.js").read_text(encoding="utf-8"),
)


def page_width(otherwise: int, step: int) -> int:
    """Return the width in pixels of what stands here, rounded down to steps; `otherwise` before it is known.

    The browser tells a new width only where it lies in another step, so that a resize does not redraw all the time.
    """
    _mount(key=KEY, data={"step": step}, on_width_change=_take, default={"width": None})
    return otherwise if state.page_width is None else state.page_width


def read_width(value: Any) -> int | None:
    """Return a width that a browser sent, or None where it is no width."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return round(value) if LEAST <= value <= MOST else None


def _take() -> None:
    session.touch()
    width = read_width(st.session_state[KEY]["width"])
    if width is not None:
        state.page_width = width
