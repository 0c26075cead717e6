"""A place of the page that is brought into view when something begins there."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent
_mount = st.components.v2.component(
    "model_surgery_arrival",
    html='<div class="arrival" aria-hidden="true"></div>',
    js=(_HERE / "arrival.js").read_text(encoding="utf-8"),
)


def arrival(key: str, count: int) -> None:
    """Mark a place; each time that `count` has grown since the page was opened, the browser scrolls there.

    Args:
        key: of the place.
        count: how often something has begun there.
    """
    _mount(key=key, data={"place": key, "count": count})
